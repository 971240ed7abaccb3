//! What trainers read.

use crate::base::{Error, Result};

/// One input of a graph: an output of the cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name, such as `cls`.
    pub name: String,
    /// The shape of a row.
    pub shape: Vec<usize>,
}

impl InputSpec {
    /// Elements of a row.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Rows of one or several inputs, by position in the dataset. Read from several threads at once.
pub trait Features: Sync {
    /// How many rows there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inputs, in order.
    fn inputs(&self) -> &[InputSpec];

    /// Copies rows of an input, in the order asked for, to `out` `[rows, …]`.
    ///
    /// # Errors
    /// The rows cannot be read.
    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()>;

    /// Which row stands for a training row in an epoch: itself, or a stored variant of it.
    fn view(&self, row: u32, _epoch: u32) -> u32 {
        row
    }

    /// Tells that these rows will be read soon, of every input, so that they can be fetched from disk meanwhile.
    fn announce(&self, _rows: &[u32]) {}

    /// For features too large to be kept in memory: how many neighbouring rows should be visited at about the
    /// same time, so that they are read from disk together. A function of the features alone, because the
    /// order of training depends on it.
    fn block_rows(&self) -> Option<usize> {
        None
    }

    /// Whether reading is copying from memory, so that reading ahead gains nothing.
    fn in_memory(&self) -> bool {
        false
    }
}

/// Asks for the first numbers of a row to be brought from memory while others are copied: rows in a random order are
/// not foreseen by the processor.
#[inline]
fn prefetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row[..row.len().min(2048)].chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is of the first vector units, which all such processors have, and changes nothing but the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// Features in memory.
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    rows: usize,
    inputs: Vec<InputSpec>,
    values: Vec<Vec<f32>>,
}

impl InMemory {
    /// No input yet, for so many rows.
    pub fn new(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Adds an input, with values `[rows, …shape]`.
    ///
    /// # Errors
    /// The values do not fill the rows.
    pub fn with(mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let spec = InputSpec { name: name.into(), shape: shape.to_vec() };
        if values.len() != spec.elements() * self.rows {
            let (n, rows) = (values.len(), self.rows);
            return Err(Error::bad_input(format!("{n} values do not fill {rows} rows of shape `{shape:?}`")));
        }
        self.inputs.push(spec);
        self.values.push(values);
        Ok(self)
    }

    /// Copies all of other features.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn copy_of(features: &dyn Features) -> Result<Self> {
        let rows: Vec<usize> = (0..features.len()).collect();
        features.inputs().iter().enumerate().try_fold(Self::new(rows.len()), |copy, (i, spec)| {
            let mut values = vec![0.0; rows.len() * spec.elements()];
            features.read(i, &rows, &mut values)?;
            copy.with(&spec.name, &spec.shape, values)
        })
    }
}

impl Features for InMemory {
    fn len(&self) -> usize {
        self.rows
    }

    fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let width = self.inputs[input].elements();
        let row = |row: usize| &self.values[input][row * width..][..width];
        for (i, (at, out)) in rows.iter().zip(out.chunks_exact_mut(width.max(1))).enumerate() {
            if let Some(later) = rows.get(i + 2) {
                prefetch(row(*later));
            }
            out.copy_from_slice(row(*at));
        }
        Ok(())
    }

    fn in_memory(&self) -> bool {
        true
    }
}
