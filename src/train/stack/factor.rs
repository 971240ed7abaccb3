//! What the common layer of many heads reads, laid out once for the products of all of them.

use crate::graph::bf16::{self, Left, Right};
use crate::graph::panels::{self, Panels, Start};
use crate::graph::{Arithmetic, Matrix};

/// The right factor of products.
enum Factor {
    Fp32(Panels),
    Bf16(Right),
}

/// Room for left factors that products in bf16 round.
pub(super) type Room = Left;

/// Where a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On the thread that asks for it, while others have their own.
    Here,
    /// On all threads.
    Everywhere,
}

impl Factor {
    fn empty(arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::Fp32 => Self::Fp32(Panels::default()),
            Arithmetic::Bf16 => Self::Bf16(Right::default()),
        }
    }

    fn is_of(&self, arithmetic: Arithmetic) -> bool {
        matches!((self, arithmetic), (Self::Fp32(_), Arithmetic::Fp32) | (Self::Bf16(_), Arithmetic::Bf16))
    }

    fn pack(&mut self, matrix: Matrix<'_, f32>) {
        match self {
            Self::Fp32(panels) => panels.pack(matrix),
            Self::Bf16(right) => right.pack(matrix),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Fp32(panels) => panels.bytes(),
            Self::Bf16(right) => right.bytes(),
        }
    }

    /// `start + a · factor`, `[rows, columns]`, with `a` of shape `[rows, depth]`.
    fn product(&self, out: &mut [f32], a: &[f32], start: Start<'_>, (place, room): (Place, &mut Room)) {
        match (self, place) {
            (Self::Fp32(panels), Place::Here) => panels::product_alone(out, a, panels, start),
            (Self::Fp32(panels), Place::Everywhere) => panels::product(out, a, panels, start),
            (Self::Bf16(right), _) => {
                if let Start::Rows(values) = start {
                    let rows = out.chunks_exact_mut(right.columns().max(1));
                    rows.zip(values).for_each(|(row, value)| row.fill(*value));
                }
                let accumulate = !matches!(start, Start::Zero);
                room.pack(Matrix::new(a, out.len() / right.columns().max(1), right.depth()));
                match place {
                    Place::Here => bf16::product_alone(out, room, right, accumulate),
                    Place::Everywhere => bf16::product(out, room, right, accumulate),
                }
            }
        }
    }
}

/// Features `[rows, width]` of a batch, as factors.
pub(super) struct Factors {
    /// Transposed: what a layer gives is `weights · factor`, `[outputs, rows]`.
    forward: Factor,
    /// As they are: the gradient of the weights is `slopes · factor`. Empty where nothing is trained.
    backward: Factor,
}

impl Factors {
    /// Lays features out; the room of others is used again.
    pub fn of(features: Matrix<'_, f32>, arithmetic: Arithmetic, training: bool, room: Option<Self>) -> Self {
        let room = room.filter(|room| room.forward.is_of(arithmetic));
        let empty = || Self { forward: Factor::empty(arithmetic), backward: Factor::empty(arithmetic) };
        let mut factors = room.unwrap_or_else(empty);
        factors.forward.pack(features.t());
        if training {
            factors.backward.pack(features);
        }
        factors
    }

    /// What a layer of weights `[outputs, width]` gives, `[outputs, rows]`, with the bias if it has one.
    pub fn layer(&self, given: &mut [f32], weights: &[f32], bias: Option<&[f32]>, place: (Place, &mut Room)) {
        self.forward.product(given, weights, bias.map_or(Start::Zero, Start::Rows), place);
    }

    /// The gradient of weights, `[outputs, width]`, from that of what the layer gave, `[outputs, rows]`.
    pub fn gradient(&self, gradient: &mut [f32], slopes: &[f32], place: (Place, &mut Room)) {
        self.backward.product(gradient, slopes, Start::Zero, place);
    }

    pub fn bytes(&self) -> usize {
        self.forward.bytes() + self.backward.bytes()
    }
}
