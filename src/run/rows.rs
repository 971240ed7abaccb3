//! Rows as the trainer reads them.

use super::engine::Columns;
use super::live::LiveRows;
use super::resolve::Resolved;
use super::targets::{Grid, NOTHING, Parts};
use crate::base::random::Stream;
use crate::base::{Digest, Error, Result};
use crate::cache::{Column, RowReader};
use crate::neck::MASK;
use crate::sample::image::augment::view_digest;
use crate::train::{Features, InputSpec};

/// The rows of some samples, one input per output of the cut. Where rows have different numbers of tokens, they
/// are padded with zeros to the longest of all, and a further input `NAME.mask` `[tokens]` has 1 for each that is
/// real.
pub struct StoredRows {
    specs: Vec<InputSpec>,
    readers: Vec<RowReader>,
    /// For each input its reader, and whether it is the mask of its rows.
    inputs: Vec<(usize, bool)>,
    /// Rows of `readers`.
    plain: usize,
    views: Option<(Views, Vec<RowReader>)>,
    by_blocks: bool,
    /// Where a row is one place of a sample.
    grid: Option<Places>,
}

/// The places of samples.
struct Places {
    grid: Grid,
    /// Of every place of every sample, its views included, whether it has a target.
    has_target: Vec<bool>,
}

/// The views of the training samples, behind the plain rows: all of view 1, then all of view 2, and so on.
pub(super) struct Views {
    plain: usize,
    /// Views of a sample, the plain one included.
    count: u32,
    /// Samples that have views.
    samples: usize,
    /// For each plain row its place among the samples that have views, or `NONE`.
    places: Vec<u32>,
    seed: u64,
}

/// A row without views.
const NONE: u32 = u32::MAX;

impl Views {
    /// `count` views of the rows `train` of `plain` rows, drawn by a seed.
    pub fn new(plain: usize, (train, count, seed): (&[u32], u32, u64)) -> Self {
        let mut places = vec![NONE; plain];
        train.iter().zip(0..).for_each(|(row, place)| places[*row as usize] = place);
        Self { plain, count, samples: train.len(), places, seed }
    }

    /// Rows behind the plain ones.
    pub fn rows(&self) -> usize {
        self.samples * (self.count as usize - 1)
    }

    /// The row that stands for a row in an epoch.
    pub fn draw(&self, row: u32, epoch: u32) -> u32 {
        let place = self.places.get(row as usize).copied().unwrap_or(NONE);
        let drawn = Stream::named(self.seed, "view").u64(u64::from(epoch) << 32 | u64::from(row));
        match drawn % u64::from(self.count) {
            0 => row,
            _ if place == NONE => row,
            number => (self.plain + (number as usize - 1) * self.samples) as u32 + place,
        }
    }
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
        let plain = inputs.iter().map(|(_, reader)| reader.len()).min().unwrap_or(0);
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
        let by_blocks = readers.iter().map(RowReader::row_bytes).sum::<usize>() * plain > LARGE;
        Self { specs, readers, inputs: places, plain, views: None, by_blocks, grid: None }
    }

    /// Adds `count` views of the rows `train`, of which the plain one is there; `digest_of` gives the digest of a
    /// plain row's sample. An epoch draws a view of each row by `seed`.
    ///
    /// # Errors
    /// A view is not stored.
    pub fn with_views(
        self,
        columns: &[Column],
        (train, count, seed): (&[u32], u32, u64),
        digest_of: &(dyn Fn(usize) -> Digest + Sync),
    ) -> Result<Self> {
        let samples = train.len();
        let view_of = |at: usize| {
            let number = (at / samples) as u32 + 1;
            view_digest(&digest_of(train[at % samples] as usize), number)
        };
        let views = Views::new(self.plain, (train, count, seed));
        let stored = views.rows();
        let readers = columns.iter().map(|column| column.reader_of(stored, &view_of)).collect::<Result<Vec<_>>>()?;
        let mut all = Self { views: Some((views, readers)), ..self };
        let row: usize = all.readers.iter().map(RowReader::row_bytes).sum();
        // As if all rows had views, so that the order of rows does not depend on which of them are trained on.
        all.by_blocks |= row * all.plain * count as usize > LARGE;
        Ok(all)
    }

    /// With a row for each place in place of one for each sample; all places of the first sample come first. Samples
    /// that are not all in memory at once are visited by blocks.
    #[must_use]
    pub fn by_parts(self, parts: &Parts) -> Self {
        let has_target = parts.targets.iter().map(|target| *target != NOTHING).collect();
        let places = Places { grid: parts.grid.clone(), has_target };
        Self { specs: places.grid.inputs(&self.specs), grid: Some(places), by_blocks: true, ..self }
    }

    /// The same rows, visited by blocks however few they are.
    #[must_use]
    pub fn by_blocks(self) -> Self {
        Self { by_blocks: true, ..self }
    }

    /// Bytes of all rows as they are stored.
    pub fn bytes(&self) -> u64 {
        let samples = self.len() / self.places();
        self.readers.iter().map(|reader| (reader.row_bytes() * samples) as u64).sum()
    }

    /// Rows of a sample.
    fn places(&self) -> usize {
        self.grid.as_ref().map_or(1, |places| places.grid.places())
    }

    /// The inputs, one per output of the cut.
    pub fn specs(&self) -> &[InputSpec] {
        &self.specs
    }
}

/// Rows that are stored, or computed whenever they are read.
pub enum Rows {
    /// From the store.
    Stored(StoredRows),
    /// By the engine.
    Live(LiveRows),
}

impl Rows {
    /// The inputs, one per output of the cut.
    pub fn specs(&self) -> &[InputSpec] {
        match self {
            Self::Stored(rows) => rows.specs(),
            Self::Live(rows) => rows.specs(),
        }
    }

    /// Bytes that are stored of them.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Stored(rows) => rows.bytes(),
            Self::Live(_) => 0,
        }
    }

    fn features(&self) -> &dyn Features {
        match self {
            Self::Stored(rows) => rows,
            Self::Live(rows) => rows,
        }
    }
}

impl Features for Rows {
    fn len(&self) -> usize {
        self.features().len()
    }

    fn inputs(&self) -> &[InputSpec] {
        self.features().inputs()
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.features().read(input, rows, out)
    }

    fn view(&self, row: u32, epoch: u32) -> u32 {
        self.features().view(row, epoch)
    }

    fn announce(&self, rows: &[u32]) {
        self.features().announce(rows);
    }

    fn block_rows(&self) -> Option<usize> {
        self.features().block_rows()
    }

    fn in_memory(&self) -> bool {
        self.features().in_memory()
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
        (self.plain + self.views.as_ref().map_or(0, |(views, _)| views.rows())) * self.places()
    }

    fn inputs(&self) -> &[InputSpec] {
        &self.specs
    }

    fn block_rows(&self) -> Option<usize> {
        let row: usize = self.readers.iter().map(RowReader::row_bytes).sum();
        self.by_blocks.then(|| (BLOCK / row.max(1)).max(1) * self.places())
    }

    fn view(&self, row: u32, epoch: u32) -> u32 {
        let Some((views, _)) = &self.views else { return row };
        let Some(Places { has_target, .. }) = &self.grid else { return views.draw(row, epoch) };
        // All places of a sample are of the same view, but for those that have no target there.
        let places = self.places() as u32;
        let drawn = views.draw(row / places, epoch) * places + row % places;
        if has_target[drawn as usize] { drawn } else { row }
    }

    fn announce(&self, rows: &[u32]) {
        let mut samples = Vec::new();
        let rows = match self.grid {
            None => rows,
            Some(_) => {
                samples.extend(rows.iter().map(|row| row / self.places() as u32));
                samples.sort_unstable();
                samples.dedup();
                &samples
            }
        };
        let Some((_, views)) = &self.views else {
            return self.readers.iter().for_each(|reader| reader.announce(rows));
        };
        let plain = self.plain as u32;
        let (own, of_views): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| **row < plain);
        let of_views: Vec<u32> = of_views.into_iter().map(|row| row - plain).collect();
        self.readers.iter().for_each(|reader| reader.announce(&own));
        views.iter().for_each(|reader| reader.announce(&of_views));
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let (reader, is_mask) = self.inputs[input];
        if let Some(Places { grid, .. }) = &self.grid {
            let width = self.specs[input].elements();
            let places = grid.places();
            return rows.iter().zip(out.chunks_exact_mut(width.max(1))).try_for_each(|(row, out)| {
                let (first, step) = grid.values(input, row % places, width);
                match ((row / places).checked_sub(self.plain), &self.views) {
                    (Some(behind), Some((_, views))) => views[reader].read_part(behind, (first, step), out),
                    _ => self.readers[reader].read_part(row / places, (first, step), out),
                }
            });
        }
        let Some((_, views)) = &self.views else {
            return match self.readers[reader].lengths().filter(|_| is_mask) {
                Some(lengths) => mask(lengths, rows, out),
                None => self.readers[reader].read(rows, out),
            };
        };
        let width = self.specs[input].elements();
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(width.max(1))) {
            match row.checked_sub(self.plain) {
                None => self.readers[reader].read(&[*row], out)?,
                Some(row) => views[reader].read(&[row], out)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Silent;
    use crate::base::{Cancel, DType, Home};
    use crate::cache::{ColumnSpec, Store};
    use crate::graph::Targets;
    use crate::head::HeadConfig;
    use crate::metric::MetricName;
    use crate::neck::NeckChain;
    use crate::recipe;
    use crate::train::{Data, Session, TrainConfig, build_graph, train};

    #[test]
    fn a_shard_that_is_cut_short_in_the_middle_of_training_ends_it_with_an_error() {
        // More than is read into memory beforehand.
        const ROWS: usize = 640;
        const WIDTH: usize = 1 << 15;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::at(folder.path())).unwrap();
        let spec = ColumnSpec {
            key: Digest::of(b"column"),
            ingredients: serde_json::Map::new(),
            row_shape: vec![WIDTH],
            ragged: false,
            dtype: DType::F16,
            made_by: "test".into(),
        };
        let column = store.column(&spec, &Silent).unwrap();
        let digests: Vec<Digest> = (0..ROWS).map(|row| Digest::of(&row.to_le_bytes())).collect();
        let mut writer = column.writer().unwrap();
        for (row, digest) in digests.iter().enumerate() {
            writer.push(*digest, &vec![(row % 7) as f32 - 3.0; WIDTH]).unwrap();
        }
        writer.finish().unwrap();
        let reader = store.column(&spec, &Silent).unwrap().reader(&digests).unwrap();
        let features = StoredRows::of(vec![("cls".into(), reader)]);
        let graph = build_graph(&NeckChain(Vec::new()), &HeadConfig::default(), features.inputs(), 2).unwrap();
        let classes: Vec<u32> = (0..ROWS as u32).map(|row| row % 2).collect();
        let rows: Vec<u32> = (0..ROWS as u32).collect();
        let targets = Targets::Classes(&classes);
        let (train_rows, valid) = (&rows[40..], &rows[..40]);
        let data = Data::new(&features, targets, train_rows, valid);
        let recipe = recipe::TrainConfig { epochs: 1000, batch_size: 64, ..recipe::TrainConfig::default() };
        let config = TrainConfig { recipe, metrics: vec![MetricName::Accuracy], order_seed: 1, seed: 2 };
        let cancel = Cancel::default();
        let mut epochs = 0;
        let session = Session {
            cancel: &cancel,
            checkpoint: None,
            on_epoch: &mut |_| {
                epochs += 1;
                for shard in shards(folder.path()).iter().filter(|_| epochs == 2) {
                    std::fs::OpenOptions::new().write(true).open(shard).unwrap().set_len(100).unwrap();
                    // Sizes are not looked at all the time.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                Ok(())
            },
        };
        let error = train(&graph, &data, &config, session).unwrap_err();
        assert!(error.to_string().contains("was cut short while it was in use: 100 bytes of"), "{error}");
        assert!(error.hint_text().unwrap().contains("computed again"));
        assert_eq!((error.exit_code(), epochs), (1, 2));
    }

    fn shards(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(shards(&path));
            } else if path.extension().is_some_and(|ending| ending == "safetensors") {
                found.push(path);
            }
        }
        found
    }
}
