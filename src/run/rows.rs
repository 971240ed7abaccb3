//! Stored rows as the trainer reads them.

use super::engine::Columns;
use super::resolve::Resolved;
use crate::base::{Error, Result};
use crate::cache::RowReader;
use crate::neck::MASK;
use crate::train::{Features, InputSpec};

/// The rows of some samples, one input per output of the cut. Where rows have different numbers of tokens, they
/// are padded with zeros to the longest of all, and a further input `NAME.mask` `[tokens]` has 1 for each that is
/// real.
pub struct StoredRows {
    specs: Vec<InputSpec>,
    readers: Vec<RowReader>,
    /// For each input its reader, and whether it is the mask of its rows.
    inputs: Vec<(usize, bool)>,
    len: usize,
    by_blocks: bool,
}

impl StoredRows {
    /// The activations of the rows `kept`, in their order, of every tower.
    ///
    /// # Errors
    /// A sample is not stored.
    pub fn new(resolved: &Resolved, columns: &Columns, kept: &[usize]) -> Result<Self> {
        let towers = std::iter::once((resolved, columns)).chain(resolved.others.iter().zip(columns.others()));
        let mut inputs = Vec::new();
        for (tower, columns) in towers {
            for (name, column) in columns.iter() {
                let reader = column.reader_of(kept.len(), &|sample| tower.digests[kept[sample]])?;
                inputs.push((name.to_string(), reader));
            }
        }
        Ok(Self::of(inputs))
    }

    /// Inputs by name, each with as many rows.
    pub fn of(inputs: Vec<(String, RowReader)>) -> Self {
        let len = inputs.iter().map(|(_, reader)| reader.len()).min().unwrap_or(0);
        let (mut specs, mut places) = (Vec::new(), Vec::new());
        for (at, (name, reader)) in inputs.iter().enumerate() {
            let longest = reader.lengths().map(|lengths| lengths.iter().max().copied().unwrap_or(1) as usize);
            let shape = longest.into_iter().chain(reader.row_shape().iter().copied()).collect();
            specs.push(InputSpec { name: name.clone(), shape });
            places.push((at, false));
            if let Some(longest) = longest {
                specs.push(InputSpec { name: format!("{name}{MASK}"), shape: vec![longest] });
                places.push((at, true));
            }
        }
        let readers: Vec<RowReader> = inputs.into_iter().map(|(_, reader)| reader).collect();
        let by_blocks = readers.iter().map(RowReader::row_bytes).sum::<usize>() * len > LARGE;
        Self { specs, readers, inputs: places, len, by_blocks }
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

/// 1 for each token of each row, 0 behind them.
fn mask(lengths: &[u32], rows: &[usize], out: &mut [f32]) -> Result<()> {
    let tokens = out.len() / rows.len().max(1);
    for (&row, out) in rows.iter().zip(out.chunks_exact_mut(tokens.max(1))) {
        let length = lengths.get(row).ok_or_else(|| Error::failed(format!("row {row} was asked for")))?;
        out.iter_mut().zip(0..).for_each(|(out, at): (&mut f32, u32)| *out = f32::from(u8::from(at < *length)));
    }
    Ok(())
}

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
        let (reader, is_mask) = self.inputs[input];
        let reader = &self.readers[reader];
        match reader.lengths().filter(|_| is_mask) {
            Some(lengths) => mask(lengths, rows, out),
            None => reader.read(rows, out),
        }
    }
}
