//! An engine that takes 8-bit pixels, behind the one interface of all engines.

use crate::base::{Error, Result};
use crate::engine::{Engine, InputTensor, Port};
use crate::sample::Transform;

/// The transform of which an engine of pixels gets its input: the same picture as whole numbers.
pub fn whole(transform: &Transform) -> Transform {
    match transform.clone() {
        Transform::Image(mut steps) => {
            (steps.scale, steps.mean, steps.std) = (1.0, [0.0; 3], [1.0; 3]);
            Transform::Image(steps)
        }
        other => other,
    }
}

/// Takes whole numbers `[batch, 3, height, width]` and gives them to an engine as pixels
/// `[batch, height, width, 3]`.
pub struct FromPixels {
    inner: Box<dyn Engine>,
    pixels: Vec<u8>,
}

impl FromPixels {
    /// Behind an engine whose only input is pixels.
    pub fn new(inner: Box<dyn Engine>) -> Self {
        Self { inner, pixels: Vec::new() }
    }
}

impl Engine for FromPixels {
    fn inputs(&self) -> &[Port] {
        self.inner.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.inner.outputs()
    }

    fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
        let &[InputTensor::F32 { shape: &[batch, channels, height, width], data }] = inputs else {
            return Err(Error::failed("an engine of pixels takes one input of pictures"));
        };
        let plane = height * width;
        self.pixels.clear();
        for picture in data.chunks_exact((channels * plane).max(1)) {
            let values = (0..plane).flat_map(|at| (0..channels).map(move |c| picture[c * plane + at]));
            self.pixels.extend(values.map(|x| x.round() as u8));
        }
        let shape = [batch, height, width, channels];
        self.inner.run(&[InputTensor::U8 { shape: &shape, data: &self.pixels }], outputs)
    }
}
