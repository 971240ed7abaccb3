//! How many different tokens a text network knows.

use std::collections::HashSet;

use super::facts;
use crate::base::Result;
use crate::graph::onnx::proto::ModelProto;

/// The rows of the table in which the values of an input are looked up, where there is one; of several the shortest.
///
/// # Errors
/// Those of [`facts`].
pub fn vocabulary(model: &ModelProto, input: &str) -> Result<Option<usize>> {
    let facts = facts(model, None)?;
    let nodes = || model.graph.iter().flat_map(|graph| &graph.node);
    // The values themselves, by whatever names, in whatever order.
    let mut same = HashSet::from([input]);
    let mut least: Option<usize> = None;
    for node in nodes() {
        let takes = |place: usize| node.input.get(place).is_some_and(|name| same.contains(name.as_str()));
        match node.op_type.as_str() {
            "Cast" | "Identity" | "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten" | "Transpose" if takes(0) => {
                same.extend(node.output.iter().map(String::as_str));
            }
            "Gather" if takes(1) => {
                let table = facts.get(&node.input[0]).and_then(|fact| fact.dims.as_ref()?.first()?.known());
                least = least.into_iter().chain(table).min();
            }
            _ => {}
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::onnx::testing::tiny_text;

    #[test]
    fn the_table_that_ids_are_looked_up_in_is_found() {
        let model = tiny_text();
        assert_eq!(vocabulary(&model, "input_ids").unwrap(), Some(32));
        assert_eq!(vocabulary(&model, "token_type_ids").unwrap(), Some(2));
        assert_eq!(vocabulary(&model, "attention_mask").unwrap(), None);
    }
}
