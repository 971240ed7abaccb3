//! Stored rows as the trainer reads them.

use super::engine::Columns;
use crate::base::{Digest, Result};
use crate::cache::RowReader;
use crate::train::{Features, InputSpec};

/// The rows of some samples, one input per output of the cut.
pub struct StoredRows {
    specs: Vec<InputSpec>,
    readers: Vec<RowReader>,
    len: usize,
}

impl StoredRows {
    /// The activations of the samples `kept`, in their order.
    ///
    /// # Errors
    /// A sample is not stored.
    pub fn new(columns: &Columns, digests: &[Digest], kept: &[usize]) -> Result<Self> {
        let wanted: Vec<Digest> = kept.iter().map(|&row| digests[row]).collect();
        let mut specs = Vec::new();
        let mut readers = Vec::new();
        for (name, column) in columns.iter() {
            let reader = column.reader(&wanted)?;
            specs.push(InputSpec { name: name.to_string(), shape: reader.row_shape().to_vec() });
            readers.push(reader);
        }
        Ok(Self { specs, readers, len: wanted.len() })
    }

    /// The inputs, one per output of the cut.
    pub fn specs(&self) -> &[InputSpec] {
        &self.specs
    }
}

/// Rows of more bytes than this are visited by blocks: a free shuffle of what does not fit in memory would
/// wait for the disk. A constant, so that the order of training is the same on every machine.
const LARGE: usize = 2 << 30;

/// Bytes of a block of the shuffle.
const BLOCK: usize = 8 << 20;

impl Features for StoredRows {
    fn len(&self) -> usize {
        self.len
    }

    fn inputs(&self) -> &[InputSpec] {
        &self.specs
    }

    fn block_rows(&self) -> Option<usize> {
        let row: usize = self.readers.iter().map(RowReader::row_bytes).sum();
        (row * self.len > LARGE).then(|| (BLOCK / row.max(1)).max(1))
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.readers[input].read(rows, out)
    }
}
