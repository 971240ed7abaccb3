//! The graph of rows whose fields belong together: each field through a neck and a projection to its embedding.

use super::InputSpec;
use crate::base::{Error, Result};
use crate::graph::op::Concat;
use crate::graph::{Graph, ValueId};
use crate::head::{HeadConfig, Projections};
use crate::neck::NeckChain;

/// Builds neck and head for each of the `fields` over its inputs, called `FIELD.OUTPUT`, into one graph with one output
/// `[batch, fields × dim]`: their embeddings one after the other. Fields share their weights as the head says; those
/// behind the second, which are negatives of what is looked for, share the second's in any case. With `only` the graph
/// is that of one field, over its inputs: its weights have the same names.
///
/// # Errors
/// A field has no input; the head gives no embedding; fields of different sizes share weights; those of
/// [`build_graph`](super::build_graph).
pub fn build_graph_of_pairs(
    neck: &NeckChain,
    head: &HeadConfig,
    inputs: &[InputSpec],
    fields: &[String],
    only: Option<&str>,
) -> Result<Graph> {
    let HeadConfig::Embedding(embedding) = head else {
        return Err(Error::bad_input("rows that are pairs need the head `embedding`"));
    };
    let mut graph = Graph::new();
    let mut of_field: Vec<(Vec<ValueId>, Vec<String>)> = vec![Default::default(); fields.len()];
    for input in inputs {
        let id = graph.input(&input.name, &input.shape)?;
        let own = |field: &String| input.name.strip_prefix(field.as_str())?.strip_prefix('.');
        let found = fields.iter().enumerate().find_map(|(place, field)| Some((place, own(field)?)));
        let (place, name) = found.ok_or_else(|| {
            Error::bad_input(format!("`{}` is of none of the fields that belong together", input.name))
        })?;
        of_field[place].0.push(id);
        of_field[place].1.push(name.to_string());
    }
    let mut embeddings = Vec::with_capacity(fields.len());
    let all = fields.iter().zip(of_field).enumerate();
    for (place, (field, (ids, names))) in all.filter(|(_, (field, _))| only.is_none_or(|only| only == field.as_str())) {
        if ids.is_empty() {
            return Err(Error::bad_input(format!("the field `{field}` has no features")));
        }
        let weights = match embedding.projections {
            Projections::Shared => "",
            Projections::Auto | Projections::Own => &fields[place.min(1)],
        };
        embeddings.push(graph.part(field, weights, |graph| {
            let features = neck.build_named(graph, &ids, &names)?;
            head.build(graph, features, embedding.dim as usize, 0)
        })?);
    }
    let all = match embeddings[..] {
        [one] => one,
        _ => graph.node("pairs", Concat { axis: 0 }, &embeddings)?,
    };
    graph.output("logits", all);
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::{Execution, Pass};
    use serde_json::json;

    fn graph(projections: &str, widths: &[usize]) -> Result<Graph> {
        let fields: Vec<String> = ["query", "answer", "wrong"].map(String::from)[..widths.len()].to_vec();
        let input = |(name, width): (&String, &usize)| InputSpec { name: format!("{name}.mean"), shape: vec![*width] };
        let inputs: Vec<InputSpec> = fields.iter().zip(widths).map(input).collect();
        let head = json!({"kind": "embedding", "dim": 2, "projections": projections});
        let neck: NeckChain = serde_json::from_value(json!({"kind": "standardize"})).unwrap();
        build_graph_of_pairs(&neck, &serde_json::from_value(head).unwrap(), &inputs, &fields, None)
    }

    fn parameters(graph: &Graph) -> Vec<String> {
        graph.parameters().map(|id| graph.values()[id.index()].name.clone()).collect()
    }

    #[test]
    fn fields_share_weights_as_the_head_says() {
        let shared = graph("shared", &[3, 3, 3]).unwrap();
        assert_eq!(parameters(&shared), ["head.0.weight", "head.0.bias"]);
        assert_eq!(shared.fits().len(), 1);
        let own = graph("own", &[3, 4, 4]).unwrap();
        let names = ["head.query.0.weight", "head.query.0.bias", "head.answer.0.weight", "head.answer.0.bias"];
        assert_eq!(parameters(&own), names);
        assert_eq!(own.shape(own.outputs()[0].1).to_string(), "[batch, 6]");
        assert!(graph("shared", &[3, 4]).unwrap_err().to_string().contains("is shared"));
        assert!(graph("own", &[3, 4, 3]).is_err());
        // The same sample gives the same embedding in each field.
        let weights = shared.initial_weights(1);
        let mut run: Execution<f32> = Execution::new(&shared, &weights, 1, false).unwrap();
        for id in shared.inputs() {
            run.value_mut(*id).copy_from_slice(&[0.5, -2.0, 1.0]);
        }
        run.forward(1, Pass::EVALUATION);
        let out = run.value(shared.outputs()[0].1);
        assert_eq!((&out[..2], &out[2..4]), (&out[2..4], &out[4..]));
        assert!((out[0].hypot(out[1]) - 1.0).abs() < 1e-6);
    }
}
