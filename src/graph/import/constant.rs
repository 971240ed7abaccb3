//! What is known without running: weights, numbers, and what is computed from them alone.

use std::ops::Range;

use crate::base::{Error, Result};
use crate::graph::onnx::proto::{DataType, NodeProto, TensorProto};
use crate::graph::onnx::shape::{Fact, Number, axis_of};

/// A tensor that is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub dims: Vec<usize>,
    pub data: Data,
    /// The initialiser that it is, perhaps with its dimensions in another order: a weight.
    pub weight: Option<String>,
}

/// Elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl Data {
    /// Some ranges of the elements, one after the other.
    fn pick(&self, ranges: impl Iterator<Item = Range<usize>>) -> Self {
        match self {
            Self::Floats(values) => Self::Floats(ranges.flat_map(|range| values[range].iter().copied()).collect()),
            Self::Ints(values) => Self::Ints(ranges.flat_map(|range| values[range].iter().copied()).collect()),
        }
    }
}

impl Constant {
    /// Reads a tensor of the file; `None` for texts and quantised numbers.
    pub fn read(tensor: &TensorProto, weight: bool) -> Result<Option<Self>> {
        let data = match tensor.data_type() {
            DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => {
                Data::Floats(tensor.to_f32()?)
            }
            DataType::Int64 | DataType::Int32 | DataType::Bool => Data::Ints(tensor.to_i64()?),
            _ => return Ok(None),
        };
        let weight = (weight && matches!(data, Data::Floats(_))).then(|| tensor.name.clone());
        Ok(Some(Self { dims: tensor.shape()?, data, weight }))
    }

    /// What shape inference knows of a tensor, if all of it.
    pub fn of_fact(fact: &Fact) -> Option<Self> {
        let dims: Vec<usize> = fact.dims.as_ref()?.iter().map(|d| d.known()).collect::<Option<_>>()?;
        let values = fact.values.as_ref()?;
        let ints = values.iter().map(|v| v.int()?.at(1).filter(|_| !v.int().is_some_and(|d| d.is_batch())));
        let data = match ints.collect::<Option<Vec<i64>>>() {
            Some(ints) => Data::Ints(ints),
            None => Data::Floats(values.iter().map(float).collect::<Option<_>>()?),
        };
        Some(Self { dims, data, weight: None })
    }

    pub fn floats(&self) -> Vec<f32> {
        match &self.data {
            Data::Floats(values) => values.clone(),
            Data::Ints(values) => values.iter().map(|v| *v as f32).collect(),
        }
    }

    pub fn ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Ints(values) => Some(values),
            Data::Floats(_) => None,
        }
    }

    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The only number.
    pub fn scalar(&self) -> Option<f32> {
        if self.len() == 1 { self.floats().first().copied() } else { None }
    }

    /// The same numbers under other dimensions.
    pub fn reshaped(mut self, dims: Vec<usize>) -> Result<Self> {
        if dims.iter().product::<usize>() != self.len() {
            return Err(Error::bad_input("a constant has not the elements of its new shape"));
        }
        self.dims = dims;
        Ok(self)
    }

    /// The places of some numbers along the first axis. Numbers that are all the same give one place, which stands for
    /// each: places of a weight are parameters, and no two of them may be the same.
    ///
    /// # Errors
    /// Another axis; a number outside; some numbers are the same, and not all.
    fn rows(&self, axis: i64, index: &Self) -> Result<Self> {
        let size = self.dims.first().copied().unwrap_or(0);
        let place = |i: &i64| usize::try_from(if *i < 0 { i + size as i64 } else { *i }).ok().filter(|i| *i < size);
        let places = index.ints().and_then(|ints| ints.iter().map(place).collect::<Option<Vec<usize>>>());
        let (Some(mut places), 0) = (places, axis) else {
            return Err(Error::bad_input("it takes places that are not there, or not along the first axis"));
        };
        let mut dims = index.dims.clone();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == 1 && places.len() > 1 {
            places.truncate(1);
            dims.fill(1);
        } else if self.weight.is_some() && sorted.len() < places.len() {
            return Err(Error::bad_input("it takes some places of a weight several times"));
        }
        dims.extend(&self.dims[1..]);
        let inner: usize = self.dims[1..].iter().product();
        Ok(Self {
            dims,
            data: self.data.pick(places.iter().map(|place| place * inner..(place + 1) * inner)),
            ..self.clone()
        })
    }

    /// The places from `start` to `end` along an axis, both counted from the end if negative.
    fn range(&self, axis: usize, start: i64, end: i64) -> Self {
        let size = self.dims[axis];
        let place = |x: i64| (if x < 0 { x.saturating_add(size as i64) } else { x }).clamp(0, size as i64) as usize;
        let (start, end) = (place(start), place(end).max(place(start)));
        let inner: usize = self.dims[axis + 1..].iter().product();
        let outer: usize = self.dims[..axis].iter().product();
        let parts = (0..outer).map(|block| (block * size + start) * inner..(block * size + end) * inner);
        let mut dims = self.dims.clone();
        dims[axis] = end - start;
        Self { dims, data: self.data.pick(parts), ..self.clone() }
    }

    /// Dimension `i` becomes what dimension `order[i]` was.
    pub fn transposed(self, order: &[usize]) -> Self {
        let strides: Vec<usize> = order.iter().map(|axis| self.dims[axis + 1..].iter().product()).collect();
        let dims: Vec<usize> = order.iter().map(|axis| self.dims[*axis]).collect();
        let at = |mut i: usize| {
            let mut from = 0;
            for (size, stride) in dims.iter().zip(&strides).rev() {
                from += i % size * stride;
                i /= size;
            }
            from
        };
        let data = match &self.data {
            Data::Floats(values) => Data::Floats((0..values.len()).map(|i| values[at(i)]).collect()),
            Data::Ints(values) => Data::Ints((0..values.len()).map(|i| values[at(i)]).collect()),
        };
        Self { dims, data, weight: self.weight }
    }
}

fn float(number: &Number) -> Option<f32> {
    match number {
        Number::Float(value) => Some(*value as f32),
        Number::Int(dim) => Some(dim.known()? as f32),
    }
}

/// Computes a node whose inputs are all known; `None` if that is not done here. `fact` is what shape inference
/// knows of its output.
pub(super) fn fold(node: &NodeProto, inputs: &[Option<&Constant>], fact: Option<&Fact>) -> Result<Option<Constant>> {
    if let Some(tensor) = node.attribute("value").and_then(|a| a.t.as_ref()).filter(|_| node.op_type == "Constant") {
        return Constant::read(tensor, false);
    }
    if let (Some(Some(table)), Some(Some(index)), "Gather") = (inputs.first(), inputs.get(1), node.op_type.as_str())
        && table.weight.is_some()
    {
        return table.rows(node.int_or("axis", 0), index).map(Some);
    }
    if let Some(known) = fact.and_then(Constant::of_fact) {
        return Ok(Some(known));
    }
    let Some(Some(first)) = inputs.first().copied() else { return Ok(None) };
    let dims = || fact?.dims.as_ref()?.iter().map(|d| d.known()).collect::<Option<Vec<usize>>>();
    Ok(match node.op_type.as_str() {
        "Identity" | "Cast" => Some(first.clone()),
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => match dims() {
            Some(dims) => Some(first.clone().reshaped(dims)?),
            None => None,
        },
        "Transpose" => {
            let reversed: Vec<i64> = (0..first.dims.len() as i64).rev().collect();
            let order = node.ints("perm").unwrap_or(&reversed);
            let order: Vec<usize> = order.iter().filter_map(|axis| usize::try_from(*axis).ok()).collect();
            let mut seen = order.clone();
            seen.sort_unstable();
            seen.into_iter().eq(0..first.dims.len()).then(|| first.clone().transposed(&order))
        }
        "Slice" => {
            let ints = |place: usize| inputs.get(place).copied().flatten().and_then(Constant::ints);
            let of = |place: usize, name: &str| ints(place).or_else(|| node.ints(name)).map(<[i64]>::to_vec);
            match (of(1, "starts"), of(2, "ends"), of(3, "axes"), ints(4)) {
                (Some(starts), Some(ends), axes, steps) if steps.is_none_or(|steps| steps.iter().all(|s| *s == 1)) => {
                    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
                    let mut part = first.clone();
                    for ((start, end), axis) in starts.iter().zip(ends).zip(axes) {
                        let Some(axis) = axis_of(axis, part.dims.len()) else { return Ok(None) };
                        part = part.range(axis, *start, end);
                    }
                    Some(part)
                }
                _ => None,
            }
        }
        "Gather" => match inputs.get(1).copied().flatten() {
            Some(index) => Some(first.rows(node.int_or("axis", 0), index)?),
            None => None,
        },
        "Sqrt" => Some(map(first, f32::sqrt)),
        "Neg" => Some(map(first, |x| -x)),
        "Exp" => Some(map(first, f32::exp)),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" => match inputs.get(1).copied().flatten() {
            Some(second) => arithmetic(&node.op_type, first, second),
            None => None,
        },
        _ => None,
    })
}

fn map(x: &Constant, f: impl Fn(f32) -> f32) -> Constant {
    Constant { dims: x.dims.clone(), data: Data::Floats(x.floats().into_iter().map(f).collect()), weight: None }
}

/// Element by element, of equal shapes or with one number.
fn arithmetic(op: &str, a: &Constant, b: &Constant) -> Option<Constant> {
    let apply = |a: f32, b: f32| match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        _ => a.powf(b),
    };
    if let Some(b) = b.scalar() {
        return Some(map(a, |a| apply(a, b)));
    }
    if let Some(a) = a.scalar() {
        return Some(map(b, |b| apply(a, b)));
    }
    if a.dims != b.dims {
        return None;
    }
    let values = a.floats().into_iter().zip(b.floats()).map(|(a, b)| apply(a, b)).collect();
    Some(Constant { dims: a.dims.clone(), data: Data::Floats(values), weight: None })
}
