//! One dimension per row.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;

/// Rows of any shape become rows of one dimension: `[batch, a, b]` → `[batch, a·b]`. ONNX `Flatten`.
#[derive(Debug, Clone, PartialEq)]
pub struct Flatten;

impl Operator for Flatten {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Flatten", inputs)?;
        if !x.batched {
            return Err(Shape::refuse("Flatten", "it has no batch dimension", inputs));
        }
        Ok(Shape::rows([x.elements()]))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![OnnxNode::new("Flatten", [OnnxInput::Input(0)]).with("axis", OnnxAttribute::Int(1))]
    }

    fn is_view(&self) -> bool {
        true
    }
}

impl<F: Real> Kernel<F> for Flatten {
    fn forward(&self, _: &mut Forward<'_, F>) {}

    fn backward(&self, _: &mut Backward<'_, F>) {}
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Flatten).rows(&[2, 3]).run();
    }
}
