//! Targets as a model that was trained on others of their kind takes them.

use super::Targets;
use crate::base::suggest::one_of;
use crate::base::{Error, Result};

impl Targets {
    /// Gives them the names and numbers of a model's outputs.
    ///
    /// # Errors
    /// A name that the model does not know, or a value that it predicts and that is not there.
    pub fn renumber(&mut self, known: &[String]) -> Result<()> {
        let what = match self {
            Self::Classes { .. } | Self::Masks { .. } => "class",
            Self::MultiLabel { .. } => "label",
            Self::Values { .. } => "value",
            Self::Pairs { .. } => "field",
        };
        let number = |name: &String| {
            let found = known.iter().position(|other| other == name).and_then(|at| u32::try_from(at).ok());
            found.ok_or_else(|| {
                let known = one_of(known.iter().map(String::as_str));
                Error::bad_input(format!("the data have the {what} `{name}`; the run knows {known}"))
            })
        };
        if matches!(self, Self::Masks { .. }) && self.names() != known {
            let known = one_of(known.iter().map(String::as_str));
            return Err(Error::bad_input(format!("`data.names` must be those of the run, in their order: {known}")));
        }
        let numbers = self.names().iter().map(number).collect::<Result<Vec<u32>>>()?;
        let missing = (0..known.len() as u32).find(|number| !numbers.contains(number));
        match self {
            // Whatever the fields are called, their order is that of the run.
            Self::Masks { .. } | Self::Pairs { .. } => {}
            Self::Classes { names, of_row } => {
                of_row.iter_mut().for_each(|class| *class = numbers[*class as usize]);
                *names = known.to_vec();
            }
            Self::MultiLabel { names, of_row } => {
                for labels in of_row {
                    labels.iter_mut().for_each(|label| *label = numbers[*label as usize]);
                    labels.sort_unstable();
                }
                *names = known.to_vec();
            }
            Self::Values { names, of_row } => {
                if let Some(missing) = missing {
                    let name = &known[missing as usize];
                    return Err(Error::bad_input(format!("the data lack the value `{name}`, which the run predicts")));
                }
                let before = of_row.clone();
                let width = names.len().max(1);
                for (row, before) in of_row.chunks_exact_mut(width).zip(before.chunks_exact(width)) {
                    before.iter().zip(&numbers).for_each(|(value, place)| row[*place as usize] = *value);
                }
                *names = known.to_vec();
            }
        }
        Ok(())
    }

    /// Keeps some rows, in this order.
    pub fn keep(&mut self, rows: &[usize]) {
        match self {
            Self::Classes { of_row, .. } => *of_row = chosen(of_row, rows, 1),
            Self::Masks { of_row, .. } => *of_row = chosen(of_row, rows, 1),
            Self::MultiLabel { of_row, .. } => *of_row = chosen(of_row, rows, 1),
            Self::Pairs { names, of_row } => *of_row = chosen(of_row, rows, names.len()),
            Self::Values { names, of_row } => *of_row = chosen(of_row, rows, names.len()),
        }
    }
}

/// Some rows of so many values each.
fn chosen<T: Clone>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    rows.iter().flat_map(|&row| values[row * width..][..width].iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn targets_get_the_numbers_of_the_model() {
        let known = names(&["a", "b", "c"]);
        let mut classes = Targets::Classes { names: names(&["c", "a"]), of_row: vec![0, 1, 1] };
        classes.renumber(&known).unwrap();
        assert_eq!(classes, Targets::Classes { names: known.clone(), of_row: vec![2, 0, 0] });
        let mut labels = Targets::MultiLabel { names: names(&["c", "a"]), of_row: vec![vec![0, 1], vec![1], vec![]] };
        labels.renumber(&known).unwrap();
        assert_eq!(labels, Targets::MultiLabel { names: known, of_row: vec![vec![0, 2], vec![0], vec![]] });
        let mut values = Targets::Values { names: names(&["y", "x"]), of_row: vec![1.0, 2.0, 3.0, 4.0] };
        values.renumber(&names(&["x", "y"])).unwrap();
        assert_eq!(values, Targets::Values { names: names(&["x", "y"]), of_row: vec![2.0, 1.0, 4.0, 3.0] });
        let lacks = values.renumber(&names(&["x", "y", "z"])).unwrap_err();
        assert!(lacks.to_string().contains("lack the value `z`"), "{lacks}");
        let strange = values.renumber(&names(&["x"])).unwrap_err();
        assert!(strange.to_string().contains("the value `y`; the run knows `x`"), "{strange}");
    }

    #[test]
    fn some_rows_are_kept() {
        let mut labels = Targets::MultiLabel { names: names(&["a"]), of_row: vec![vec![0], vec![], vec![0]] };
        labels.keep(&[2, 1]);
        assert_eq!(labels, Targets::MultiLabel { names: names(&["a"]), of_row: vec![vec![0], vec![]] });
        let mut pairs = Targets::Pairs { names: names(&["a", "b"]), of_row: vec![0, 1, 0, 2] };
        pairs.keep(&[1]);
        assert_eq!(pairs, Targets::Pairs { names: names(&["a", "b"]), of_row: vec![0, 2] });
    }
}
