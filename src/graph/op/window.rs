//! Windows that slide over maps: what convolutions and pools have in common.

use crate::base::Result;
use crate::graph::Shape;

/// How a window moves over the height and the width of maps `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps down and to the right.
    pub strides: [usize; 2],
    /// Distances between the window's places.
    pub dilations: [usize; 2],
    /// What is added at the top, left, bottom and right.
    pub pads: [usize; 4],
    /// Whether a last window that lies partly outside counts (ONNX `ceil_mode`).
    pub ceil: bool,
}

impl Window {
    /// A window that moves by one, without pads.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, strides: [1, 1], dilations: [1, 1], pads: [0; 4], ceil: false }
    }

    /// Places per axis that the window stops at in maps of this height and width; `None` if it does not fit.
    pub fn places(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let reach = self.dilations[i].checked_mul(self.kernel[i].checked_sub(1)?)?.checked_add(1)?;
            let (before, after) = (self.pads[i], self.pads[i + 2]);
            let room = size[i].checked_add(before)?.checked_add(after)?.checked_sub(reach)?;
            let stride = self.strides[i];
            let floor = room.checked_div(stride)? + 1;
            // A window that would begin in the pad behind does not count.
            let more = self.ceil && !room.is_multiple_of(stride) && floor * stride < size[i] + before;
            Some(floor + usize::from(more))
        };
        Some([along(0)?, along(1)?])
    }

    /// The places for a map's shape, with channels and size.
    ///
    /// # Errors
    /// It is no map, or the window does not fit.
    pub(super) fn over(&self, operator: &str, x: &Shape, inputs: &[&Shape]) -> Result<Map> {
        let &[channels, height, width] = x.dims.as_slice() else {
            return Err(Shape::refuse(operator, "it needs maps `[channels, height, width]`", inputs));
        };
        match self.places([height, width]) {
            Some(places) if x.batched => Ok(Map { channels, size: [height, width], places }),
            _ => Err(Shape::refuse(operator, "the window does not fit", inputs)),
        }
    }

    /// Of the window that stops at `place` along axis `i`: the offset in the map of its place `k`, if inside.
    pub(super) fn at(&self, i: usize, place: usize, k: usize, size: usize) -> Option<usize> {
        (place * self.strides[i] + k * self.dilations[i]).checked_sub(self.pads[i]).filter(|at| *at < size)
    }

    /// The places along axis `i` whose window has its place `k` inside the map, as a range.
    pub(super) fn inside(&self, i: usize, k: usize, size: usize, places: usize) -> std::ops::Range<usize> {
        let (stride, offset, pad) = (self.strides[i], k * self.dilations[i], self.pads[i]);
        let begin = pad.saturating_sub(offset).div_ceil(stride);
        let end = (size + pad).saturating_sub(offset).div_ceil(stride).min(places);
        begin.min(end)..end
    }

    /// Calls `body(place, count, at)` for each run of neighbouring places whose window has its place `k`
    /// inside the map: `count` places from `place` on read the map from `at` on, in steps of the stride.
    pub(super) fn runs(&self, map: &Map, k: [usize; 2], mut body: impl FnMut(usize, usize, usize)) {
        let columns = self.inside(1, k[1], map.size[1], map.places[1]);
        let Some(left) = self.at(1, columns.start, k[1], map.size[1]).filter(|_| !columns.is_empty()) else { return };
        for row in self.inside(0, k[0], map.size[0], map.places[0]) {
            if let Some(top) = self.at(0, row, k[0], map.size[0]) {
                body(row * map.places[1] + columns.start, columns.len(), top * map.size[1] + left);
            }
        }
    }
}

/// Maps that a window moves over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub channels: usize,
    pub size: [usize; 2],
    pub places: [usize; 2],
}

impl Map {
    pub fn area(&self) -> usize {
        self.size[0] * self.size[1]
    }

    pub fn stops(&self) -> usize {
        self.places[0] * self.places[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_stop_where_onnx_says() {
        let window = Window { strides: [2, 2], pads: [1, 1, 1, 1], ..Window::new([3, 3]) };
        assert_eq!(window.places([7, 8]), Some([4, 4]));
        let ceil = Window { ceil: true, ..Window::new([3, 3]) };
        assert_eq!(Window { strides: [2, 2], ..ceil }.places([8, 7]), Some([4, 3]));
        assert_eq!(Window::new([3, 3]).places([2, 9]), None);
        assert_eq!(Window { strides: [0, 1], ..Window::new([1, 1]) }.places([2, 9]), None);
        for (k, size) in [(0, 7), (1, 7), (2, 8)] {
            let places = window.places([size, size]).unwrap()[0];
            let range: Vec<usize> = window.inside(0, k, size, places).collect();
            let slow: Vec<usize> = (0..places).filter(|p| window.at(0, *p, k, size).is_some()).collect();
            assert_eq!(range, slow);
        }
    }
}
