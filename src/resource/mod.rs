//! Rank 1: addresses of files (a path, `hf:`, `https:`, `pip:`) and the fetcher that makes each a local file once.
