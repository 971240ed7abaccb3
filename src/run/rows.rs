//! Stored rows as the trainer reads them.

use super::engine::Columns;
use crate::base::{Digest, Result};
use crate::cache::{Column, RowReader};
use crate::train::{Features, InputSpec};

/// The rows of some samples, one input per output of the cut.
pub struct StoredRows {
    specs: Vec<InputSpec>,
    readers: Vec<RowReader>,
    len: usize,
    by_blocks: bool,
}

impl StoredRows {
    /// The activations of the samples `kept`, in their order.
    ///
    /// # Errors
    /// A sample is not stored.
    pub fn new(columns: &Columns, digests: &[Digest], kept: &[usize]) -> Result<Self> {
        let reader = |(name, column): (&str, &Column)| {
            Ok((name.to_string(), column.reader_of(kept.len(), &|sample| digests[kept[sample]])?))
        };
        Ok(Self::of(columns.iter().map(reader).collect::<Result<_>>()?))
    }

    /// Inputs by name, each with as many rows.
    pub fn of(inputs: Vec<(String, RowReader)>) -> Self {
        let len = inputs.iter().map(|(_, reader)| reader.len()).min().unwrap_or(0);
        let specs =
            inputs.iter().map(|(name, reader)| InputSpec { name: name.clone(), shape: reader.row_shape().into() });
        let specs = specs.collect();
        let readers: Vec<RowReader> = inputs.into_iter().map(|(_, reader)| reader).collect();
        let by_blocks = readers.iter().map(RowReader::row_bytes).sum::<usize>() * len > LARGE;
        Self { specs, readers, len, by_blocks }
    }

    /// The same rows, visited by blocks however few they are.
    #[must_use]
    pub fn by_blocks(self) -> Self {
        Self { by_blocks: true, ..self }
    }

    /// Bytes of all rows as they are stored.
    pub fn bytes(&self) -> u64 {
        self.readers.iter().map(|reader| (reader.row_bytes() * self.len) as u64).sum()
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
        self.by_blocks.then(|| (BLOCK / row.max(1)).max(1))
    }

    fn announce(&self, rows: &[u32]) {
        self.readers.iter().for_each(|reader| reader.announce(rows));
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.readers[input].read(rows, out)
    }
}
