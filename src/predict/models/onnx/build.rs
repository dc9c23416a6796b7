//! Small makers and readers for parts of a graph.

use super::proto::{
    AttributeProto, Dimension, GraphProto, NodeProto, ShapeProto, TensorProto, TensorType, TypeProto,
    ValueInfo,
};
use crate::predict::models::error::ModelError;

pub(super) const FLOAT: i32 = 1;
pub(super) const INT64: i32 = 7;

/// A dimension: a number, or a name for one that is not fixed.
#[derive(Clone, Copy)]
pub(super) enum Dim {
    Fixed(usize),
    Free(&'static str),
}

pub(super) fn value(name: &str, element: i32, dims: &[Dim]) -> ValueInfo {
    let dim = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(n) => Dimension { value: Some(*n as i64), param: None },
            Dim::Free(name) => Dimension { value: None, param: Some((*name).to_string()) },
        })
        .collect();
    let tensor = TensorType { element: Some(element), shape: Some(ShapeProto { dim }) };
    ValueInfo { name: Some(name.into()), kind: Some(TypeProto { tensor: Some(tensor) }) }
}

pub(super) fn floats(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: Some(FLOAT),
        name: Some(name.into()),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

pub(super) fn whole(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(INT64),
        name: Some(name.into()),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

pub(super) fn node(op: &str, input: &[&str], output: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: input.iter().map(ToString::to_string).collect(),
        output: output.iter().map(ToString::to_string).collect(),
        name: Some(output.first().map(|o| format!("{op}:{o}")).unwrap_or_default()),
        op_type: Some(op.into()),
        attribute,
        domain: op.starts_with("TreeEnsemble").then(|| "ai.onnx.ml".into()),
    }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(i), kind: Some(2), ..Default::default() }
}

pub(super) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), s: Some(s.into()), kind: Some(3), ..Default::default() }
}

pub(super) fn float_list(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: Some(name.into()), floats, kind: Some(6), ..Default::default() }
}

pub(super) fn int_list(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: Some(name.into()), ints, kind: Some(7), ..Default::default() }
}

pub(super) fn text_list(name: &str, strings: Vec<Vec<u8>>) -> AttributeProto {
    AttributeProto { name: Some(name.into()), strings, kind: Some(8), ..Default::default() }
}

/// Reads parts of a graph by name, with errors that name the file.
pub(super) struct Reader<'a> {
    pub(super) graph: &'a GraphProto,
    pub(super) file: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn foreign(&self, detail: impl Into<String>) -> ModelError {
        ModelError::Foreign { file: self.file.into(), detail: detail.into() }
    }

    pub(super) fn wrong(&self, detail: impl Into<String>) -> ModelError {
        ModelError::Inconsistent { file: self.file.into(), detail: detail.into() }
    }

    /// Dimensions and numbers of a constant; as many numbers as the dimensions say, all finite.
    pub(super) fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), ModelError> {
        let tensor = self
            .graph
            .initializer
            .iter()
            .find(|t| t.name.as_deref() == Some(name))
            .ok_or_else(|| self.foreign(format!("it has no constant {name}")))?;
        if tensor.data_type != Some(FLOAT) {
            return Err(self.foreign(format!("constant {name}: expected 32-bit floats")));
        }
        let dims: Vec<usize> =
            tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
        let raw = tensor.raw_data.as_deref().unwrap_or_default();
        let want = dims.iter().try_fold(4usize, |all, &d| all.checked_mul(d));
        if want != Some(raw.len()) {
            return Err(self.wrong(format!("constant {name}: {dims:?} numbers, but {} bytes", raw.len())));
        }
        let values: Vec<f32> =
            raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(self.wrong(format!("constant {name}: number {at} is not finite")));
        }
        Ok((dims, values))
    }

    /// As `floats`, of exactly these dimensions.
    pub(super) fn floats_of(&self, name: &str, want: &[usize]) -> Result<Vec<f32>, ModelError> {
        let (dims, values) = self.floats(name)?;
        if dims != want {
            return Err(self.wrong(format!("constant {name}: expected {want:?} numbers, got {dims:?}")));
        }
        Ok(values)
    }

    /// The first node of an operator.
    pub(super) fn node(&self, op: &str) -> Result<&'a NodeProto, ModelError> {
        self.graph
            .node
            .iter()
            .find(|n| n.op_type.as_deref() == Some(op))
            .ok_or_else(|| self.foreign(format!("it has no {op}")))
    }

    pub(super) fn attribute(
        &self,
        node: &'a NodeProto,
        name: &str,
    ) -> Result<&'a AttributeProto, ModelError> {
        node.attribute
            .iter()
            .find(|a| a.name.as_deref() == Some(name))
            .ok_or_else(|| self.foreign(format!("its {:?} has no {name}", node.op_type)))
    }

    /// A fixed dimension of an input, counted from the front.
    pub(super) fn input_dim(&self, input: &str, axis: usize) -> Result<usize, ModelError> {
        self.graph
            .input
            .iter()
            .find(|v| v.name.as_deref() == Some(input))
            .and_then(|v| v.kind.as_ref()?.tensor.as_ref()?.shape.as_ref()?.dim.get(axis)?.value)
            .and_then(|d| usize::try_from(d).ok())
            .filter(|&d| d > 0 && d <= 1 << 20)
            .ok_or_else(|| self.foreign(format!("input {input} has no fixed dimension {axis}")))
    }
}
