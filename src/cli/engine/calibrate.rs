//! What `caft engine build --precision int8` calibrates on.

use std::path::Path;

use anyhow::Result;

use super::build::named;
use crate::base::{Digest, Error, KeyWriter};
use crate::engine::Samples;
use crate::engine::precision::CalibrationSamples;
use crate::graph::onnx::OutputSpec;
use crate::recipe::{CalibrationConfig, CalibrationMethod};
use crate::sample::image::ImagePreprocess;

/// How `--precision int8` is calibrated, on pictures of `--pictures`.
#[derive(Debug, clap::Args)]
pub struct Calibrate {
    /// How ranges are chosen in int8: `percentile`, `entropy` or `minmax`.
    #[arg(long, value_parser = named::<CalibrationMethod>, value_name = "METHOD")]
    calibration: Option<CalibrationMethod>,
    /// The least cosine with fp32 in int8; layers stay in float until it is reached.
    #[arg(long, value_name = "COSINE")]
    min_cosine: Option<f64>,
}

/// Pictures to calibrate on, with their digest.
pub struct Pictures {
    pub config: CalibrationConfig,
    pub digest: Digest,
    rows: Vec<Vec<f32>>,
    /// The shape of each.
    pub row: Vec<usize>,
}

impl Calibrate {
    /// Reads the pictures.
    ///
    /// # Errors
    /// None are named, or there are fewer than two; one cannot be decoded.
    pub fn read(
        &self,
        pictures: Option<&Path>,
        preprocess: &ImagePreprocess,
        outputs: &[OutputSpec],
    ) -> Result<Pictures> {
        let default = CalibrationConfig::default();
        let config = CalibrationConfig {
            method: self.calibration.unwrap_or(default.method),
            min_cosine: self.min_cosine.unwrap_or(default.min_cosine),
            ..default
        };
        let unsaid = || {
            Error::bad_input("`int8` is calibrated on pictures, and none are named")
                .hint("name a folder of pictures like those it will see with `--pictures`")
        };
        let wanted = config.samples as usize;
        let Samples { rows, .. } = Samples::pictures(pictures.ok_or_else(unsaid)?, preprocess, wanted + wanted / 4)?;
        if rows.len() < 2 {
            return Err(Error::bad_input("`int8` is calibrated on two pictures or more").into());
        }
        let key = KeyWriter::new("pictures for calibration").json("config", &config).json("outputs", &outputs);
        let key = rows.iter().fold(key, |key, row| key.field("picture", bytemuck::cast_slice(row)));
        Ok(Pictures { config, digest: key.finish(), rows, row: preprocess.output_shape().to_vec() })
    }
}

impl Pictures {
    /// Four parts to measure, one to judge on.
    pub fn samples(&self) -> CalibrationSamples {
        let is_held_out = |at: usize| at % 5 == 4 || at + 1 == self.rows.len();
        let part = |held_out: bool| {
            let rows = self.rows.iter().enumerate().filter(|(at, _)| is_held_out(*at) == held_out);
            rows.map(|(_, row)| row.clone()).collect()
        };
        CalibrationSamples::of_rows(&self.row, part(false), part(true))
    }
}
