//! Small constructors for nodes, attributes and value descriptions.

use bytes::Bytes;

use super::proto::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, TypeValue, ValueInfoProto,
};

/// A node of the standard operator set; its name is that of its first output.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        name: outputs.first().map(ToString::to_string).unwrap_or_default(),
        attribute,
        ..NodeProto::default()
    }
}

/// An integer attribute.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// An attribute of integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// A float attribute.
pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// A text attribute.
pub fn text(name: &str, value: &str) -> AttributeProto {
    let value = Bytes::copy_from_slice(value.as_bytes());
    AttributeProto { s: Some(value), ..attribute(name, AttributeType::String) }
}

/// A tensor attribute, such as the `value` of a `Constant`.
pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind.into(), ..AttributeProto::default() }
}

/// The size of an axis, or the name of one that varies; `None` is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    /// A fixed size.
    Fixed(usize),
    /// A size that varies, by its name.
    Named(String),
    /// Not known.
    Unknown,
}

impl From<usize> for Size {
    fn from(size: usize) -> Self {
        Self::Fixed(size)
    }
}

impl From<&str> for Size {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

impl From<Option<usize>> for Size {
    fn from(size: Option<usize>) -> Self {
        size.map_or(Self::Unknown, Self::Fixed)
    }
}

/// The description of a tensor; without a shape, not even its rank is known.
pub fn value_info(name: &str, element: DataType, shape: Option<Vec<Size>>) -> ValueInfoProto {
    let dimension = |size: Size| Dimension {
        value: match size {
            Size::Fixed(size) => Some(DimensionValue::Value(size as i64)),
            Size::Named(name) => Some(DimensionValue::Param(name)),
            Size::Unknown => None,
        },
        ..Dimension::default()
    };
    let shape = shape.map(|sizes| TensorShapeProto { dim: sizes.into_iter().map(dimension).collect() });
    let tensor = TensorTypeProto { elem_type: element.into(), shape };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

impl ValueInfoProto {
    /// The element type and the axes, where it describes a dense tensor.
    pub fn tensor(&self) -> Option<&TensorTypeProto> {
        match self.r#type.as_ref()?.value.as_ref()? {
            TypeValue::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Like [`Self::tensor`], to change it.
    pub fn tensor_mut(&mut self) -> Option<&mut TensorTypeProto> {
        match self.r#type.as_mut()?.value.as_mut()? {
            TypeValue::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

impl Dimension {
    /// The size, if it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self.value {
            Some(DimensionValue::Value(size)) => usize::try_from(size).ok(),
            _ => None,
        }
    }
}

impl NodeProto {
    /// Whether it uses an operator of the standard set.
    pub fn is(&self, op_type: &str) -> bool {
        self.op_type == op_type && self.is_standard()
    }

    /// Whether its operator is of the standard set.
    pub fn is_standard(&self) -> bool {
        self.domain.is_empty() || self.domain == "ai.onnx"
    }

    /// An attribute by its name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name == name)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    /// An integer attribute, or its default.
    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.f
    }

    /// An attribute of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// A text attribute; `None` if it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_ref()?).ok()
    }

    /// An input by its place, if it is given.
    pub fn input_name(&self, place: usize) -> Option<&str> {
        self.input.get(place).map(String::as_str).filter(|name| !name.is_empty())
    }
}
