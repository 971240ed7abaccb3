//! Embeddings in files of other programs: one row of numbers per sample, with its name and, where known, its label.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result, file};
use crate::cache::npy_header;

/// Rows of numbers with their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embeddings {
    /// Numbers of a row.
    pub width: usize,
    /// `[rows, width]`.
    pub values: Vec<f32>,
    /// What belongs to the rows.
    pub names: Names,
}

/// What belongs to the rows of [`Embeddings`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The file, text or origin of every row.
    pub ids: Vec<String>,
    /// The label of every row; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The run that made them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Where in the network they are taken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layer: String,
    /// The only field that they are of, where each has a backbone of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// A format, by the ending of the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// NumPy: the values, and beside them `NAME.names.json`.
    Npy,
    /// Columns `id`, `label` and `embedding`, a list of floats.
    Parquet,
    /// `embeddings`, with the names as JSON in the metadata.
    Safetensors,
}

/// More rows than this are not read from a file.
const MOST_NUMBERS: usize = 1 << 33;
/// Rows of one row group.
const GROUP: usize = 4096;

impl Format {
    /// The format of a file.
    ///
    /// # Errors
    /// The name ends otherwise.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Ok(Self::Npy),
            Some("parquet") => Ok(Self::Parquet),
            Some("safetensors") => Ok(Self::Safetensors),
            _ => Err(Error::bad_input(format!("`{}` is no file of embeddings", path.display()))
                .hint("its name ends in `.npy`, `.parquet` or `.safetensors`")),
        }
    }
}

impl Embeddings {
    /// Rows.
    pub fn len(&self) -> usize {
        self.names.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.ids.is_empty()
    }

    /// A row's numbers.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    /// Writes a file, in the format that its name says.
    ///
    /// # Errors
    /// Those of [`Format::of`] and of the file system.
    pub fn write(&self, path: &Path) -> Result<()> {
        match Format::of(path)? {
            Format::Npy => {
                file::write_bytes(&names_beside(path), self.names_json()?.as_bytes())?;
                file::write_atomic(path, |out| {
                    out.write_all(&npy_header("<f4", &[self.len(), self.width]))?;
                    out.write_all(bytemuck::cast_slice(&self.values))
                })
            }
            Format::Safetensors => {
                let shape = vec![self.len(), self.width];
                let failed = |e| Error::failed("cannot serialise embeddings").because(e);
                let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&self.values)).map_err(failed)?;
                let metadata = [("names".to_string(), self.names_json()?)].into();
                let bytes = safetensors::serialize([("embeddings", view)], Some(metadata)).map_err(failed)?;
                file::write_bytes(path, &bytes)
            }
            Format::Parquet => {
                let about = Names { ids: Vec::new(), labels: Vec::new(), ..self.names.clone() };
                let about = to_json(&about)?;
                file::write_atomic(path, |out| self.parquet(out, about).map_err(std::io::Error::other))
            }
        }
    }

    fn names_json(&self) -> Result<String> {
        to_json(&self.names)
    }

    fn parquet(&self, out: impl Write + Send, about: String) -> parquet::errors::Result<()> {
        let schema = "message rows { required binary id (UTF8); optional binary label (UTF8); required group embedding \
                      (LIST) { repeated group list { required float element; } } }";
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .set_key_value_metadata(Some(vec![KeyValue::new("caft".into(), about)]));
        let schema = Arc::new(parse_message_type(schema)?);
        let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties.build()))?;
        let texts = |texts: &[String]| texts.iter().map(|t| ByteArray::from(t.as_str())).collect::<Vec<_>>();
        for first in (0..self.len()).step_by(GROUP) {
            let rows = first..(first + GROUP).min(self.len());
            let mut group = file.next_row_group()?;
            if let Some(mut column) = group.next_column()? {
                column.typed::<ByteArrayType>().write_batch(&texts(&self.names.ids[rows.clone()]), None, None)?;
                column.close()?;
            }
            if let Some(mut column) = group.next_column()? {
                let labels = self.names.labels.get(rows.clone()).map(texts).unwrap_or_default();
                let levels = vec![i16::from(!labels.is_empty()); rows.len()];
                column.typed::<ByteArrayType>().write_batch(&labels, Some(&levels), None)?;
                column.close()?;
            }
            if let Some(mut column) = group.next_column()? {
                let values = &self.values[rows.start * self.width..rows.end * self.width];
                let repetition: Vec<i16> = (0..values.len()).map(|i| i16::from(i % self.width != 0)).collect();
                column.typed::<FloatType>().write_batch(values, Some(&vec![1; values.len()]), Some(&repetition))?;
                column.close()?;
            }
            group.close()?;
        }
        file.close().map(drop)
    }

    /// Reads a file that [`Self::write`] wrote. A `.npy` file without names beside it has its row numbers for names.
    ///
    /// # Errors
    /// It is damaged, or something else.
    pub fn read(path: &Path) -> Result<Self> {
        let format = Format::of(path)?;
        let shown = path.display();
        let broken = || Error::bad_input(format!("`{shown}` cannot be read as embeddings"));
        let read = match format {
            Format::Npy => read_npy(path)?,
            Format::Safetensors => {
                let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
                let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken().because(e))?;
                let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken().because(e))?;
                let view = tensors.tensor("embeddings").map_err(|e| broken().because(e))?;
                let (Dtype::F32, &[rows, width]) = (view.dtype(), view.shape()) else { return Err(broken()) };
                let names = header.metadata().as_ref().and_then(|m| m.get("names"));
                let names =
                    names.map(|text| serde_json::from_str(text)).transpose().map_err(|e| broken().because(e))?;
                let values =
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                Self { width, values, names: names.unwrap_or_else(|| numbered(rows)) }
            }
            Format::Parquet => read_parquet(path).map_err(|e| broken().because(e))?,
        };
        let rows = read.names.ids.len();
        let labels = read.names.labels.len();
        if read.width == 0 || read.values.len() != rows * read.width || (labels != 0 && labels != rows) {
            return Err(broken().because(Error::bad_input("names and values do not fit together")));
        }
        Ok(read)
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::failed("names do not serialise").because(e))
}

fn names_beside(path: &Path) -> std::path::PathBuf {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.names.json"))
}

fn numbered(rows: usize) -> Names {
    Names { ids: (0..rows).map(|row| row.to_string()).collect(), ..Names::default() }
}

fn read_npy(path: &Path) -> Result<Embeddings> {
    let broken = |what: &str| Error::bad_input(format!("`{}` {what}", path.display()));
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let head = bytes.get(..10).filter(|head| head.starts_with(b"\x93NUMPY\x01"));
    let head = head.ok_or_else(|| broken("is not a version 1 file of NumPy"))?;
    let begin = 10 + usize::from(u16::from_le_bytes([head[8], head[9]]));
    let text = bytes.get(10..begin).and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or_else(|| broken("has no header"))?;
    if !text.contains("'<f4'") || !text.contains("'fortran_order': False") {
        return Err(broken("does not hold 32-bit floats in rows"));
    }
    let shape = text.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).map(|(shape, _)| shape);
    let sizes: Option<Vec<usize>> = shape
        .map(|shape| shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect())
        .unwrap_or_default();
    let Some(&[rows, width]) = sizes.as_deref() else { return Err(broken("does not hold rows of numbers")) };
    let fits = rows.checked_mul(width).filter(|n| *n <= MOST_NUMBERS && n * 4 == bytes.len() - begin);
    fits.ok_or_else(|| broken("has another size than its header says"))?;
    let values = bytes[begin..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let beside = names_beside(path);
    let names = if beside.exists() {
        let text = file::read_text(&beside, 4 << 30)?;
        serde_json::from_str(&text)
            .map_err(|e| Error::bad_input(format!("`{}` does not hold names", beside.display())).because(e))?
    } else {
        numbered(rows)
    };
    Ok(Embeddings { width, values, names })
}

fn read_parquet(path: &Path) -> Result<Embeddings> {
    let failed = |e: parquet::errors::ParquetError| Error::bad_input("it is no table of embeddings").because(e);
    let reader = SerializedFileReader::new(File::open(path).map_err(Error::io("open", path))?).map_err(failed)?;
    let about = reader.metadata().file_metadata().key_value_metadata();
    let about =
        about.and_then(|all| all.iter().find(|entry| entry.key == "caft")).and_then(|entry| entry.value.as_ref());
    let mut read = Embeddings::default();
    if let Some(names) = about.and_then(|text| serde_json::from_str(text).ok()) {
        read.names = names;
    }
    for row in reader.get_row_iter(None).map_err(failed)? {
        let row = row.map_err(failed)?;
        read.names.ids.push(row.get_string(0).map_err(failed)?.clone());
        if let Ok(label) = row.get_string(1) {
            read.names.labels.push(label.clone());
        }
        let list = row.get_list(2).map_err(failed)?;
        let before = read.values.len();
        for field in list.elements() {
            let parquet::record::Field::Float(value) = field else {
                return Err(Error::bad_input("its column `embedding` is no list of 32-bit floats"));
            };
            read.values.push(*value);
        }
        let width = read.values.len() - before;
        if read.width != 0 && read.width != width {
            return Err(Error::bad_input("its rows have different widths"));
        }
        read.width = width;
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_come_back_from_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let names = |labels: &[&str]| Names {
            ids: vec!["a.jpg".into(), "ü\n".into(), "c".into()],
            labels: labels.iter().map(ToString::to_string).collect(),
            run: "runs/x".into(),
            layer: "neck".into(),
            field: "text".into(),
        };
        for labels in [&["cat", "dog", "cat"][..], &[]] {
            let written = Embeddings { width: 2, values: vec![1.0, -2.5, 0.0, 3.0, 4.0, 5.0], names: names(labels) };
            for ending in ["npy", "parquet", "safetensors"] {
                let path = folder.path().join(format!("e.{ending}"));
                written.write(&path).unwrap();
                assert_eq!(Embeddings::read(&path).unwrap(), written, "{ending}");
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
                assert_eq!(Embeddings::read(&path).unwrap_err().exit_code(), 2, "{ending}");
            }
        }
        assert!(Format::of(Path::new("x.csv")).unwrap_err().hint_text().unwrap().contains(".npy"));
    }
}
