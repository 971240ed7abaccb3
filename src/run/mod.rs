//! Rank 9: the interpreter: a plan becomes stages.
