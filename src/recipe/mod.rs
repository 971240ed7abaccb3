//! Rank 3: the recipe: types, layered loading, schema, problem location.
