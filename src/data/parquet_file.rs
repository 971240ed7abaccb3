//! Parquet files, read column by column: no set is ever in memory.
//!
//! Bytes embedded in a column are unpacked once to one file under the home, so that samples are ranges
//! of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::load::SetPlace;
use crate::base::{Error, Result, file};
use crate::resource::Resource;

/// One value of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    Bytes(&'a [u8]),
    Integer(i64),
    Real(f64),
}

/// A parquet file.
pub(super) struct ParquetFile {
    reader: SerializedFileReader<File>,
    path: PathBuf,
}

impl ParquetFile {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// It cannot be read, or is no parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let reader = SerializedFileReader::new(file).map_err(|error| damaged(path, error))?;
        Ok(Self { reader, path: path.to_path_buf() })
    }

    /// The columns, with the names of nested ones joined by dots.
    pub fn columns(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.path().string()).collect()
    }

    /// The number of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns().iter().position(|column| column == name)
    }

    /// Whether a column holds text, and not any bytes.
    pub fn is_text(&self, column: usize) -> bool {
        let column = self.reader.metadata().file_metadata().schema_descr().column(column);
        column.physical_type() == Type::BYTE_ARRAY
            && (column.logical_type_ref() == Some(&LogicalType::String)
                || column.converted_type() == ConvertedType::UTF8)
    }

    /// Whether a column holds the values of lists.
    pub fn is_list(&self, column: usize) -> bool {
        self.reader.metadata().file_metadata().schema_descr().column(column).max_rep_level() > 0
    }

    /// The number of rows that the footer states.
    pub fn rows(&self) -> usize {
        usize::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// A text that the writer left in the footer.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self.reader.metadata().file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// Gives every row's value of a column to `visit`, in order; `None` where there is none.
    ///
    /// # Errors
    /// The file is damaged, the column is a list or of a type that is not read, and those of `visit`.
    pub fn visit(&self, column: usize, mut visit: impl FnMut(usize, Option<Cell<'_>>) -> Result<()>) -> Result<()> {
        let mut next = 0;
        self.visit_all(column, |row, cell| {
            if row != next {
                let path = self.path.display();
                return Err(Error::bad_input(format!(
                    "`{path}`: a column of lists, where one value per row is needed"
                )));
            }
            next += 1;
            visit(row, cell)
        })
    }

    /// The column of the values of a column of lists.
    pub fn list_column(&self, name: &str) -> Option<usize> {
        // The names of the levels differ from writer to writer; what they have in common is that there are two.
        let begin = format!("{name}.");
        let is_list = |column: &String| column.strip_prefix(&begin).is_some_and(|rest| rest.split('.').count() == 2);
        self.columns().iter().position(is_list)
    }

    /// As [`Self::visit`], with every value of a row of a column of lists; an empty list gives one `None`.
    ///
    /// # Errors
    /// As [`Self::visit`], apart from lists.
    pub fn visit_all(&self, column: usize, mut visit: impl FnMut(usize, Option<Cell<'_>>) -> Result<()>) -> Result<()> {
        let bad = |error| damaged(&self.path, error);
        let mut rows = 0;
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(bad)?;
            let mut next = |begins: bool, cell: Option<Cell<'_>>| {
                rows += usize::from(begins);
                visit(rows.saturating_sub(1), cell)
            };
            match group.get_column_reader(column).map_err(bad)? {
                ColumnReader::ByteArrayColumnReader(r) => {
                    self.each(r, |begins, value: Option<&ByteArray>| {
                        next(begins, value.map(|bytes| Cell::Bytes(bytes.data())))
                    })?;
                }
                ColumnReader::BoolColumnReader(r) => {
                    self.each(r, |begins, value| next(begins, value.map(|value| Cell::Integer(i64::from(*value)))))?;
                }
                ColumnReader::Int32ColumnReader(r) => {
                    self.each(r, |begins, value| next(begins, value.map(|value| Cell::Integer(i64::from(*value)))))?;
                }
                ColumnReader::Int64ColumnReader(r) => {
                    self.each(r, |begins, value| next(begins, value.map(|value| Cell::Integer(*value))))?
                }
                ColumnReader::FloatColumnReader(r) => {
                    self.each(r, |begins, value| next(begins, value.map(|value| Cell::Real(f64::from(*value)))))?;
                }
                ColumnReader::DoubleColumnReader(r) => {
                    self.each(r, |begins, value| next(begins, value.map(|value| Cell::Real(*value))))?
                }
                _ => {
                    let name = &self.columns()[column];
                    let path = self.path.display();
                    return Err(Error::bad_input(format!("`{path}`: the type of column `{name}` is not read")));
                }
            }
        }
        Ok(())
    }

    fn each<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        mut visit: impl FnMut(bool, Option<&T::T>) -> Result<()>,
    ) -> Result<()> {
        /// Few, for a row may be a whole photograph.
        const ROWS_AT_ONCE: usize = 64;
        let (mut levels, mut repeats, mut values) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            levels.clear();
            repeats.clear();
            values.clear();
            let read = reader.read_records(ROWS_AT_ONCE, Some(&mut levels), Some(&mut repeats), &mut values);
            let (rows, found, _) = read.map_err(|error| damaged(&self.path, error))?;
            if rows == 0 {
                return Ok(());
            }
            if levels.is_empty() {
                values.iter().try_for_each(|value| visit(true, Some(value)))?;
                continue;
            }
            // Fewer values than rows: the rows with the highest level have one.
            let present = levels.iter().copied().max().unwrap_or(0);
            let mut left = values.iter();
            for (i, level) in levels.iter().enumerate() {
                let value = if *level == present && found > 0 { left.next() } else { None };
                // Without repetition levels every level is a row.
                visit(repeats.get(i).is_none_or(|repeat| *repeat == 0), value)?;
            }
        }
    }

    /// Unpacks the bytes of a column into one file under the home, unless that has been done, and says
    /// where each row's are: from `offsets[row]` to `offsets[row + 1]`.
    ///
    /// # Errors
    /// As [`Self::visit`], and those of writing.
    pub fn unpack(&self, column: usize, place: &SetPlace<'_>) -> Result<Unpacked> {
        let digest = place.fetcher.fetch(&Resource::path(&self.path))?.digest;
        let name = format!("parquet-{}-{column}", digest.short(32));
        let folder = place.home.folder("downloads")?;
        let (bytes, index) = (folder.join(format!("{name}.bytes")), folder.join(format!("{name}.offsets")));
        if let Some(offsets) = read_offsets(&bytes, &index) {
            return Ok(Unpacked { file: bytes.into(), offsets });
        }
        let mut offsets = vec![0_u64];
        file::write_atomic(&bytes, |out| {
            let mut end = 0;
            let unpacked = self.visit(column, |_, cell| {
                if let Some(Cell::Bytes(bytes)) = cell {
                    out.write_all(bytes).map_err(Error::io("write", &self.path))?;
                    end += bytes.len() as u64;
                }
                offsets.push(end);
                Ok(())
            });
            unpacked.map_err(std::io::Error::other)
        })?;
        file::write_atomic(&index, |out| offsets.iter().try_for_each(|offset| out.write_all(&offset.to_le_bytes())))?;
        Ok(Unpacked { file: bytes.into(), offsets })
    }
}

/// The bytes of a column in one file.
pub(super) struct Unpacked {
    pub file: Arc<Path>,
    pub offsets: Vec<u64>,
}

/// The offsets written last, if they are whole and fit the bytes.
fn read_offsets(bytes: &Path, index: &Path) -> Option<Vec<u64>> {
    let raw = std::fs::read(index).ok()?;
    let (offsets, rest) = raw.as_chunks::<8>();
    let offsets: Vec<u64> = offsets.iter().map(|offset| u64::from_le_bytes(*offset)).collect();
    let whole = rest.is_empty() && offsets.first() == Some(&0) && offsets.is_sorted();
    (whole && std::fs::metadata(bytes).ok()?.len() == *offsets.last()?).then_some(offsets)
}

/// Whether a file begins as parquet files do.
pub(super) fn is_parquet(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"PAR1"
}

fn damaged(path: &Path, error: ParquetError) -> Error {
    Error::bad_input(format!("`{}` is not a parquet file that can be read: {error}", path.display())).because(error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::load::tests::Fixture;
    use parquet::data_type::{ByteArrayType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// A file as the hub has it, in row groups of two: pictures (`None` is a null) and labels.
    pub fn write(path: &Path, rows: &[(Option<&[u8]>, i64)], huggingface: Option<&str>) {
        let schema = "message schema { optional group img { optional binary bytes; optional binary path (UTF8); } \
                      optional int64 label; }";
        let note = huggingface.map(|text| vec![KeyValue::new("huggingface".into(), text.to_string())]);
        let properties = WriterProperties::builder().set_key_value_metadata(note).build();
        let schema = parse_message_type(schema).unwrap().into();
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties.into()).unwrap();
        for rows in rows.chunks(2) {
            let mut group = writer.next_row_group().unwrap();
            let levels: Vec<i16> = rows.iter().map(|(bytes, _)| if bytes.is_some() { 2 } else { 0 }).collect();
            let bytes: Vec<ByteArray> = rows.iter().filter_map(|(bytes, _)| bytes.map(|b| b.to_vec().into())).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
            column.close().unwrap();
            let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn columns_are_read_across_row_groups_with_their_nulls() {
        let fixture = Fixture::new();
        let path = fixture.path("t.parquet");
        write(&path, &[(Some(b"ab"), 3), (None, 4), (None, 5), (None, 6), (Some(b""), 7)], None);
        let file = ParquetFile::open(&path).unwrap();
        assert_eq!(file.columns(), ["img.bytes", "img.path", "label"]);
        let mut seen = Vec::new();
        file.visit(0, |row, cell| {
            seen.push((row, cell.map(|cell| if let Cell::Bytes(bytes) = cell { bytes.to_vec() } else { panic!() })));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(0, Some(b"ab".to_vec())), (1, None), (2, None), (3, None), (4, Some(vec![]))]);
        let mut labels = Vec::new();
        file.visit(2, |_, cell| {
            labels.push(if let Some(Cell::Integer(label)) = cell { label } else { -1 });
            Ok(())
        })
        .unwrap();
        assert_eq!(labels, [3, 4, 5, 6, 7]);
    }

    /// A file of paths of pictures, each with a list of labels.
    pub fn write_lists(path: &Path, rows: &[(&str, &[i64])], huggingface: Option<&str>) {
        let schema = "message schema { required binary image (UTF8); \
                      optional group tags (LIST) { repeated group list { optional int64 element; } } }";
        let note = huggingface.map(|text| vec![KeyValue::new("huggingface".into(), text.to_string())]);
        let properties = WriterProperties::builder().set_key_value_metadata(note).build();
        let schema = parse_message_type(schema).unwrap().into();
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties.into()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let paths: Vec<ByteArray> = rows.iter().map(|(path, _)| (*path).into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&paths, None, None).unwrap();
        column.close().unwrap();
        let (mut values, mut levels, mut repeats) = (Vec::new(), Vec::new(), Vec::new());
        for (_, tags) in rows {
            values.extend_from_slice(tags);
            // An empty list is there, with no element in it.
            levels.extend(std::iter::repeat_n(if tags.is_empty() { 1 } else { 3 }, tags.len().max(1)));
            repeats.extend((0..tags.len().max(1)).map(|i| i16::from(i > 0)));
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&values, Some(&levels), Some(&repeats)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn lists_are_read_value_by_value_where_they_are_expected() {
        let fixture = Fixture::new();
        let path = fixture.path("t.parquet");
        write_lists(&path, &[("a", &[1, 2]), ("b", &[]), ("c", &[3])], None);
        let file = ParquetFile::open(&path).unwrap();
        let column = file.list_column("tags").unwrap();
        assert!(file.is_list(column) && file.list_column("image").is_none());
        let mut seen = Vec::new();
        file.visit_all(column, |row, cell| {
            seen.push((row, cell.map(|cell| if let Cell::Integer(value) = cell { value } else { panic!() })));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(0, Some(1)), (0, Some(2)), (1, None), (2, Some(3))]);
        let error = file.visit(column, |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.ends_with("a column of lists, where one value per row is needed"), "{error}");
    }

    #[test]
    fn bytes_are_unpacked_once_and_again_when_the_unpacked_file_is_not_whole() {
        let fixture = Fixture::new();
        let path = fixture.path("t.parquet");
        write(&path, &[(Some(b"abc"), 0), (None, 0), (Some(b"de"), 0)], None);
        let file = ParquetFile::open(&path).unwrap();
        fixture.with_place(|place| {
            let unpacked = file.unpack(0, place).unwrap();
            assert_eq!(unpacked.offsets, [0, 3, 3, 5]);
            assert_eq!(std::fs::read(&unpacked.file).unwrap(), b"abcde");
            let written = std::fs::metadata(&unpacked.file).unwrap().modified().unwrap();
            file.unpack(0, place).unwrap();
            assert_eq!(std::fs::metadata(&unpacked.file).unwrap().modified().unwrap(), written);
            std::fs::write(&unpacked.file, b"abc").unwrap();
            assert_eq!(std::fs::read(file.unpack(0, place).unwrap().file).unwrap(), b"abcde");
        });
    }

    #[test]
    fn what_is_no_parquet_file_is_a_clear_error() {
        let fixture = Fixture::new();
        let path = fixture.path("t.parquet");
        std::fs::write(&path, b"PAR1 but no more").unwrap();
        assert!(is_parquet(&path));
        let error = ParquetFile::open(&path).err().unwrap();
        assert!(error.to_string().contains("t.parquet` is not a parquet file"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
