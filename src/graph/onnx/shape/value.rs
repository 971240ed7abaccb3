//! The values of shape arithmetic: what exporters compute with sizes while the model runs.

use super::dim::{Dim, broadcast, product};
use super::{Fact, Known};
use crate::graph::onnx::proto::{DataType, TensorProto};

/// Longer constants are no shapes.
const MOST_VALUES: usize = 256;

/// A number of shape arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An integer or a truth value (0 or 1).
    Int(Dim),
    /// A float.
    Float(f64),
}

use Number::{Float, Int};

impl Number {
    const UNKNOWN: Self = Int(Dim::Unknown);

    /// The integer; `None` for a float.
    pub fn int(self) -> Option<Dim> {
        match self {
            Int(dim) => Some(dim),
            Float(_) => None,
        }
    }

    pub(super) fn float(self) -> Option<f64> {
        match self {
            Int(Dim::Known(value)) => Some(value as f64),
            Int(_) => None,
            Float(value) => Some(value),
        }
    }

    /// All values of a small constant.
    pub(super) fn all_of(tensor: &TensorProto) -> Option<Vec<Self>> {
        if tensor.element_count().ok()? > MOST_VALUES {
            return None;
        }
        match tensor.data_type() {
            DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => {
                Some(tensor.to_f32().ok()?.into_iter().map(|v| Float(v.into())).collect())
            }
            _ => Some(tensor.to_i64().ok()?.into_iter().map(|v| Int(Dim::Known(v))).collect()),
        }
    }
}

pub(super) fn constant(known: &Known<'_>) -> Vec<Fact> {
    let node = known.node;
    let vector = |element, values: Vec<Number>| Fact {
        element,
        dims: Some(vec![Dim::Known(values.len() as i64)]),
        values: Some(values),
    };
    let fact = if let Some(tensor) = node.attribute("value").and_then(|a| a.t.as_ref()) {
        Fact::of_constant(tensor)
    } else if let Some(value) = node.int("value_int") {
        Fact { element: DataType::Int64, dims: Some(Vec::new()), values: Some(vec![Int(Dim::Known(value))]) }
    } else if let Some(value) = node.float("value_float") {
        Fact { element: DataType::Float, dims: Some(Vec::new()), values: Some(vec![Float(value.into())]) }
    } else if let Some(values) = node.ints("value_ints") {
        vector(DataType::Int64, values.iter().map(|&v| Int(Dim::Known(v))).collect())
    } else if let Some(values) = node.attribute("value_floats") {
        vector(DataType::Float, values.floats.iter().map(|&v| Float(v.into())).collect())
    } else {
        Fact::UNKNOWN
    };
    vec![fact]
}

pub(super) fn arithmetic(known: &Known<'_>) -> Vec<Fact> {
    vec![match known.node.op_type.as_str() {
        "Shape" => shape(known),
        "Size" => {
            let count = known.dims(0).map_or(Dim::Unknown, product);
            Fact { element: DataType::Int64, dims: Some(Vec::new()), values: Some(vec![Int(count)]) }
        }
        "ConstantOfShape" => constant_of_shape(known),
        "Clip" => clip(known),
        "Range" => range(known),
        "Where" => elementwise(known, known.element(1)),
        "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" => {
            elementwise(known, DataType::Bool)
        }
        "Cast" => {
            let to = known.node.int("to").and_then(|to| DataType::try_from(i32::try_from(to).ok()?).ok());
            elementwise(known, to.unwrap_or(DataType::Undefined))
        }
        "CastLike" => {
            let Some(input) = known.input(0) else { return vec![Fact::UNKNOWN] };
            Fact::new(known.element(1), input.dims.clone())
        }
        _ => elementwise(known, known.element(0)),
    }]
}

fn shape(known: &Known<'_>) -> Fact {
    let Some(dims) = known.dims(0) else { return Fact::new(DataType::Int64, Some(vec![Dim::Unknown])) };
    let rank = dims.len() as i64;
    let place = |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
    let (start, end) = (place(known.node.int_or("start", 0)), place(known.node.int_or("end", rank)));
    let sizes: Vec<Number> = dims[start.min(end)..end].iter().map(|dim| Int(*dim)).collect();
    Fact { element: DataType::Int64, dims: Some(vec![Dim::Known(sizes.len() as i64)]), values: Some(sizes) }
}

fn constant_of_shape(known: &Known<'_>) -> Fact {
    let fill = known.node.attribute("value").and_then(|a| a.t.as_ref());
    let element = fill.map_or(DataType::Float, TensorProto::data_type);
    let dims = known.ints(0);
    let value = match fill {
        Some(tensor) => Number::all_of(tensor).and_then(|values| values.first().copied()),
        None => Some(Float(0.0)),
    };
    let count = dims.as_deref().map(product).and_then(Dim::known).filter(|count| *count <= MOST_VALUES);
    let values = count.zip(value).map(|(count, value)| vec![value; count]);
    Fact { element, dims, values }
}

/// The bounds are inputs since version 11 of the operators and may be left out.
fn clip(known: &Known<'_>) -> Fact {
    let Some(input) = known.input(0) else { return Fact::UNKNOWN };
    let bound = |place: usize, attribute: &str, open: f64| match (known.given(place), known.node.float(attribute)) {
        (true, _) => known.input(place)?.values.as_ref()?.first()?.float(),
        (false, value) => Some(value.map_or(open, f64::from)),
    };
    let bounds = bound(1, "min", f64::NEG_INFINITY).zip(bound(2, "max", f64::INFINITY));
    let clipped = |number: &Number| {
        let ((low, high), value) = (bounds?, number.float()?);
        let value = value.max(low).min(high);
        Some(match number {
            Int(_) => Int(Dim::Known(value as i64)),
            Float(_) => Float(value),
        })
    };
    let values = input.values.as_ref().and_then(|values| values.iter().map(clipped).collect());
    Fact { values, ..input.clone() }
}

fn range(known: &Known<'_>) -> Fact {
    let element = known.element(0);
    let scalar = |place: usize| known.input(place)?.values.as_ref()?.first()?.int()?.at(1);
    let fixed = (0..3).all(|i| known.ints(i).is_some_and(|v| v.iter().all(|dim| !dim.is_batch())));
    let (Some(start), Some(limit), Some(step), true) = (scalar(0), scalar(1), scalar(2), fixed) else {
        return Fact::new(element, Some(vec![Dim::Unknown]));
    };
    let span = i128::from(limit) - i128::from(start);
    if step == 0 {
        return Fact::new(element, Some(vec![Dim::Unknown]));
    }
    let step = i128::from(step);
    let count = ((span + step - step.signum()) / step).max(0);
    let values = (count <= MOST_VALUES as i128)
        .then(|| (0..count).map(|i| Int(Dim::Known((i128::from(start) + i * step) as i64))).collect());
    let count = i64::try_from(count).map_or(Dim::Unknown, Dim::Known);
    Fact { element, dims: Some(vec![count]), values }
}

/// Operators that work element by element on broadcast inputs.
fn elementwise(known: &Known<'_>, element: DataType) -> Fact {
    let inputs: Option<Vec<&Fact>> = known.inputs.iter().copied().collect();
    let Some(inputs) = inputs.filter(|inputs| !inputs.is_empty()) else { return Fact::new(element, None) };
    let dims: Option<Vec<&Vec<Dim>>> = inputs.iter().map(|fact| fact.dims.as_ref()).collect();
    let dims = dims.map(|dims| dims.iter().fold(Vec::new(), |all, dims| broadcast(&all, dims)));
    let values = (|| {
        let values: Vec<&Vec<Number>> = inputs.iter().map(|fact| fact.values.as_ref()).collect::<Option<_>>()?;
        let count = product(dims.as_ref()?).known().filter(|count| *count <= MOST_VALUES)?;
        // Only the broadcasting of scalars: shapes are vectors.
        if values.iter().any(|v| v.len() != 1 && v.len() != count) {
            return None;
        }
        let at = |i: usize| values.iter().map(|v| if v.len() == 1 { v[0] } else { v[i] }).collect::<Vec<_>>();
        (0..count).map(|i| apply(known, element, &at(i))).collect()
    })();
    Fact { element, dims, values }
}

fn apply(known: &Known<'_>, element: DataType, x: &[Number]) -> Option<Number> {
    let truth = |value: Option<bool>| Some(value.map_or(Number::UNKNOWN, |v| Int(Dim::Known(v.into()))));
    let floats = || Some((x.first()?.float()?, x.get(1)?.float()?));
    let op = known.node.op_type.as_str();
    match (op, x) {
        ("Identity", [a]) => Some(*a),
        ("Cast", [a]) => Some(cast(*a, element)),
        ("Floor", [Float(a)]) => Some(Float(a.floor())),
        ("Ceil", [Float(a)]) => Some(Float(a.ceil())),
        ("Round", [Float(a)]) => Some(Float(a.round_ties_even())),
        ("Sqrt", [Float(a)]) => Some(Float(a.sqrt())),
        ("Neg", [Float(a)]) => Some(Float(-a)),
        ("Abs", [Float(a)]) => Some(Float(a.abs())),
        ("Neg", [Int(a)]) => Some(Int(a.times(Dim::Known(-1)))),
        ("Abs", [Int(Dim::Known(a))]) => Some(Int(a.checked_abs().map_or(Dim::Unknown, Dim::Known))),
        ("Not", [Int(Dim::Known(a))]) => truth(Some(*a == 0)),
        ("Where", [Int(Dim::Known(condition)), a, b]) => Some(if *condition != 0 { *a } else { *b }),
        ("Where", [_, a, b]) => Some(if a == b { *a } else { Number::UNKNOWN }),
        ("Add" | "Sum", [Int(a), Int(b)]) => Some(Int(a.plus(*b))),
        ("Sub", [Int(a), Int(b)]) => Some(Int(a.plus(b.times(Dim::Known(-1))))),
        ("Mul", [Int(a), Int(b)]) => Some(Int(a.times(*b))),
        ("Div", [Int(a), Int(b)]) => Some(Int(a.over(*b))),
        ("Equal", [Int(a), Int(b)]) => truth(a.same(*b)),
        (_, [Int(Dim::Known(a)), Int(Dim::Known(b))]) => {
            let number = |value: Option<i64>| Some(Int(value.map_or(Dim::Unknown, Dim::Known)));
            match op {
                "Min" => number(Some(*a.min(b))),
                "Max" => number(Some(*a.max(b))),
                "Mod" => number(if *b == 0 { None } else { Some(a.rem_euclid(*b)) }),
                "Pow" => number(u32::try_from(*b).ok().and_then(|b| a.checked_pow(b))),
                "Greater" => truth(Some(a > b)),
                "Less" => truth(Some(a < b)),
                "GreaterOrEqual" => truth(Some(a >= b)),
                "LessOrEqual" => truth(Some(a <= b)),
                "And" => truth(Some(*a != 0 && *b != 0)),
                "Or" => truth(Some(*a != 0 || *b != 0)),
                "Xor" => truth(Some((*a != 0) != (*b != 0))),
                _ => None,
            }
        }
        (_, [_, _]) => {
            let (a, b) = floats()?;
            match op {
                "Add" | "Sum" => Some(Float(a + b)),
                "Sub" => Some(Float(a - b)),
                "Mul" => Some(Float(a * b)),
                "Div" => Some(Float(a / b)),
                "Pow" => Some(Float(a.powf(b))),
                "Min" => Some(Float(a.min(b))),
                "Max" => Some(Float(a.max(b))),
                "Equal" => truth(Some(a == b)),
                "Greater" => truth(Some(a > b)),
                "Less" => truth(Some(a < b)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn cast(number: Number, to: DataType) -> Number {
    let float = matches!(to, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16);
    match (number, float) {
        (Float(value), true) if to == DataType::Float => Float(f64::from(value as f32)),
        (Float(value), false) if value.is_finite() => Int(Dim::Known(value as i64)),
        (Int(Dim::Known(value)), true) => Float(value as f64),
        (Int(_), true) => Number::UNKNOWN,
        (number, _) => number,
    }
}

#[cfg(test)]
mod tests {
    use super::super::infer;
    use super::*;
    use crate::graph::onnx::make;
    use crate::graph::onnx::testing::Builder;

    #[test]
    fn padding_that_is_computed_from_sizes_is_followed() {
        // TensorFlow's `SAME` for a stride of 2 and a kernel of 3, as timm writes it.
        let mut b = Builder::new("same", 17, 0);
        let image = b.input("image", vec!["n".into(), 3.into(), 15.into(), 16.into()]);
        let pads: Vec<String> = (2..4)
            .map(|axis| {
                let size = b.size_of(&image, axis);
                let size = b.op("Cast", &[&size], vec![make::int("to", 1)]);
                let (one, two) = (b.float(1.0), b.float(2.0));
                let steps = b.op("Div", &[&size, &two], Vec::new());
                let steps = b.op("Ceil", &[&steps], Vec::new());
                let steps = b.op("Sub", &[&steps, &one], Vec::new());
                let reach = b.op("Mul", &[&steps, &two], Vec::new());
                let three = b.float(3.0);
                let reach = b.op("Add", &[&reach, &three], Vec::new());
                let lacking = b.op("Sub", &[&reach, &size], Vec::new());
                let zero = b.float(0.0);
                let lacking = b.op("Clip", &[&lacking, &zero, ""], Vec::new());
                let lacking = b.op("Cast", &[&lacking], vec![make::int("to", 7)]);
                b.unsqueeze(&lacking, 0)
            })
            .collect();
        let nothing = b.ints(&[0, 0, 0, 0, 0, 0]);
        let pads = b.op("Concat", &[&nothing, &pads[0], &pads[1]], vec![make::int("axis", 0)]);
        let padded = b.op("Pad", &[&image, &pads], Vec::new());
        let dims = infer(&b.finish())[&padded].dims.clone().unwrap();
        assert_eq!(dims[1..], [Dim::Known(3), Dim::Known(17), Dim::Known(17)]);
    }

    #[test]
    fn bounds_may_be_attributes_or_left_out() {
        let mut b = Builder::new("clip", 9, 0);
        let values = b.ints(&[-3, 2, 9]);
        let clipped = b.op("Clip", &[&values], vec![make::float("min", 0.0), make::float("max", 4.0)]);
        let above = b.op("Clip", &[&values], vec![make::float("min", 1.0)]);
        let facts = infer(&b.finish());
        let ints =
            |name: &str| facts[name].values.as_ref().unwrap().iter().map(|n| n.int().unwrap()).collect::<Vec<_>>();
        assert_eq!(ints(&clipped), [0, 2, 4].map(Dim::Known));
        assert_eq!(ints(&above), [1, 2, 9].map(Dim::Known));
    }
}
