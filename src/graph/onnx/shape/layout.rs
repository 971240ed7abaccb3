//! Operators that move, join, part or pick elements.

use super::dim::{Dim, broadcast, product, rest_of};
use super::{Fact, Known, Number, axis_of};

pub(super) fn infer(known: &Known<'_>) -> Vec<Fact> {
    let element = known.element(0);
    let node = known.node;
    let one = |dims: Option<Vec<Dim>>| vec![Fact::new(element, dims)];
    match node.op_type.as_str() {
        "Split" => split(known),
        "Reshape" | "Squeeze" | "Unsqueeze" => {
            let dims = match node.op_type.as_str() {
                "Reshape" => reshaped(known),
                "Squeeze" => squeeze(known),
                _ => unsqueeze(known),
            };
            // The same values in the same order.
            let values = known.input(0).and_then(|fact| fact.values.clone());
            vec![Fact { element, dims, values }]
        }
        "Concat" => concat(known),
        "Gather" => gather(known),
        "Slice" => slice(known),
        "Flatten" => one((|| {
            let dims = known.dims(0)?;
            let axis = node.int_or("axis", 1);
            let axis = if axis == dims.len() as i64 { dims.len() } else { axis_of(axis, dims.len())? };
            Some(vec![product(&dims[..axis]), product(&dims[axis..])])
        })()),
        "Transpose" => transpose(known),
        "GatherElements" => one(known.dims(1).map(<[_]>::to_vec)),
        "Expand" => one((|| Some(broadcast(known.dims(0)?, &known.ints(1)?)))()),
        "Tile" => one((|| {
            let (dims, times) = (known.dims(0)?, known.ints(1)?);
            Some(dims.iter().zip(times).map(|(dim, times)| dim.times(times)).collect())
        })()),
        "Pad" => one((|| {
            let dims = known.dims(0)?;
            let pads = known.ints_input_or_attribute(1, "pads")?;
            let axes: Vec<usize> = match known.known_ints(3) {
                Some(axes) => axes.iter().map(|&axis| axis_of(axis, dims.len())).collect::<Option<_>>()?,
                None if known.given(3) => return None,
                None => (0..dims.len()).collect(),
            };
            let mut dims = dims.to_vec();
            for (i, &axis) in axes.iter().enumerate() {
                let more = pads.get(i)?.checked_add(*pads.get(i + axes.len())?)?;
                dims[axis] = dims[axis].plus(Dim::Known(more));
            }
            Some(dims)
        })()),
        "DepthToSpace" | "SpaceToDepth" => one((|| {
            let [batch, channels, height, width] = *known.dims(0)? else { return None };
            let (block, area) = node.int("blocksize").map(|b| (Dim::Known(b), Dim::Known(b.saturating_mul(b))))?;
            Some(match node.op_type.as_str() {
                "DepthToSpace" => vec![batch, channels.over(area), height.times(block), width.times(block)],
                _ => vec![batch, channels.times(area), height.over(block), width.over(block)],
            })
        })()),
        _ => one(None),
    }
}

fn transpose(known: &Known<'_>) -> Vec<Fact> {
    let element = known.element(0);
    let Some(dims) = known.dims(0) else { return vec![Fact::new(element, None)] };
    let order: Option<Vec<usize>> = match known.node.ints("perm") {
        Some(order) => order.iter().map(|&axis| axis_of(axis, dims.len())).collect(),
        None => Some((0..dims.len()).rev().collect()),
    };
    let Some(order) = order else { return vec![Fact::new(element, None)] };
    // Pads are turned around as a matrix.
    let values = match (known.input(0).and_then(|fact| fact.values.as_ref()), dims, &order[..]) {
        (Some(values), [rows, columns], [1, 0]) => match (rows.known(), columns.known()) {
            (Some(rows), Some(columns)) if rows * columns == values.len() => {
                Some((0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect())
            }
            _ => None,
        },
        (Some(values), _, [0] | []) => Some(values.clone()),
        _ => None,
    };
    vec![Fact { element, dims: Some(order.iter().map(|&axis| dims[axis]).collect()), values }]
}

/// The result of a `Reshape`.
fn reshaped(known: &Known<'_>) -> Option<Vec<Dim>> {
    let target = match known.given(1) {
        true => match known.ints(1) {
            Some(target) => target,
            // At least the rank.
            None => return Some(vec![Dim::Unknown; known.dims(1)?.first()?.known().filter(|rank| *rank <= 16)?]),
        },
        // The first version of the operator had an attribute.
        false => known.node.ints("shape")?.iter().map(|&size| Dim::Known(size)).collect(),
    };
    let input = known.dims(0);
    let keep_zero = known.node.int_or("allowzero", 0) != 0;
    let mut dims: Vec<Dim> = target
        .iter()
        .enumerate()
        .map(|(i, &size)| match size {
            Dim::Known(0) if !keep_zero => input.and_then(|dims| dims.get(i).copied()).unwrap_or(Dim::Unknown),
            size => size,
        })
        .collect();
    if let Some(open) = dims.iter().position(|dim| *dim == Dim::Known(-1)) {
        dims[open] = input.map_or(Dim::Unknown, |input| rest_of(product(input), &dims, open));
    }
    Some(dims)
}

fn squeeze(known: &Known<'_>) -> Option<Vec<Dim>> {
    let dims = known.dims(0)?;
    if known.given(1) && known.known_ints(1).is_none() {
        return None;
    }
    match known.ints_input_or_attribute(1, "axes") {
        Some(axes) => {
            let axes: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, dims.len())).collect::<Option<_>>()?;
            Some(dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, dim)| *dim).collect())
        }
        None if dims.contains(&Dim::Unknown) => None,
        None => Some(dims.iter().filter(|dim| **dim != Dim::Known(1)).copied().collect()),
    }
}

fn unsqueeze(known: &Known<'_>) -> Option<Vec<Dim>> {
    let dims = known.dims(0)?;
    let axes = known.ints_input_or_attribute(1, "axes")?;
    let rank = dims.len() + axes.len();
    let axes: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Option<_>>()?;
    let mut rest = dims.iter();
    (0..rank).map(|i| if axes.contains(&i) { Some(Dim::Known(1)) } else { rest.next().copied() }).collect()
}

fn concat(known: &Known<'_>) -> Vec<Fact> {
    let element = known.element(0);
    let inputs: Vec<Option<&[Dim]>> = (0..known.inputs.len()).map(|i| known.dims(i)).collect();
    let dims = (|| {
        let mut dims = (*inputs.first()?)?.to_vec();
        let axis = axis_of(known.node.int("axis")?, dims.len())?;
        for other in &inputs[1..] {
            let other = (*other)?;
            for (i, dim) in dims.iter_mut().enumerate() {
                let size = *other.get(i)?;
                *dim = match (i == axis, *dim == Dim::Unknown) {
                    (true, _) => dim.plus(size),
                    (false, true) => size,
                    (false, false) => *dim,
                };
            }
        }
        Some(dims)
    })();
    let vectors = dims.as_ref().is_some_and(|dims| dims.len() == 1);
    let values = if vectors { joined(known) } else { None };
    vec![Fact { element, dims, values }]
}

/// The values of joined vectors; those of a vector of known length but unknown values are unknown.
fn joined(known: &Known<'_>) -> Option<Vec<Number>> {
    let mut all = Vec::new();
    for fact in &known.inputs {
        let fact = (*fact)?;
        match &fact.values {
            Some(values) => all.extend(values),
            None => {
                let count = product(fact.dims.as_ref()?).known().filter(|count| *count <= 16)?;
                all.extend(vec![Number::Int(Dim::Unknown); count]);
            }
        }
    }
    Some(all)
}

fn split(known: &Known<'_>) -> Vec<Fact> {
    let (element, parts) = (known.element(0), known.node.output.len());
    let unknown = || vec![Fact::new(element, None); parts];
    let Some(dims) = known.dims(0) else { return unknown() };
    let Some(axis) = axis_of(known.node.int_or("axis", 0), dims.len()) else { return unknown() };
    let sizes: Vec<Dim> = match known.ints_input_or_attribute(1, "split") {
        Some(sizes) => sizes.into_iter().map(Dim::Known).collect(),
        None if known.given(1) => vec![Dim::Unknown; parts],
        None => match dims[axis] {
            // The last part is the smaller one.
            Dim::Known(size) => {
                let part = (size + parts as i64 - 1) / (parts as i64).max(1);
                (0..parts as i64).map(|i| Dim::Known((size - i * part).clamp(0, part))).collect()
            }
            size => vec![size.over(Dim::Known(parts as i64)); parts],
        },
    };
    let part = |size: &Dim| {
        let mut dims = dims.to_vec();
        dims[axis] = *size;
        Fact::new(element, Some(dims))
    };
    sizes.iter().take(parts).map(part).collect()
}

fn gather(known: &Known<'_>) -> Vec<Fact> {
    let element = known.element(0);
    let axis_wish = known.node.int_or("axis", 0);
    let dims = (|| {
        let (dims, indices) = (known.dims(0)?, known.dims(1)?);
        let axis = axis_of(axis_wish, dims.len())?;
        Some([&dims[..axis], indices, &dims[axis + 1..]].concat())
    })();
    let values = (|| {
        let from = known.input(0)?.values.as_ref()?;
        if known.dims(0)?.len() != 1 {
            return None;
        }
        known.known_ints(1)?.into_iter().map(|i| Some(from[axis_of(i, from.len())?])).collect()
    })();
    vec![Fact { element, dims, values }]
}

fn slice(known: &Known<'_>) -> Vec<Fact> {
    let element = known.element(0);
    let Some(dims) = known.dims(0) else { return vec![Fact::new(element, None)] };
    let read = |place: usize, attribute: &str| known.ints_input_or_attribute(place, attribute);
    let all_axes: Vec<i64> = (0..dims.len() as i64).collect();
    let (starts, ends) = (read(1, "starts"), read(2, "ends"));
    let axes = match read(3, "axes") {
        Some(axes) => Some(axes),
        None if known.given(3) => None,
        None => Some(all_axes),
    };
    let steps = if known.given(4) { known.known_ints(4) } else { Some(vec![1; dims.len()]) };
    let mut result = dims.to_vec();
    let mut values = known.input(0).and_then(|fact| fact.values.clone());
    let Some(axes) = axes else { return vec![Fact::new(element, Some(vec![Dim::Unknown; dims.len()]))] };
    for (i, axis) in axes.iter().enumerate() {
        let Some(axis) = axis_of(*axis, dims.len()) else { return vec![Fact::new(element, None)] };
        let at = |list: &Option<Vec<i64>>| list.as_ref().and_then(|list| list.get(i).copied());
        let range = at(&starts).zip(at(&ends)).zip(at(&steps));
        let Some(((start, end), step)) = range.filter(|((_, _), step)| *step != 0) else {
            (result[axis], values) = (Dim::Unknown, None);
            continue;
        };
        match dims[axis] {
            Dim::Known(size) => {
                let (first, count) = picked(size, start, end, step);
                let places: Vec<usize> = (0..count).filter_map(|i| usize::try_from(first + i * step).ok()).collect();
                values = values.and_then(|all| pick(&all, &result, axis, &places));
                result[axis] = Dim::Known(count);
            }
            // The whole of an axis stays the whole.
            size if (start, step) == (0, 1) && end >= i64::from(i32::MAX) => result[axis] = size,
            _ => (result[axis], values) = (Dim::Unknown, None),
        }
    }
    vec![Fact { element, dims: Some(result), values }]
}

/// The values at some places of an axis of a small array.
fn pick(values: &[Number], dims: &[Dim], axis: usize, places: &[usize]) -> Option<Vec<Number>> {
    let (before, size) = (product(&dims[..axis]).known()?, dims[axis].known()?);
    let after = product(&dims[axis + 1..]).known()?;
    if before * size * after != values.len() || places.iter().any(|&place| place >= size) {
        return None;
    }
    let row = |outer: usize, place: usize| values[(outer * size + place) * after..][..after].iter().copied();
    Some((0..before).flat_map(|outer| places.iter().flat_map(move |&place| row(outer, place))).collect())
}

/// The first place of an axis that a slice picks, and how many it picks.
fn picked(size: i64, start: i64, end: i64, step: i64) -> (i64, i64) {
    let from_end = |value: i64| if value < 0 { value.saturating_add(size) } else { value };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (start, end) = (from_end(start).clamp(low, high), from_end(end).clamp(low, high));
    let span = if step > 0 { end - start } else { start - end };
    (start, if span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 })
}
