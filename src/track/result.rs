//! What TensorBoard shows of a run's result: histograms of the trained weights, the confusion matrix.

use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use super::events::{EventFile, Histogram, Image};
use crate::base::{Error, Result};

/// Buckets of a histogram.
const BUCKETS: usize = 50;
/// The longer side of the picture of a matrix is at least this many pixels.
const SIDE: usize = 320;
/// A matrix of more rows is no picture that anybody reads.
const MOST: usize = 500;

/// An event file for the result of a run, beside those of its training.
pub struct ResultEvents {
    events: EventFile,
    step: u64,
}

impl ResultEvents {
    /// Begins a file whose values belong to `step`, the one after which the result was taken.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(run_dir: &Path, step: u64) -> Result<Self> {
        // What begins a file makes TensorBoard drop what others hold from its first step on.
        Ok(Self { events: EventFile::create(run_dir, step + 1)?, step })
    }

    /// The distribution of the values of a tensor, in 50 equal buckets. One that is empty or not finite is left out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn histogram(&mut self, tag: &str, values: &[f32]) -> Result<()> {
        histogram(values).map_or(Ok(()), |histogram| self.events.append_histogram(self.step, tag, histogram))
    }

    /// Counts `[row][column]` as a picture: the darker, the larger its share of the row. More than 500 rows are left
    /// out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn matrix(&mut self, tag: &str, counts: &[Vec<u64>]) -> Result<()> {
        if counts.is_empty() || counts.len() > MOST {
            return Ok(());
        }
        let picture = picture(counts);
        let mut png = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut png, ImageFormat::Png)
            .map_err(|e| Error::failed("a confusion matrix cannot be drawn").because(e))?;
        let (width, height) = (picture.width() as i32, picture.height() as i32);
        let image = Image { height, width, colorspace: 3, encoded_image_string: png.into_inner() };
        self.events.append_image(self.step, tag, image)
    }

    /// Makes the file durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<()> {
        self.events.finish()
    }
}

fn histogram(values: &[f32]) -> Option<Histogram> {
    let of = |f: fn(f64, f64) -> f64, from: f64| values.iter().fold(from, |a, x| f(a, f64::from(*x)));
    let (min, max) = (of(f64::min, f64::INFINITY), of(f64::max, f64::NEG_INFINITY));
    if !(min.is_finite() && max.is_finite()) || values.iter().any(|x| x.is_nan()) {
        return None;
    }
    let width = ((max - min) / BUCKETS as f64).max(1e-12);
    let mut bucket = vec![0.0; BUCKETS];
    for x in values {
        bucket[(((f64::from(*x) - min) / width) as usize).min(BUCKETS - 1)] += 1.0;
    }
    Some(Histogram {
        min,
        max,
        num: values.len() as f64,
        sum: of(|a, x| a + x, 0.0),
        sum_squares: of(|a, x| a + x * x, 0.0),
        bucket_limit: (1..=BUCKETS).map(|i| min + width * i as f64).collect(),
        bucket,
    })
}

fn picture(counts: &[Vec<u64>]) -> RgbImage {
    let n = counts.len();
    let cell = SIDE.div_ceil(n).max(1);
    let side = (cell * n) as u32;
    RgbImage::from_fn(side, side, |x, y| {
        let row = &counts[y as usize / cell];
        let share = row[x as usize / cell] as f32 / row.iter().sum::<u64>().max(1) as f32;
        let mix = |ink: f32| (255.0 + (ink - 255.0) * share) as u8;
        Rgb([mix(0.0), mix(90.0), mix(170.0)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        let histogram = histogram(&values).unwrap();
        assert_eq!(histogram.bucket.iter().sum::<f64>(), 1000.0);
        assert!(histogram.bucket_limit.last().unwrap() + 1e-9 >= histogram.max);
        assert_eq!(self::histogram(&[2.0; 3]).unwrap().bucket[0], 3.0);
        assert!(self::histogram(&[]).is_none() && self::histogram(&[1.0, f32::NAN]).is_none());
    }

    #[test]
    fn a_matrix_is_dark_where_its_counts_are() {
        let picture = picture(&[vec![4, 0], vec![1, 1]]);
        assert_eq!((picture.width(), picture.height()), (320, 320));
        assert_eq!(picture.get_pixel(0, 0), &Rgb([0, 90, 170]));
        assert_eq!(picture.get_pixel(319, 0), &Rgb([255, 255, 255]));
        assert_eq!(picture.get_pixel(0, 319), picture.get_pixel(319, 319));
    }
}
