//! A whole model, once it has been read: which of its tensors is trained, and from where on.

use std::borrow::Cow;

use super::engine::Source;
use crate::base::Result;
use crate::graph::Task;
use crate::graph::onnx::{self, OutputSpec, Select, ends};
use crate::head::HeadConfig;
use crate::plan::{Plan, TailPlan};
use crate::recipe::Mode;

/// The plan with what only the file tells of a whole model: its output, without the softmax (or for several labels the
/// sigmoid) that the loss has already, and in mode `frozen` what enters its last layer. Any other plan as it is.
///
/// # Errors
/// The file cannot be read; it has several outputs and none is named; it has no last layer.
pub fn settled<'a>(plan: &'a Plan, source: &Source) -> Result<Cow<'a, Plan>> {
    if !matches!(plan.model.head, HeadConfig::Identity(_)) {
        return Ok(Cow::Borrowed(plan));
    }
    let model = onnx::read(&source.model.path)?;
    let in_the_loss: &[&str] = match plan.train.loss().task() {
        Task::Classes => &["Softmax", "LogSoftmax"],
        Task::MultiLabel => &["Sigmoid"],
        Task::Values | Task::Embedding => &[],
    };
    let mut settled = plan.clone();
    let backbone = &mut settled.model.backbone;
    if backbone.outputs.is_empty() {
        let name = ends::own_output(&model)?;
        backbone.outputs = vec![OutputSpec { tensor: name.clone(), name, select: Select::All }];
    }
    if let [output] = &mut backbone.outputs[..]
        && let Some(below) = ends::below(&model, &output.tensor, in_the_loss)
    {
        *output = OutputSpec { name: below.clone(), tensor: below, select: Select::All };
    }
    if let ([output], Some(TailPlan { mode: Mode::Frozen, from: from @ None })) =
        (&backbone.outputs[..], &mut backbone.tail)
    {
        *from = Some(ends::last_layer(&model, &output.tensor)?);
    }
    Ok(Cow::Owned(settled))
}
