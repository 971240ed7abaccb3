//! What an exported file says of itself, in the model's metadata.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Activation, Input};
use crate::base::{Digest, Error, Result};
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::splice;
use crate::plan::ResolvedPlan;

/// The version of the metadata's form.
const FORMAT: &str = "1";

/// What an exported file says of itself: keys that begin with `caft.`, each a text or JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// `caft.activation`: what was made of the head's outputs.
    pub activation: Activation,
    /// `caft.input`: what the file takes.
    pub input: Input,
    /// `caft.plan`: what was trained and how; places of data are left out. `caft.classes`, `caft.preprocess` and
    /// `caft.postprocess` say for other programs what they need of it.
    pub plan: ResolvedPlan,
    /// `caft.provenance`: where the file comes from.
    pub provenance: Provenance,
}

/// Where an exported file comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run's name.
    pub run: String,
    /// The run's id: the digest of its resolved plan.
    pub id: Digest,
    /// The backbone.
    pub backbone: String,
    /// The licence of the backbone's weights, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The digest of the backbone's weights.
    pub weights: Digest,
    /// The digest of the data.
    pub dataset: Digest,
    /// The precision of this file's backbone.
    pub precision: String,
    /// The run's metrics.
    pub metrics: BTreeMap<String, f64>,
    /// caft's version.
    pub caft: String,
}

impl Metadata {
    /// Writes it into a model.
    ///
    /// # Errors
    /// None for plain data.
    pub fn write(&self, model: &mut ModelProto) -> Result<()> {
        let mut plan = self.plan.clone();
        for plan in std::iter::once(&mut plan.plan).chain(plan.towers.iter_mut().map(|tower| &mut tower.plan)) {
            let common = &mut plan.data.common;
            (common.root, common.train, common.valid, common.test) = (None, None, None, None);
        }
        let texts = [
            ("caft.format", FORMAT.to_string()),
            ("caft.activation", self.activation.name().to_string()),
            ("caft.input", to_json(&self.input)?.trim_matches('"').to_string()),
            ("caft.classes", to_json(&plan.classes)?),
            ("caft.preprocess", to_json(&plan.plan.model.backbone.preprocess)?),
            ("caft.plan", to_json(&plan)?),
            ("caft.provenance", to_json(&self.provenance)?),
        ];
        let postprocess = plan.plan.model.postprocess.as_ref().map(to_json).transpose()?;
        if let Some(text) = postprocess {
            splice::set_metadata(model, "caft.postprocess", text);
        }
        texts.into_iter().for_each(|(key, text)| splice::set_metadata(model, key, text));
        Ok(())
    }

    /// Reads it from a model.
    ///
    /// # Errors
    /// The model was not exported by caft, or by one whose metadata has another form.
    pub fn read(model: &ModelProto, shown: &str) -> Result<Self> {
        let text = |key: &str| {
            splice::metadata(model, key).ok_or_else(|| {
                Error::bad_input(format!("`{shown}` has no metadata `{key}`"))
                    .hint("only files that `caft export` wrote can be used in place of a run")
            })
        };
        if text("caft.format")? != FORMAT {
            let found = text("caft.format")?;
            return Err(Error::bad_input(format!("`{shown}` was exported in form {found}; this caft reads {FORMAT}")));
        }
        let broken =
            |e: serde_json::Error| Error::bad_input(format!("the metadata of `{shown}` is damaged")).because(e);
        Ok(Self {
            activation: serde_json::from_value(text("caft.activation")?.into()).map_err(broken)?,
            input: serde_json::from_value(text("caft.input")?.into()).map_err(broken)?,
            plan: serde_json::from_str(text("caft.plan")?).map_err(broken)?,
            provenance: serde_json::from_str(text("caft.provenance")?).map_err(broken)?,
        })
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::failed("metadata does not serialise").because(e))
}
