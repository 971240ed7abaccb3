//! Rank 2: necks, between the cut and the head.
