//! What `caft engine build --precision int8` calibrates on.

use anyhow::Result;

use super::build::named;
use crate::base::{Digest, Error, KeyWriter};
use crate::engine::Samples;
use crate::engine::precision::CalibrationSamples;
use crate::graph::onnx::OutputSpec;
use crate::recipe::{CalibrationConfig, CalibrationMethod};
use crate::sample::{Tensor, Values};

/// How `--precision int8` is calibrated, on pictures of `--pictures` or texts of `--texts`.
#[derive(Debug, clap::Args)]
pub struct Calibrate {
    /// How ranges are chosen in int8: `percentile`, `entropy` or `minmax`.
    #[arg(long, value_parser = named::<CalibrationMethod>, value_name = "METHOD")]
    calibration: Option<CalibrationMethod>,
    /// The least cosine with fp32 in int8; layers stay in float until it is reached.
    #[arg(long, value_name = "COSINE")]
    min_cosine: Option<f64>,
}

/// Samples to calibrate on, with their digest.
pub struct Calibrating {
    pub config: CalibrationConfig,
    pub digest: Digest,
    samples: Vec<Vec<Tensor>>,
}

impl Calibrate {
    /// Takes as many samples as are wanted of those that `read` gives.
    ///
    /// # Errors
    /// Those of `read`; there are fewer than two.
    pub fn read(
        &self,
        outputs: &[OutputSpec],
        read: impl FnOnce(usize) -> Result<Option<Samples>>,
    ) -> Result<Calibrating> {
        let default = CalibrationConfig::default();
        let config = CalibrationConfig {
            method: self.calibration.unwrap_or(default.method),
            min_cosine: self.min_cosine.unwrap_or(default.min_cosine),
            ..default
        };
        let wanted = config.samples as usize;
        let Some(Samples { inputs: samples, .. }) = read(wanted + wanted / 4)? else {
            let hint =
                "name what it will see: a folder of pictures with `--pictures`, or a file of texts with `--texts`";
            return Err(Error::bad_input("`int8` is calibrated on samples, and none are named").hint(hint).into());
        };
        if samples.len() < 2 {
            return Err(Error::bad_input("`int8` is calibrated on two samples or more").into());
        }
        let key = KeyWriter::new("samples for calibration").json("config", &config).json("outputs", &outputs);
        let bytes = |tensor: &Tensor| match &tensor.data {
            Values::F32(values) => bytemuck::cast_slice(values).to_vec(),
            Values::I64(values) => bytemuck::cast_slice::<i64, u8>(values).to_vec(),
        };
        let key = samples.iter().flatten().fold(key, |key, tensor| key.field(&tensor.name, bytes(tensor)));
        Ok(Calibrating { config, digest: key.finish(), samples })
    }
}

impl Calibrating {
    /// Four parts to measure, one to judge on.
    pub fn samples(&self) -> CalibrationSamples {
        let is_held_out = |at: usize| at % 5 == 4 || at + 1 == self.samples.len();
        let part = |held_out: bool| {
            let part = self.samples.iter().enumerate().filter(|(at, _)| is_held_out(*at) == held_out);
            part.map(|(_, inputs)| inputs.clone()).collect()
        };
        CalibrationSamples::new(part(false), part(true))
    }
}
