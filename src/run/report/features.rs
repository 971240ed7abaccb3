//! The features of rows, as they are brought down to two dimensions.

use crate::base::Result;
use crate::train::Features;

/// A row of features of more numbers than this is averaged over its places before it is projected.
const WIDE: usize = 8192;

/// The activations of some rows side by side, `[rows, width]`. Wide ones are averaged over their places first: tokens
/// `[tokens, width]` over the tokens, maps `[channels, height, width]` over height and width.
///
/// # Errors
/// Those of the cache.
pub fn features(rows: &dyn Features, positions: &[usize]) -> Result<Vec<f32>> {
    let mut parts: Vec<(usize, Vec<f32>)> = Vec::new();
    for (input, spec) in rows.inputs().iter().enumerate() {
        let elements = spec.elements();
        let mut values = vec![0.0; elements * positions.len()];
        // A row at a time: whole maps of many rows would be large.
        for (values, position) in values.chunks_exact_mut(elements.max(1)).zip(positions) {
            rows.read(input, &[*position], values)?;
        }
        parts.push(match spec.shape[..] {
            [tokens, width] if elements > WIDE => (width, averaged(&values, tokens, width, width, 1)),
            [channels, height, width] if elements > WIDE => {
                (channels, averaged(&values, height * width, channels, 1, height * width))
            }
            _ => (elements, values),
        });
    }
    let joined = (0..positions.len())
        .flat_map(|row| parts.iter().flat_map(move |(width, values)| values[row * width..][..*width].iter().copied()));
    Ok(joined.collect())
}

/// The mean over `places` of each of `width` numbers, in rows of `places · width`.
fn averaged(values: &[f32], places: usize, width: usize, place_stride: usize, stride: usize) -> Vec<f32> {
    let mean =
        |row: &[f32], at: usize| (0..places).map(|p| row[at * stride + p * place_stride]).sum::<f32>() / places as f32;
    values.chunks_exact(places * width).flat_map(|row| (0..width).map(move |at| mean(row, at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::InMemory;

    #[test]
    fn wide_features_are_averaged_over_their_places() {
        let tokens: Vec<f32> = (0..4 * 4096).map(|i| (i / 4096) as f32).collect();
        let maps: Vec<f32> = (0..2 * 100 * 100).map(|i| (i / 10_000) as f32).collect();
        let rows = InMemory::new(1)
            .with("tokens", &[4, 4096], tokens)
            .unwrap()
            .with("map", &[2, 100, 100], maps)
            .unwrap()
            .with("cls", &[1], vec![7.0])
            .unwrap();
        let values = features(&rows, &[0]).unwrap();
        assert_eq!(values.len(), 4096 + 2 + 1);
        assert_eq!((values[0], values[4095], &values[4096..]), (1.5, 1.5, &[0.0, 1.0, 7.0][..]));
    }
}
