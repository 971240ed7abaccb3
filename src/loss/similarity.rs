//! What losses that compare the rows of a batch with each other share.

use crate::graph::{Matrix, Real, gemm};

/// All inner products of rows, and the way back: room that is kept from step to step.
#[derive(Default)]
pub(super) struct Similarity<F> {
    /// `[rows, others]`: inner products, to be replaced by the loss's gradient of them.
    pub products: Vec<F>,
}

impl<F: Real> Similarity<F> {
    /// The inner products of `a` `[rows, width]` with `b` `[others, width]`, times a factor.
    pub fn forward(&mut self, a: &[F], b: &[F], width: usize, factor: f64) {
        let (rows, others) = (a.len() / width, b.len() / width);
        self.products.resize(rows * others, F::ZERO);
        gemm(&mut self.products, Matrix::new(a, rows, width), Matrix::new(b, others, width).t(), false);
        let factor = F::of(factor);
        self.products.iter_mut().for_each(|x| *x *= factor);
    }

    /// Adds to the gradients of `a` and `b` what the gradient in `products` makes of them. It must already hold
    /// the factor.
    pub fn backward(&self, a: &[F], b: &[F], width: usize, da: &mut [F], db: Option<&mut [F]>) {
        let (rows, others) = (a.len() / width, b.len() / width);
        let products = Matrix::new(&self.products, rows, others);
        gemm(da, products, Matrix::new(b, others, width), true);
        if let Some(db) = db {
            gemm(db, products.t(), Matrix::new(a, rows, width), true);
        } else {
            gemm(da, products.t(), Matrix::new(a, rows, width), true);
        }
    }
}
