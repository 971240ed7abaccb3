//! Engines whose output for a sample depends on its batch: which node does it, and running them one sample at a time.

use std::path::Path;

use super::precision::with_outputs;
use super::runtime::Prepared;
use super::verify::{Probe, same_bits};
use super::{Engine, InputTensor, OnnxRuntime, Port, run_on};
use crate::base::Result;
use crate::graph::onnx::proto::{DataType, ModelProto, NodeProto};
use crate::graph::onnx::{self, describe, shape};
use crate::sample::Tensor;

/// An engine that is given one sample at a time, whatever it is asked for.
pub struct OneByOne<'a>(pub Box<dyn Engine + 'a>);

impl Engine for OneByOne<'_> {
    fn inputs(&self) -> &[Port] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.0.outputs()
    }

    fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
        let batch = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(0);
        let whole = |input: &InputTensor<'_>| input.shape().first() == Some(&batch) && input.is_whole();
        if batch < 2 || !inputs.iter().all(whole) {
            return self.0.run(inputs, outputs);
        }
        outputs.iter_mut().for_each(Vec::clear);
        let mut one = vec![Vec::new(); outputs.len()];
        for at in 0..batch {
            let rows = at..at + 1;
            let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape_of(&rows)).collect();
            let alone: Vec<InputTensor<'_>> =
                inputs.iter().zip(&shapes).map(|(input, shape)| input.rows(&rows, shape)).collect();
            self.0.run(&alone, &mut one)?;
            outputs.iter_mut().zip(&one).for_each(|(all, row)| all.extend_from_slice(row));
        }
        Ok(())
    }

    fn row_shapes(&mut self, inputs: &[InputTensor<'_>]) -> Result<Option<Vec<Vec<usize>>>> {
        self.0.row_shapes(inputs)
    }

    fn parts(&mut self) -> Vec<Box<dyn Engine + '_>> {
        self.0.parts().into_iter().map(|part| Box::new(OneByOne(part)) as Box<dyn Engine + '_>).collect()
    }
}

/// Operators that take a scale from all samples of a batch together.
fn mixes(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM")
}

/// Tensors that are compared in one pass hold at most this many bytes for a sample, unless one alone is larger.
const GROUP_BYTES: usize = 64 << 20;

/// The node, in words, at which a sample's values begin to depend on its batch: one that is known to do so, else
/// the first whose output is found to differ between a sample alone and beside another, run tensor by tensor. `None`
/// where no tensor differs once they are all looked at, for then it is how the provider fuses the nodes. `probe` makes
/// samples, whose first input has rows of the shape `row`.
///
/// # Errors
/// Those of reading and running the model.
pub fn culprit(
    model: &Path,
    prepared: &Prepared,
    (row, probe): (&[usize], Probe<'_>),
    scratch: &Path,
) -> Result<Option<String>> {
    let model = onnx::read(model)?;
    let nodes = || model.graph.iter().flat_map(|graph| &graph.node);
    if let Some(node) = nodes().find(|node| mixes(node)) {
        return Ok(Some(describe(node)));
    }
    let facts = onnx::inspect::facts(&model, Some(row))?;
    let size = |name: &String| -> Option<usize> {
        let fact = facts.get(name).filter(|fact| fact.element == DataType::Float)?;
        fact.dims.as_ref()?.first().filter(|first| first.is_batch())?;
        let shape: Option<Vec<usize>> = shape::Fact::row_shape(fact)?.into_iter().collect();
        Some(4 * shape?.iter().product::<usize>())
    };
    let mut group: Vec<(&NodeProto, String)> = Vec::new();
    let mut sum = 0;
    for node in nodes() {
        let Some((output, bytes)) = node.output.first().and_then(|name| Some((name.clone(), size(name)?))) else {
            continue;
        };
        if sum + bytes > GROUP_BYTES && !group.is_empty() {
            if let Some(found) = first_that_differs(&model, &group, prepared, probe, scratch)? {
                return Ok(Some(found));
            }
            group.clear();
            sum = 0;
        }
        group.push((node, output));
        sum += bytes;
    }
    if group.is_empty() { Ok(None) } else { first_that_differs(&model, &group, prepared, probe, scratch) }
}

fn first_that_differs(
    model: &ModelProto,
    group: &[(&NodeProto, String)],
    prepared: &Prepared,
    probe: Probe<'_>,
    scratch: &Path,
) -> Result<Option<String>> {
    let tensors: Vec<String> = group.iter().map(|(_, tensor)| tensor.clone()).collect();
    let path = scratch.join("inner.onnx");
    onnx::write(&with_outputs(model, &tensors), &path)?;
    let mut engine = OnnxRuntime::trial(prepared, &path, 1)?;
    let pairs = probe(0).into_iter().zip(probe(100));
    let pairs: Option<Vec<Tensor>> = pairs.map(|(sample, mate)| Tensor::join(&[&sample, &mate])).collect();
    let mut outputs = |inputs: &[Tensor]| -> Result<Vec<Vec<f32>>> {
        let mut outputs = vec![Vec::new(); tensors.len()];
        run_on(&mut engine, inputs, &mut outputs)?;
        Ok(outputs)
    };
    let (alone, both) = (outputs(&probe(0))?, outputs(&pairs.unwrap_or_default())?);
    let differs = alone.iter().zip(&both).position(|(alone, both)| !same_bits(alone, both, 0));
    Ok(differs.map(|at| describe(group[at].0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives how many samples it was given, once for each.
    struct Count(Vec<Port>);

    impl Engine for Count {
        fn inputs(&self) -> &[Port] {
            &self.0
        }

        fn outputs(&self) -> &[Port] {
            &self.0
        }

        fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
            let count = inputs[0].shape()[0];
            outputs[0] = vec![count as f32; count];
            Ok(())
        }
    }

    #[test]
    fn one_by_one_every_sample_is_alone() {
        let mut engine = OneByOne(Box::new(Count(vec![Port { name: "x".into(), row_shape: vec![Some(2)] }])));
        let mut outputs = vec![Vec::new()];
        let data = [0.0; 6];
        engine.run(&[InputTensor::F32 { shape: &[3, 2], data: &data }], &mut outputs).unwrap();
        assert_eq!(outputs[0], [1.0; 3]);
    }
}
