//! Writing a model: field by field, so that no second copy of the weights is made.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;

use super::proto::{DataLocation, GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use super::read::LARGEST_FILE;
use crate::base::file::write_atomic;
use crate::base::{Error, Result};

/// Constants below this stay in the model's own file.
const SMALLEST_OUTSIDE: usize = 1024;
/// Values beside the model begin at multiples of this, so that a runtime can map them.
const ALIGNMENT: u64 = 4096;

/// Writes a model. Past the limit of a protobuf message, the larger initialisers go to
/// `<file name>.data` beside it. The file appears whole or not at all; `.data` appears first.
///
/// # Errors
/// Those of the file system; constants inside nodes that alone pass the limit.
pub fn write(model: &ModelProto, path: &Path) -> Result<()> {
    write_split(model, path, LARGEST_FILE)
}

/// Like [`write()`], with another limit to the bytes of the model's own file.
///
/// # Errors
/// Those of [`write()`].
pub fn write_split(model: &ModelProto, path: &Path, limit: u64) -> Result<()> {
    if model.encoded_len() as u64 <= limit {
        return write_atomic(path, |file| encode_model(model, file));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let data_name = format!("{name}.data");
    let mut shell = model.clone();
    write_atomic(&path.with_file_name(&data_name), |file| {
        let mut at = 0;
        for tensor in shell.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            move_outside(tensor, &data_name, &mut at, file)?;
        }
        Ok(())
    })?;
    let size = shell.encoded_len() as u64;
    if size > LARGEST_FILE.min(limit.max(1 << 20)) {
        return Err(Error::bad_input(format!(
            "the model has {size} bytes besides its initialisers, too many to write"
        )));
    }
    write_atomic(path, |file| encode_model(&shell, file))
}

fn move_outside(tensor: &mut TensorProto, location: &str, at: &mut u64, file: &mut BufWriter<File>) -> io::Result<()> {
    // Texts and the like stay inside.
    let Ok(raw) = tensor.raw() else { return Ok(()) };
    if raw.len() < SMALLEST_OUTSIDE {
        return Ok(());
    }
    let offset = at.next_multiple_of(ALIGNMENT);
    io::copy(&mut io::Read::take(io::repeat(0), offset - *at), file)?;
    file.write_all(&raw)?;
    let length = raw.len() as u64;
    *at = offset + length;
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    *tensor = TensorProto {
        dims: std::mem::take(&mut tensor.dims),
        data_type: tensor.data_type,
        name: std::mem::take(&mut tensor.name),
        doc_string: std::mem::take(&mut tensor.doc_string),
        metadata_props: std::mem::take(&mut tensor.metadata_props),
        external_data: vec![
            entry("location", location.into()),
            entry("offset", offset.to_string()),
            entry("length", length.to_string()),
        ],
        data_location: DataLocation::External.into(),
        ..TensorProto::default()
    };
    Ok(())
}

fn encode_model(model: &ModelProto, file: &mut BufWriter<File>) -> io::Result<()> {
    let without_graph = ModelProto {
        graph: None,
        opset_import: model.opset_import.clone(),
        metadata_props: model.metadata_props.clone(),
        functions: model.functions.clone(),
        producer_name: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        domain: model.domain.clone(),
        doc_string: model.doc_string.clone(),
        training_info: model.training_info.clone(),
        configuration: model.configuration.clone(),
        ..*model
    };
    file.write_all(&without_graph.encode_to_vec())?;
    let Some(graph) = &model.graph else { return Ok(()) };
    begin_message(file, 7, graph.encoded_len())?;
    encode_graph(graph, file)
}

fn encode_graph(graph: &GraphProto, file: &mut BufWriter<File>) -> io::Result<()> {
    for node in &graph.node {
        begin_message(file, 1, node.encoded_len())?;
        file.write_all(&node.encode_to_vec())?;
    }
    for tensor in &graph.initializer {
        begin_message(file, 5, tensor.encoded_len())?;
        encode_tensor(tensor, file)?;
    }
    let rest = GraphProto {
        node: Vec::new(),
        initializer: Vec::new(),
        name: graph.name.clone(),
        sparse_initializer: graph.sparse_initializer.clone(),
        doc_string: graph.doc_string.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        value_info: graph.value_info.clone(),
        quantization_annotation: graph.quantization_annotation.clone(),
        metadata_props: graph.metadata_props.clone(),
    };
    file.write_all(&rest.encode_to_vec())
}

fn encode_tensor(tensor: &TensorProto, file: &mut BufWriter<File>) -> io::Result<()> {
    let Some(raw) = &tensor.raw_data else { return file.write_all(&tensor.encode_to_vec()) };
    // Cheap: the values are shared, not copied, and a tensor with raw data has no others.
    let mut rest = tensor.clone();
    rest.raw_data = None;
    file.write_all(&rest.encode_to_vec())?;
    begin_message(file, 9, raw.len())?;
    file.write_all(raw)
}

/// The key and length of a length-delimited field.
fn begin_message(file: &mut impl Write, field: u8, length: usize) -> io::Result<()> {
    let mut bytes = vec![field << 3 | 2];
    prost::encode_length_delimiter(length, &mut bytes).map_err(io::Error::other)?;
    file.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::super::proto::{NodeProto, OperatorSetIdProto};
    use super::super::read;
    use super::*;

    fn model() -> ModelProto {
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            model_version: Some(3),
            training_info: vec![vec![8, 1].into()],
            graph: Some(GraphProto {
                node: vec![NodeProto {
                    input: vec!["x".into(), String::new(), "w".into()],
                    output: vec!["y".into()],
                    op_type: "Add".into(),
                    ..Default::default()
                }],
                initializer: vec![
                    TensorProto::from_f32("w", &[10, 100], &values),
                    TensorProto::from_i64("s", &[2], &[3, -4]),
                    TensorProto::from_f32("v", &[1000], &values),
                ],
                name: "g".into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        write(&model(), &path).unwrap();
        assert_eq!(read(&path).unwrap(), model());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), model().encoded_len() as u64);
    }

    #[test]
    fn past_the_limit_the_weights_go_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        write_split(&model(), &path, 1000).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 1000);
        assert_eq!(std::fs::metadata(folder.path().join("m.onnx.data")).unwrap().len(), 4096 + 4000);
        assert_eq!(read(&path).unwrap(), model());
    }
}
