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

impl Features for StoredRows {
    fn len(&self) -> usize {
        self.len
    }

    fn inputs(&self) -> &[InputSpec] {
        &self.specs
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.readers[input].read(rows, out)
    }
}
