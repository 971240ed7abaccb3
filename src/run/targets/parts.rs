//! Rows that are places of a sample.

use crate::base::{Error, Result};
use crate::graph::Layout;
use crate::train::InputSpec;

/// The target of a place that has none.
pub const NOTHING: u32 = u32::MAX;

/// Where the places of a picture are in what is stored of it: among its tokens, or in its maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Places below each other.
    pub height: usize,
    /// Places beside each other.
    pub width: usize,
    /// Where they are in each input.
    pub layouts: Vec<Layout>,
}

/// The places of samples, with their targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Where they are.
    pub grid: Grid,
    /// The class of each place of each sample, or [`NOTHING`].
    pub targets: Vec<u32>,
}

impl Parts {
    /// The places of some samples that have a target.
    pub fn rows(&self, samples: &[u32]) -> Vec<u32> {
        let count = self.grid.places() as u32;
        let all = samples.iter().flat_map(|sample| sample * count..(sample + 1) * count);
        all.filter(|row| self.targets[*row as usize] != NOTHING).collect()
    }

    /// The samples that some places, in their order, are of.
    pub fn samples(&self, rows: &[u32]) -> Vec<u32> {
        let mut samples: Vec<u32> = rows.iter().map(|row| row / self.grid.places() as u32).collect();
        samples.dedup();
        samples
    }
}

impl Grid {
    /// Of outputs that are maps `[channels, height, width]`, or tokens `[tokens, dim]` of a picture of `size` (height,
    /// width), whose last tokens are those of square patches, row by row.
    ///
    /// # Errors
    /// An output is of another shape, or they have different places.
    pub fn of(inputs: &[InputSpec], size: [usize; 2]) -> Result<Self> {
        let mut found: Option<Self> = None;
        for InputSpec { name, shape } in inputs {
            let ([height, width], layout) = match shape[..] {
                [tokens, _] => {
                    let grid = patches(tokens, size).ok_or_else(|| {
                        let [height, width] = size;
                        let what = format!("the {tokens} tokens of `{name}` are no patches of a picture");
                        Error::bad_input(what).hint(format!("the network takes {height}×{width} pixels"))
                    })?;
                    (grid, Layout::Tokens { before: tokens - grid[0] * grid[1] })
                }
                [_, height, width] => ([height, width], Layout::Map { height, width }),
                _ => {
                    let what = format!(
                        "masks need outputs with places, tokens `[tokens, dim]` or maps `[channels, height, width]`; \
                         `{name}` is {shape:?}"
                    );
                    return Err(Error::bad_input(what).hint("name such an output of the backbone as `outputs`"));
                }
            };
            let grid = found.get_or_insert(Self { height, width, layouts: Vec::new() });
            if [grid.height, grid.width] != [height, width] {
                let what = format!(
                    "`{name}` has {height}×{width} places, and the outputs before it have {}×{}",
                    grid.height, grid.width
                );
                return Err(Error::bad_input(what).hint("name outputs of one size"));
            }
            grid.layouts.push(layout);
        }
        found.filter(|grid| grid.places() > 0).ok_or_else(|| Error::bad_input("there are no places to train on"))
    }

    /// Places of a sample.
    pub fn places(&self) -> usize {
        self.height * self.width
    }

    /// Inputs of one place.
    pub fn inputs(&self, inputs: &[InputSpec]) -> Vec<InputSpec> {
        let of_place = |(spec, layout): (&InputSpec, &Layout)| {
            let values = match layout {
                Layout::Tokens { .. } => spec.shape.last(),
                Layout::Map { .. } => spec.shape.first(),
            };
            InputSpec { shape: values.copied().into_iter().collect(), ..spec.clone() }
        };
        inputs.iter().zip(&self.layouts).map(of_place).collect()
    }

    /// The first value of a place in an input of so many values per place, and the distance to the next.
    pub fn values(&self, input: usize, place: usize, width: usize) -> (usize, usize) {
        match self.layouts[input] {
            Layout::Tokens { before } => ((before + place) * width, 1),
            Layout::Map { height, width } => (place, height * width),
        }
    }
}

/// Rows and columns of the square patches of a picture: most of the tokens, and with patches that fill the picture if
/// any do.
fn patches(tokens: usize, [height, width]: [usize; 2]) -> Option<[usize; 2]> {
    let grids = (1..=height.min(width)).map(|side| (side, [height / side, width / side]));
    let fitting = grids.filter(|(_, [rows, columns])| rows * columns <= tokens);
    fitting
        .max_by_key(|(side, [rows, columns])| (rows * columns, height % side == 0 && width % side == 0))
        .map(|(_, grid)| grid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[usize]) -> InputSpec {
        InputSpec { name: "x".into(), shape: shape.to_vec() }
    }

    #[test]
    fn places_are_found_among_tokens_and_in_maps() {
        let of = |shapes: &[&[usize]], size| Grid::of(&shapes.iter().map(|s| spec(s)).collect::<Vec<_>>(), size);
        let grid = of(&[&[201, 8]], [224, 224]).unwrap();
        assert_eq!((grid.height, grid.width, &grid.layouts[..]), (14, 14, &[Layout::Tokens { before: 5 }][..]));
        let wide = of(&[&[281, 8], &[32, 14, 20]], [224, 320]).unwrap();
        assert_eq!((wide.height, wide.width, wide.places()), (14, 20, 280));
        assert_eq!(wide.layouts, [Layout::Tokens { before: 1 }, Layout::Map { height: 14, width: 20 }]);
        assert_eq!(wide.inputs(&[spec(&[281, 8]), spec(&[32, 14, 20])]), [spec(&[8]), spec(&[32])]);
        assert_eq!((wide.values(0, 2, 8), wide.values(1, 2, 32)), ((24, 1), (2, 280)));
        // Patches of 15 pixels leave 14 pixels over at each side of 224, those of 16 none.
        assert_eq!(patches(197, [224, 224]), Some([14, 14]));
        let message = |shapes: &[&[usize]]| of(shapes, [224, 224]).unwrap_err().to_string();
        assert!(message(&[&[8]]).contains("need outputs with places"));
        assert!(message(&[&[196, 8], &[8, 7, 7]]).contains("7×7 places, and the outputs before it have 14×14"));
        assert!(message(&[]).contains("no places"));
    }

    #[test]
    fn places_without_a_target_are_no_rows() {
        let grid = Grid { height: 1, width: 2, layouts: vec![] };
        let parts = Parts { grid, targets: vec![0, NOTHING, 1, 0, NOTHING, NOTHING] };
        assert_eq!(parts.rows(&[1, 0]), [2, 3, 0]);
        assert_eq!((parts.samples(&[2, 3, 0]), parts.rows(&[2])), (vec![1, 0], vec![]));
    }
}
