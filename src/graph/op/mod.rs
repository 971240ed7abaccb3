//! Operators, one file each: shape inference, forward, backward, and the ONNX form.
//!
//! A new operator is a file with a struct that implements [`Operator`] and [`Kernel`], and a line in the
//! list below.

use super::execution::{Backward, Forward};
use super::{Real, Shape, Tensor};
use crate::base::Result;

mod activation;
mod argmax;
mod attention;
mod batch_norm;
mod binary;
#[cfg(test)]
pub(crate) mod check;
mod concat;
mod conv;
mod conv_transpose;
mod dropout;
mod embedding;
mod flatten;
mod gather;
mod gelu;
mod gem;
mod gemm;
mod l2_norm;
mod layer_norm;
mod masked_mean;
mod matmul;
mod neighbours;
mod normalize;
mod pad;
mod pool;
mod reduce;
mod relu;
mod repeat;
mod reshape;
mod resize;
mod slice;
mod softmax;
mod strided;
mod token;
mod transpose;
mod window;

pub use activation::Activation;
pub use argmax::ArgMax;
pub use attention::Attention;
pub use batch_norm::BatchNorm;
pub use binary::{Binary, BinaryKind};
pub use concat::Concat;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use flatten::Flatten;
pub use gather::Gather;
pub use gelu::Gelu;
pub use gem::Gem;
pub use gemm::Gemm;
pub use l2_norm::L2Norm;
pub use layer_norm::LayerNorm;
pub use masked_mean::MaskedMean;
pub use matmul::MatMul;
pub use neighbours::{NeighbourWeights, Neighbours, nearest};
pub use normalize::Normalize;
pub use pad::Pad;
pub use pool::{Pool, PoolKind};
pub use reduce::{Reduce, ReduceKind};
pub use relu::Relu;
pub use repeat::Repeat;
pub use reshape::Reshape;
pub use resize::{Coordinates, Resize, ResizeMode};
pub use slice::Slice;
pub use softmax::{LANES, Lanes, Softmax};
pub use token::Token;
pub use transpose::Transpose;
pub use window::Window;

/// What an operator is: the shape it computes and how ONNX says it.
pub trait Operator {
    /// The shape of the output.
    ///
    /// # Errors
    /// The operator cannot take these inputs.
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape>;

    /// The ONNX nodes (opset 17) that compute the same in evaluation mode; the last one's output is the
    /// operator's.
    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode>;

    /// Whether the output is the first input's elements, unmoved, under another shape. Such nodes are not
    /// run: both values share one buffer.
    fn is_view(&self) -> bool {
        false
    }
}

/// How an operator computes, in f32 and f64.
pub trait Kernel<F: Real>: Sync {
    /// Elements that forward keeps for backward, besides inputs and output.
    fn saved_len(&self, _inputs: &[&Shape], _rows: usize) -> usize {
        0
    }

    /// Elements of room that forward and backward want for themselves; what is there does not last.
    fn scratch_len(&self, _inputs: &[&Shape], _rows: usize) -> usize {
        0
    }

    /// The inputs, by number, that are buffers which follow the batches of training.
    fn tracked(&self) -> &'static [usize] {
        &[]
    }

    /// After a forward pass in training: moves a tracked buffer by what the pass kept.
    fn track(&self, _input: usize, _saved: &[F], _buffer: &mut [F]) {}

    /// Computes the output from the inputs.
    fn forward(&self, run: &mut Forward<'_, F>);

    /// Adds to the gradients of the inputs what the output's gradient makes of them.
    fn backward(&self, run: &mut Backward<'_, F>);
}

/// A node of an operator's ONNX form.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxNode {
    /// The ONNX operator.
    pub op_type: &'static str,
    /// What it reads.
    pub inputs: Vec<OnnxInput>,
    /// Its attributes.
    pub attributes: Vec<(&'static str, OnnxAttribute)>,
    /// How many outputs it has before the one that is meant.
    pub skipped_outputs: usize,
}

impl OnnxNode {
    pub(crate) fn new(op_type: &'static str, inputs: impl Into<Vec<OnnxInput>>) -> Self {
        Self { op_type, inputs: inputs.into(), attributes: Vec::new(), skipped_outputs: 0 }
    }

    /// Means the second output, such as the indices of `TopK`.
    pub(crate) fn second_output(mut self) -> Self {
        self.skipped_outputs = 1;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: OnnxAttribute) -> Self {
        self.attributes.push((name, value));
        self
    }
}

/// What a node of an operator's ONNX form reads.
#[derive(Debug, Clone, PartialEq)]
pub enum OnnxInput {
    /// The operator's input of this number.
    Input(usize),
    /// The output of this node of the same form.
    Node(usize),
    /// A constant of f32.
    Tensor(Tensor),
    /// A constant of int64, such as a shape.
    Ints(Vec<i64>),
}

/// An attribute of an ONNX node.
#[derive(Debug, Clone, PartialEq)]
pub enum OnnxAttribute {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// Text.
    Text(String),
}

macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Every operator.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $name($name),)*
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Self {
                Self::$name(op)
            }
        })*

        impl Op {
            fn operator(&self) -> &dyn Operator {
                match self {
                    $(Self::$name(op) => op,)*
                }
            }

            /// How it computes.
            pub fn kernel<F: Real>(&self) -> &dyn Kernel<F> {
                match self {
                    $(Self::$name(op) => op,)*
                }
            }
        }
    };
}

operators! {
    /// The place of the largest.
    ArgMax,
    /// Transposed convolution.
    ConvTranspose,
    /// A frame around a value.
    Pad,
    /// Maps of another size.
    Resize,
    /// Rows of a table by number.
    Embedding,
    /// Chosen places of a value.
    Gather,
    /// Scaled dot-product attention.
    Attention,
    /// Products of matrices, one per sample or group.
    MatMul,
    /// Dimensions in another order.
    Transpose,
    /// A part of a value.
    Slice,
    /// The same elements under another shape.
    Reshape,
    /// Pooling over windows of maps.
    Pool,
    /// Batch normalisation.
    BatchNorm,
    /// A function of each element.
    Activation,
    /// Element-wise arithmetic of two values.
    Binary,
    /// Joins values along their last dimension.
    Concat,
    /// Convolution.
    Conv,
    /// Drops elements at random in training.
    Dropout,
    /// Makes each row one-dimensional.
    Flatten,
    /// The Gaussian error linear unit.
    Gelu,
    /// Generalised-mean pooling.
    Gem,
    /// A fully connected layer.
    Gemm,
    /// Vectors of length one.
    L2Norm,
    /// Layer normalisation.
    LayerNorm,
    /// A vote of the nearest of stored rows.
    Neighbours,
    /// The mean over the tokens of a mask.
    MaskedMean,
    /// Subtracts and scales by two vectors.
    Normalize,
    /// The mean or the largest along dimensions.
    Reduce,
    /// The positive part.
    Relu,
    /// The same for every sample.
    Repeat,
    /// Probabilities from logits.
    Softmax,
    /// One token of many.
    Token,
}

impl Op {
    /// The shape of the output.
    ///
    /// # Errors
    /// The operator cannot take these inputs.
    pub fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        self.operator().infer(inputs)
    }

    /// The ONNX form; see [`Operator::onnx`].
    pub fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        self.operator().onnx(inputs)
    }

    /// See [`Operator::is_view`].
    pub fn is_view(&self) -> bool {
        self.operator().is_view()
    }
}

/// Refuses another number of inputs.
pub(crate) fn arity<'a, const N: usize>(operator: &str, inputs: &[&'a Shape]) -> Result<[&'a Shape; N]> {
    inputs.try_into().map_err(|_| Shape::refuse(operator, &format!("it takes {N} inputs"), inputs))
}
