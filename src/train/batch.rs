//! Batches, and the reading of them.

use std::sync::mpsc;

use rayon::prelude::*;

use super::order::WINDOW;
use super::{Features, InMemory};
use crate::base::{Error, Result};
use crate::graph::{Graph, Targets};

/// Features of at most this many bytes are copied to memory before training; larger ones are read batch by
/// batch, so that memory holds the batch and the parameters.
const PRELOAD_BYTES: usize = 64 << 20;

/// Rows read at once by one thread.
const ROWS_PER_READ: usize = 64;

/// Some rows of the inputs, with their targets.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Rows in use.
    pub rows: usize,
    /// One buffer per input of the graph, `[batch size, …]`, of which the first `rows` rows are in use.
    pub inputs: Vec<Vec<f32>>,
    classes: Vec<u32>,
    values: Vec<f32>,
    kind: Kind,
    /// The share that each row keeps of itself, where it was mixed with another.
    mixed: Option<f64>,
    /// The targets of the rows that rows were mixed with.
    others: (Vec<u32>, Vec<f32>),
    /// Room that is kept from batch to batch for changing features: partners with rows as they were, and sums of squares.
    pub(super) room: (Vec<usize>, Vec<f32>),
    pub(super) squares: Vec<f64>,
}

/// What the targets of a batch are, with the numbers of a row.
#[derive(Debug, Clone, Copy, Default)]
enum Kind {
    #[default]
    Classes,
    Labels(usize),
    Values(usize),
    Pairs(usize),
}

impl Batch {
    /// Room for batches of a graph of up to `rows` rows.
    pub fn new(graph: &Graph, rows: usize) -> Self {
        Self::of(graph.inputs().iter().map(|id| graph.shape(*id).len(1)), rows)
    }

    /// Room for up to `rows` rows of inputs of so many elements.
    pub(super) fn of(inputs: impl Iterator<Item = usize>, rows: usize) -> Self {
        let inputs = inputs.map(|elements| vec![0.0; elements * rows]).collect();
        Self { inputs, classes: Vec::with_capacity(rows), ..Self::default() }
    }

    /// The targets of the rows in use.
    pub fn targets(&self) -> Targets<'_> {
        match self.kind {
            Kind::Classes => Targets::Classes(&self.classes),
            Kind::Labels(width) => Targets::MultiLabel { width, values: &self.values },
            Kind::Values(width) => Targets::Values { width, values: &self.values },
            Kind::Pairs(fields) => Targets::Pairs { fields, samples: &self.classes },
        }
    }

    /// Says that row i was mixed with row `partners[i]` and keeps `share` of itself.
    pub(super) fn mix(&mut self, share: f64, partners: &[usize]) {
        let width = match self.kind {
            Kind::Classes | Kind::Pairs(_) => 0,
            Kind::Labels(width) | Kind::Values(width) => width,
        };
        let (classes, values) = &mut self.others;
        classes.clear();
        classes.extend(partners.iter().filter_map(|row| self.classes.get(*row).copied()));
        values.clear();
        partners.iter().for_each(|row| values.extend_from_slice(&self.values[row * width..][..width]));
        self.mixed = Some(share);
    }

    /// The share that rows keep of themselves, and the targets of the rows they were mixed with; `None` for rows as
    /// they are.
    pub fn mixed(&self) -> Option<(f64, Targets<'_>)> {
        let share = self.mixed?;
        let (classes, values) = &self.others;
        let targets = match self.kind {
            Kind::Classes => Targets::Classes(classes),
            Kind::Labels(width) => Targets::MultiLabel { width, values },
            Kind::Values(width) => Targets::Values { width, values },
            // A mixture of two rows has no second that it looks for.
            Kind::Pairs(_) => return None,
        };
        Some((share, targets))
    }

    /// Takes over rows and targets of another batch, not its inputs.
    pub(super) fn take_targets(&mut self, from: &Self) {
        (self.rows, self.kind) = (from.rows, from.kind);
        self.classes.clone_from(&from.classes);
        self.values.clone_from(&from.values);
        self.mixed = from.mixed;
        self.others.clone_from(&from.others);
    }

    /// Adds a row of another batch, for which there is room.
    pub(super) fn push(&mut self, from: &Self, row: usize, widths: &[usize]) {
        for ((to, from), width) in self.inputs.iter_mut().zip(&from.inputs).zip(widths) {
            to[self.rows * width..][..*width].copy_from_slice(&from[row * width..][..*width]);
        }
        self.kind = from.kind;
        match from.kind {
            Kind::Classes => self.classes.push(from.classes[row]),
            Kind::Pairs(fields) => self.classes.extend_from_slice(&from.classes[row * fields..][..fields]),
            Kind::Labels(width) | Kind::Values(width) => {
                self.values.extend_from_slice(&from.values[row * width..][..width]);
            }
        }
        self.rows += 1;
    }

    /// Makes room for other rows.
    pub(super) fn clear(&mut self) {
        (self.rows, self.mixed) = (0, None);
        self.classes.clear();
        self.values.clear();
    }

    fn fill(&mut self, features: &dyn Features, targets: Targets<'_>, rows: &[usize]) -> Result<()> {
        (self.rows, self.mixed) = (rows.len(), None);
        for (i, (spec, buffer)) in features.inputs().iter().zip(&mut self.inputs).enumerate() {
            let width = spec.elements();
            let parts = buffer[..rows.len() * width].par_chunks_mut((ROWS_PER_READ * width).max(1));
            parts.zip(rows.par_chunks(ROWS_PER_READ)).try_for_each(|(out, rows)| features.read(i, rows, out))?;
        }
        match targets {
            Targets::Classes(classes) => {
                self.classes.clear();
                self.classes.extend(rows.iter().map(|row| classes[*row]));
            }
            Targets::Pairs { fields, samples } => {
                self.kind = Kind::Pairs(fields);
                self.classes.clear();
                rows.iter().for_each(|row| self.classes.extend_from_slice(&samples[row * fields..][..fields]));
            }
            Targets::MultiLabel { width, values } | Targets::Values { width, values } => {
                let labels = matches!(targets, Targets::MultiLabel { .. });
                self.kind = if labels { Kind::Labels(width) } else { Kind::Values(width) };
                self.values.clear();
                rows.iter().for_each(|row| self.values.extend_from_slice(&values[row * width..][..width]));
            }
        }
        Ok(())
    }
}

/// Reads batches in a given order: from memory where the features are small, else ahead in a thread.
pub(super) struct Reader<'a> {
    features: &'a dyn Features,
    memory: Option<InMemory>,
    targets: Targets<'a>,
    buffers: Vec<Batch>,
    batch_size: usize,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// Small features cannot be read, or the features are not those of the graph.
    pub fn new(graph: &Graph, features: &'a dyn Features, targets: Targets<'a>, batch_size: usize) -> Result<Self> {
        check_inputs(graph, features)?;
        let bytes = features.inputs().iter().map(|spec| spec.elements() * 4).sum::<usize>() * features.len();
        let small = !features.in_memory() && bytes <= PRELOAD_BYTES;
        let memory = if small { Some(InMemory::copy_of(features)?) } else { None };
        let count = if memory.is_some() || features.in_memory() { 1 } else { 2 };
        let buffers = vec![Batch::new(graph, batch_size); count];
        Ok(Self { features, memory, targets, buffers, batch_size })
    }

    /// Whether reading is copying from memory, on the calling thread's pool.
    pub fn is_in_memory(&self) -> bool {
        self.buffers.len() == 1
    }

    /// Calls `body` with each batch of `rows`, in order.
    ///
    /// # Errors
    /// The first of `body` or of reading.
    pub fn each(&mut self, rows: &[u32], mut body: impl FnMut(&mut Batch) -> Result<()>) -> Result<()> {
        let features: &dyn Features = self.memory.as_ref().map_or(self.features, |m| m);
        let targets = self.targets;
        let batch_size = self.batch_size;
        let parts = rows.chunks(batch_size);
        let mut numbers = Vec::with_capacity(batch_size);
        if let [batch] = &mut self.buffers[..] {
            for part in parts {
                numbers.clear();
                numbers.extend(part.iter().map(|row| *row as usize));
                batch.fill(features, targets, &numbers)?;
                body(batch)?;
            }
            return Ok(());
        }
        // Buffers go round: filled ones to `body`, used ones back to the reading thread.
        let (to_body, filled) = mpsc::sync_channel::<Result<Batch>>(self.buffers.len());
        let (to_reader, used) = mpsc::sync_channel::<Batch>(self.buffers.len());
        for buffer in self.buffers.drain(..) {
            let _ = to_reader.send(buffer);
        }
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                // The disk works on the next window of the shuffle while this one is read.
                let window = features.block_rows().map_or(0, |rows| rows * WINDOW).next_multiple_of(batch_size);
                features.announce(&rows[..window.min(rows.len())]);
                let ahead = rows.get(window..).unwrap_or_default().chunks(batch_size).chain(std::iter::repeat(&[][..]));
                for (part, ahead) in parts.zip(ahead) {
                    let Ok(mut batch) = used.recv() else { break };
                    features.announce(ahead);
                    numbers.clear();
                    numbers.extend(part.iter().map(|row| *row as usize));
                    let result = batch.fill(features, targets, &numbers).map(|()| batch);
                    let failed = result.is_err();
                    if to_body.send(result).is_err() || failed {
                        break;
                    }
                }
                used
            });
            let mut outcome = Ok(());
            while let Ok(result) = filled.recv() {
                outcome = result.and_then(|mut batch| {
                    let done = body(&mut batch);
                    let _ = to_reader.send(batch);
                    done
                });
                if outcome.is_err() {
                    break;
                }
            }
            drop((filled, to_reader));
            if let Ok(used) = reader.join() {
                self.buffers.extend(used.try_iter());
            }
            outcome
        })
    }
}

/// Reads rows in an order as training does, and gives `body` each batch: training without its steps.
///
/// # Errors
/// The first of `body` or of reading.
pub fn read_batches(
    features: &dyn Features,
    order: &[u32],
    batch_size: usize,
    body: &mut dyn FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let classes = vec![0; features.len()];
    let buffers = vec![Batch::of(features.inputs().iter().map(|spec| spec.elements()), batch_size); 2];
    let mut reader = Reader { features, memory: None, targets: Targets::Classes(&classes), buffers, batch_size };
    reader.each(order, |batch| body(batch))
}

/// Refuses features whose inputs are not those of the graph.
pub(super) fn check_inputs(graph: &Graph, features: &dyn Features) -> Result<()> {
    let wanted = graph.inputs().iter().map(|id| {
        let value = &graph.values()[id.index()];
        (value.name.as_str(), value.shape.dims.as_slice())
    });
    let found = features.inputs().iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice()));
    if wanted.clone().eq(found.clone()) {
        return Ok(());
    }
    let (wanted, found): (Vec<_>, Vec<_>) = (wanted.collect(), found.collect());
    Err(Error::bad_input(format!("the trained part takes `{wanted:?}`, but the features are `{found:?}`")))
}

/// Refuses rows or targets that do not exist; `width` is how many classes, labels or values there may be.
pub(super) fn check_rows(features: &dyn Features, targets: Targets<'_>, width: usize, splits: &[&[u32]]) -> Result<()> {
    if targets.len() != features.len() {
        let (a, b) = (targets.len(), features.len());
        return Err(Error::bad_input(format!("there are {a} targets for {b} rows of features")));
    }
    if let Targets::Pairs { fields, .. } = targets
        && fields < 2
    {
        return Err(Error::bad_input("rows that are pairs need two fields or more"));
    }
    if let Targets::MultiLabel { width: found, .. } | Targets::Values { width: found, .. } = targets
        && found != width
    {
        return Err(Error::bad_input(format!("rows have {found} labels or values, for {width} outputs")));
    }
    for row in splits.iter().copied().flatten() {
        let row = *row as usize;
        if row >= features.len() {
            return Err(Error::bad_input(format!("row {row} does not exist; there are {}", features.len())));
        }
        if let Targets::Classes(classes) = targets
            && classes[row] as usize >= width
        {
            return Err(Error::bad_input(format!("row {row} has class {}, of {width} classes", classes[row])));
        }
    }
    Ok(())
}
