//! How much a node computes.

use super::dim::Dim;
use super::{Facts, Known};
use crate::graph::onnx::proto::NodeProto;

/// Floating-point operations of a node for one sample: two for each multiplication and addition of a
/// convolution or matrix product. What other operators do is small beside them and counts as nothing, as in
/// the usual tables. `None` where the sizes are not known.
pub fn flops(facts: &Facts, node: &NodeProto) -> Option<u64> {
    if !node.is_standard() {
        return Some(0);
    }
    let known = Known::new(facts, node, 0);
    let out = || facts.get(node.output.first()?)?.dims.as_deref();
    let count = |dims: &[Dim]| -> Option<u64> {
        dims.iter().try_fold(1u64, |all, dim| all.checked_mul(u64::try_from(dim.at(1)?).ok()?))
    };
    match node.op_type.as_str() {
        // Every output value takes one product with each weight of its filter.
        "Conv" | "ConvInteger" => count(out()?)?.checked_mul(2 * count(known.dims(1)?.get(1..)?)?),
        "QLinearConv" => count(out()?)?.checked_mul(2 * count(known.dims(3)?.get(1..)?)?),
        "ConvTranspose" => count(known.dims(0)?)?.checked_mul(2 * count(known.dims(1)?.get(1..)?)?),
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
            let inner = known.dims(0)?.last()?.at(1)?;
            count(out()?)?.checked_mul(2 * u64::try_from(inner).ok()?)
        }
        "Gemm" => {
            let axis = usize::from(node.int_or("transA", 0) == 0);
            let inner = known.dims(0)?.get(axis)?.at(1)?;
            count(out()?)?.checked_mul(2 * u64::try_from(inner).ok()?)
        }
        _ => Some(0),
    }
}
