//! How much a page shows.

use crate::report::projection::Method;

/// How much a report shows.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// How features are projected.
    pub method: Method,
    /// Rows that are projected at most.
    pub points: usize,
    /// Rows in each gallery at most.
    pub examples: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self { method: Method::default(), points: 300, examples: 24 }
    }
}
