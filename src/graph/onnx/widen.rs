//! Inputs of narrow element types take a wide one: engines are fed floats of 32 bits and integers of 64.

use std::collections::HashSet;

use super::cut::{Names, rename};
use super::make;
use super::proto::{DataType, ModelProto};

/// Lets inputs of 32-bit integers and truth values take 64-bit integers, and those of other floats 32-bit floats; a
/// `Cast` gives the network what it took.
pub fn widen_inputs(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    let mut names = Names::of(graph);
    // Older files list every initialiser among the inputs too.
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let narrow: Vec<(String, DataType)> = graph
        .input
        .iter_mut()
        .filter(|input| !constants.contains(input.name.as_str()))
        .filter_map(|input| {
            let name = input.name.clone();
            let tensor = input.tensor_mut()?;
            let element = tensor.elem_type();
            let wide = match element {
                DataType::Int32 | DataType::Bool => DataType::Int64,
                DataType::Float16 | DataType::Bfloat16 | DataType::Double => DataType::Float,
                _ => return None,
            };
            tensor.elem_type = wide.into();
            Some((name, element))
        })
        .collect();
    for (name, element) in narrow {
        let inner = names.fresh(&format!("{name}/narrow"));
        rename(graph, &name, &inner);
        let cast = make::node("Cast", &[&name], &[&inner], vec![make::int("to", i64::from(element as i32))]);
        graph.node.insert(0, cast);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::onnx::make::Size;
    use crate::graph::onnx::testing::Builder;

    #[test]
    fn a_narrow_input_is_cast_inside() {
        let mut b = Builder::new("narrow", 17, 0);
        let ids = b.input_of("ids", DataType::Int32, vec![Size::from("n"), "t".into()]);
        let words = b.weight("words", &[8, 4], 0.0, 1.0);
        let hidden = b.op("Gather", &[&words, &ids], Vec::new());
        b.output(&hidden, "hidden", vec![Size::from("n"), "t".into(), 4.into()]);
        let mut model = b.finish();
        widen_inputs(&mut model);
        let graph = model.graph.as_ref().unwrap();
        assert_eq!(graph.input[0].tensor().unwrap().elem_type(), DataType::Int64);
        assert_eq!(graph.node[0].op_type, "Cast");
        assert_eq!(graph.node[0].input, ["ids"]);
        assert_eq!(graph.node[1].input[1], graph.node[0].output[0]);
        let once = model.clone();
        widen_inputs(&mut model);
        assert_eq!(model, once);
    }
}
