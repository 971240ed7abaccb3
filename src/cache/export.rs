//! Columns as files of other programs.

use std::fs::File;
use std::io::{BufWriter, Error as IoError, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, FixedLenByteArray, FixedLenByteArrayType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::column::Column;
use super::layout::DIGEST;
use super::reader::RowReader;
use crate::base::{Cancel, Digest, Error, Result, file};

/// A format of exported files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// NumPy: the values, and beside them the digests as `[n, 32]` bytes in `NAME.digests.npy`; of a ragged
    /// column the items of all rows, and in `NAME.offsets.npy` the `[n + 1]` places where rows begin and end.
    Npy,
    /// Parquet: a column `digest` of 32 bytes and a column `values`, a list of floats.
    Parquet,
    /// Safetensors: `digest` `[n, 32]` and `values`, and of a ragged column `offsets` `[n + 1]`.
    Safetensors,
}

/// Rows read and written at a time.
const CHUNK: usize = 256;

impl Column {
    /// Writes all rows, duplicates once, in the order in which they are stored, as 32-bit floats. Gives the
    /// files and the number of rows.
    ///
    /// # Errors
    /// A shard is damaged, a file cannot be written, or the work was cancelled.
    pub fn export(&self, format: ExportFormat, path: &Path, cancel: &Cancel) -> Result<(Vec<PathBuf>, usize)> {
        let rows = Rows::new(self, cancel)?;
        let mut files = vec![path.to_path_buf()];
        match format {
            ExportFormat::Npy => {
                file::write_atomic(path, |out| {
                    out.write_all(&npy_header("<f4", &rows.values_shape()))?;
                    rows.values(out)
                })?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                files.push(path.with_file_name(format!("{name}.digests.npy")));
                file::write_atomic(&files[1], |out| {
                    out.write_all(&npy_header("|u1", &[rows.digests.len(), DIGEST]))?;
                    rows.digests(out)
                })?;
                if let Some(offsets) = rows.offsets() {
                    files.push(path.with_file_name(format!("{name}.offsets.npy")));
                    file::write_atomic(&files[2], |out| {
                        out.write_all(&npy_header("<i8", &[offsets.len()]))?;
                        offsets.iter().try_for_each(|offset| out.write_all(&offset.to_le_bytes()))
                    })?;
                }
            }
            ExportFormat::Safetensors => file::write_atomic(path, |out| {
                out.write_all(&rows.safetensors_header())?;
                rows.digests(out)?;
                let offsets = rows.offsets().unwrap_or_default();
                offsets.iter().try_for_each(|offset| out.write_all(&offset.to_le_bytes()))?;
                rows.values(out)
            })?,
            ExportFormat::Parquet => file::write_atomic(path, |out| rows.parquet(out).map_err(IoError::other))?,
        }
        Ok((files, rows.digests.len()))
    }
}

/// The distinct rows of a column.
struct Rows<'a> {
    digests: Vec<Digest>,
    reader: RowReader,
    cancel: &'a Cancel,
}

impl<'a> Rows<'a> {
    fn new(column: &Column, cancel: &'a Cancel) -> Result<Self> {
        let snapshot = column.snapshot();
        let stored = snapshot.shards.iter().flat_map(|shard| shard.digests()).zip(0..);
        let (mut digests, mut rows) = (Vec::new(), Vec::new());
        for (digest, row) in stored.map(|(digest, row)| (Digest(*digest), row)) {
            if snapshot.find(&digest) == Some(row) {
                digests.push(digest);
                rows.push(row);
            }
        }
        let reader = RowReader::new(Arc::new(column.spec().clone()), &snapshot, rows.into());
        Ok(Self { digests, reader, cancel })
    }

    /// `[rows, …row shape]`, of a ragged column `[items, …row shape]`.
    fn values_shape(&self) -> Vec<usize> {
        let items = self.reader.lengths().map(|lengths| lengths.iter().map(|length| *length as usize).sum());
        std::iter::once(items.unwrap_or(self.digests.len())).chain(self.reader.row_shape().iter().copied()).collect()
    }

    /// Where rows begin and end in the items of a ragged column.
    fn offsets(&self) -> Option<Vec<u64>> {
        let mut end = 0;
        let ends = self.reader.lengths()?.iter().map(|length| {
            end += u64::from(*length);
            end
        });
        Some(std::iter::once(0).chain(ends).collect())
    }

    fn digests(&self, out: &mut BufWriter<File>) -> std::io::Result<()> {
        self.digests.iter().try_for_each(|digest| out.write_all(&digest.0))
    }

    fn values(&self, out: &mut BufWriter<File>) -> std::io::Result<()> {
        self.each_chunk(|_, values, _| out.write_all(bytemuck::cast_slice(values)))
    }

    /// Calls back with the first row's position, the values of some rows, and how many each has.
    fn each_chunk(&self, mut body: impl FnMut(usize, &[f32], &[usize]) -> std::io::Result<()>) -> std::io::Result<()> {
        let item: usize = self.reader.row_shape().iter().product();
        let items = |row: usize| self.reader.lengths().map_or(1, |lengths| lengths[row] as usize);
        let (rows, mut values) = ((0..self.digests.len()).collect::<Vec<usize>>(), Vec::new());
        for chunk in rows.chunks(CHUNK) {
            self.cancel.check().map_err(IoError::other)?;
            let sizes: Vec<usize> = chunk.iter().map(|row| items(*row) * item).collect();
            values.resize(sizes.iter().sum(), 0.0);
            if self.reader.lengths().is_none() {
                self.reader.read(chunk, &mut values).map_err(IoError::other)?;
            } else {
                let mut rest = &mut values[..];
                for (row, size) in chunk.iter().zip(&sizes) {
                    let (out, behind) = rest.split_at_mut(*size);
                    self.reader.read(&[*row], out).map_err(IoError::other)?;
                    rest = behind;
                }
            }
            body(chunk[0], &values, &sizes)?;
        }
        Ok(())
    }

    fn safetensors_header(&self) -> Vec<u8> {
        let shape = self.values_shape();
        let (mut at, values) = (self.digests.len() * DIGEST, shape.iter().product::<usize>() * 4);
        let mut header = json!({
            "digest": {"dtype": "U8", "shape": [self.digests.len(), DIGEST], "data_offsets": [0, at]},
        });
        if let Some(offsets) = self.offsets() {
            let end = at + offsets.len() * 8;
            header["offsets"] = json!({"dtype": "I64", "shape": [offsets.len()], "data_offsets": [at, end]});
            at = end;
        }
        header["values"] = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, at + values]});
        let header = header.to_string();
        let mut bytes = (header.len().next_multiple_of(8) as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(8 + header.len().next_multiple_of(8), b' ');
        bytes
    }

    fn parquet(&self, out: &mut BufWriter<File>) -> parquet::errors::Result<()> {
        let schema = "message rows { required fixed_len_byte_array(32) digest; required group values (LIST) { repeated \
                      group list { required float element; } } }";
        let shape = serde_json::to_string(self.reader.row_shape()).unwrap_or_default();
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .set_dictionary_enabled(false)
            .set_key_value_metadata(Some(vec![KeyValue::new("row_shape".into(), shape)]));
        let schema = Arc::new(parse_message_type(schema)?);
        let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties.build()))?;
        let failed = |error: parquet::errors::ParquetError| IoError::other(error);
        self.each_chunk(|first, values, sizes| {
            let digests = &self.digests[first..first + sizes.len()];
            let digests: Vec<FixedLenByteArray> =
                digests.iter().map(|digest| ByteArray::from(digest.0.to_vec()).into()).collect();
            let repetition: Vec<i16> = sizes.iter().flat_map(|size| (0..*size).map(|i| i16::from(i > 0))).collect();
            let mut write = || -> parquet::errors::Result<()> {
                let mut group = file.next_row_group()?;
                if let Some(mut column) = group.next_column()? {
                    column.typed::<FixedLenByteArrayType>().write_batch(&digests, None, None)?;
                    column.close()?;
                }
                if let Some(mut column) = group.next_column()? {
                    let levels = vec![1; values.len()];
                    column.typed::<FloatType>().write_batch(values, Some(&levels), Some(&repetition))?;
                    column.close()?;
                }
                group.close().map(drop)
            };
            write().map_err(failed)
        })?;
        file.close().map(drop)
    }
}

/// The header of a version 1.0 `.npy` file (numpy.lib.format): its length makes the data begin at a
/// multiple of 64.
pub fn npy_header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    let size = (10 + text.len() + 1).next_multiple_of(64);
    text.extend(std::iter::repeat_n(' ', size - 11 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

impl std::str::FromStr for ExportFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "npy" => Ok(Self::Npy),
            "parquet" => Ok(Self::Parquet),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(Error::bad_input(format!("`{text}` is not `npy`, `parquet` or `safetensors`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::cache::tests::{Sandbox, digest, fill, row};

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    }

    fn exported(format: ExportFormat, name: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let sandbox = Sandbox::new(&[3, 4], DType::F16);
        let column = sandbox.column();
        fill(&column, 0..300, 1000);
        fill(&column, 290..300, 1000);
        let path = sandbox.folder.path().join(name);
        let (files, rows) = sandbox.column().export(format, &path, &Cancel::default()).unwrap();
        assert_eq!(rows, 300);
        (sandbox.folder, files)
    }

    /// The bytes that `numpy.save` writes in front of such an array.
    #[test]
    fn npy_has_the_header_that_numpy_writes() {
        let header = npy_header("<f4", &[300, 3, 4]);
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (300, 3, 4,), }";
        assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!((header.len(), header[127]), (128, b'\n'));
        assert!(header[10..].starts_with(text.as_bytes()));
        let (_folder, files) = exported(ExportFormat::Npy, "x.npy");
        let [values, digests] = [0, 1].map(|i| std::fs::read(&files[i]).unwrap());
        assert_eq!((values.len(), digests.len()), (128 + 300 * 48, 128 + 300 * 32));
        // The first row of the file is the row of the first digest.
        let first = (0..300).find(|&i| digest(i).0 == digests[128..160]).unwrap();
        assert_eq!(floats(&values[128..128 + 48]), row(first, 12));
    }

    #[test]
    fn safetensors_and_parquet_hold_every_row_once() {
        let (_folder, files) = exported(ExportFormat::Safetensors, "x.safetensors");
        let bytes = std::fs::read(&files[0]).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let digests = tensors.tensor("digest").unwrap();
        assert_eq!((digests.shape(), tensors.tensor("values").unwrap().shape()), (&[300, 32][..], &[300, 3, 4][..]));
        let first = (0..300).find(|&i| digest(i).0 == digests.data()[..32]).unwrap();
        let values = floats(&tensors.tensor("values").unwrap().data()[..48]);
        assert_eq!(values, row(first, 12));

        use parquet::file::reader::{FileReader, SerializedFileReader};
        let (_folder, files) = exported(ExportFormat::Parquet, "x.parquet");
        let reader = SerializedFileReader::new(File::open(&files[0]).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 300);
        use parquet::record::{ListAccessor, RowAccessor};
        for read in [&rows[0], &rows[299]] {
            let at = (0..300).find(|&i| digest(i).0[..] == *read.get_bytes(0).unwrap().data()).unwrap();
            let list = read.get_list(1).unwrap();
            assert_eq!((0..list.len()).map(|i| list.get_float(i).unwrap()).collect::<Vec<_>>(), row(at, 12));
        }
    }
}
