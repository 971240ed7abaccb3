//! From a part of an ONNX file to a [`Graph`](super::Graph) that can be trained.
//!
//! A [`Tail`] is what lies between a cut inside a model and its outputs: all nodes that depend on the tensor
//! (or block) from which on the model is trained. Its *frontier* are the tensors that cross the cut: that
//! tensor, and whatever else the nodes above read that is computed below from the sample with weights, such
//! as skip connections. They are stored and become the graph's inputs. Sizes and what depends on them alone
//! is computed when the graph is built, not stored.
//!
//! - Initialisers of more than one number that the tail computes with become parameters under their own names
//!   behind `backbone.`; single numbers, shapes and values of `Constant` nodes stay constants. A parameter
//!   may have its dimensions in another order than the initialiser, or merged, where the operator here
//!   wants them so.
//! - BatchNorm's mean and variance become buffers that follow the batches of training, as in PyTorch. Where
//!   the exporter folded a BatchNorm into the convolution before it, the folded weight and bias are trained:
//!   the network computes the same function, without the statistics of a batch, as if the BatchNorm
//!   had been frozen. That suits fine-tuning with small batches; to train from the beginning, keep the BatchNorm.
//! - LayerNorm, GELU, SiLU, hard swish and attention written out in elementary operators become one operator
//!   each (`fuse`), so that few operators need a backward and their memory stays small.
//! - Ids that networks of texts look up become inputs of the table's operator, and masks cross the cut (`texts`).
//! - Transposes cost nothing until an operator needs its input in memory order (`value`).
//!
//! Nodes in the order of the file become operators in `node`; `constant` computes what depends on no input.

mod constant;
mod dense;
mod elementwise;
mod frontier;
mod fuse;
mod layout;
mod node;
mod texts;
mod value;

pub use frontier::Tail;
pub use texts::{MASK, Texts};

use crate::graph::Init;

/// What parameters are before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The file's values.
    Pretrained,
    /// Drawn anew: weights of convolutions and matrices normal with variance 2 / fan-in (He et al., 2015),
    /// scales 1, biases 0, statistics those of the standard normal distribution.
    Drawn,
}

impl Start {
    fn init(self, values: Vec<f32>, drawn: Init) -> Init {
        match self {
            Self::Pretrained => Init::Values(values),
            Self::Drawn => drawn,
        }
    }
}

#[cfg(test)]
mod operators;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
