//! An engine that takes 8-bit pixels, behind the one interface of all engines.

use std::borrow::Cow;

use crate::base::{Error, Result};
use crate::engine::{Engine, InputTensor, Port};
use crate::export::Input;
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
/// `[batch, height, width, 3]`; texts it passes on.
pub struct FromPixels {
    inner: Box<dyn Engine>,
    /// The engine's inputs under the names that prepared samples have.
    inputs: Vec<Port>,
    /// Of each input that takes pixels.
    pixels: Vec<Vec<u8>>,
}

impl FromPixels {
    /// Behind an engine that takes pixels wherever it takes pictures.
    pub fn new(inner: Box<dyn Engine>) -> Self {
        let named = |port: &Port| {
            let name = port.name.strip_suffix(Input::Pixels.name());
            Port {
                name: name.map_or_else(|| port.name.clone(), |field| format!("{field}{}", Input::Tensor.name())),
                ..port.clone()
            }
        };
        let inputs: Vec<Port> = inner.inputs().iter().map(named).collect();
        let pixels = vec![Vec::new(); inputs.len()];
        Self { inner, inputs, pixels }
    }
}

impl Engine for FromPixels {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        self.inner.outputs()
    }

    fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
        let mut shapes = Vec::with_capacity(inputs.len());
        for (input, pixels) in inputs.iter().zip(&mut self.pixels) {
            let InputTensor::F32 { shape, data } = input else {
                shapes.push(Cow::Borrowed(input.shape()));
                continue;
            };
            let &[batch, channels, height, width] = *shape else {
                return Err(Error::failed("an engine of pixels takes pictures"));
            };
            let plane = height * width;
            pixels.clear();
            for picture in data.chunks_exact((channels * plane).max(1)) {
                let values = (0..plane).flat_map(|at| (0..channels).map(move |c| picture[c * plane + at]));
                pixels.extend(values.map(|x| x.round() as u8));
            }
            shapes.push(Cow::Owned(vec![batch, height, width, channels]));
        }
        let converted = inputs.iter().zip(&self.pixels).zip(&shapes).map(|((input, pixels), shape)| match input {
            InputTensor::F32 { .. } => InputTensor::U8 { shape, data: pixels },
            other => *other,
        });
        self.inner.run(&converted.collect::<Vec<_>>(), outputs)
    }
}
