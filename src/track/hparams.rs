//! A sweep for TensorBoard's hyperparameters: an experiment, and a session for every trial, in a folder each.
//!
//! The messages are those of `tensorboard/plugins/hparams`: `plugin_data.proto` and `api.proto`, with
//! `google.protobuf.Value`.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;

use super::events::EventFile;
use crate::base::Result;

/// The plugin's name.
const PLUGIN: &str = "hparams";
const EXPERIMENT: &str = "_hparams_/experiment";
const SESSION_START: &str = "_hparams_/session_start_info";
const SESSION_END: &str = "_hparams_/session_end_info";

/// `HParamsPluginData`.
#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(message, optional, tag = "2")]
    experiment: Option<Experiment>,
    #[prost(message, optional, tag = "3")]
    session_start_info: Option<SessionStart>,
    #[prost(message, optional, tag = "4")]
    session_end_info: Option<SessionEnd>,
}

/// `Experiment`.
#[derive(Clone, PartialEq, Message)]
struct Experiment {
    #[prost(message, repeated, tag = "4")]
    hparam_infos: Vec<HParamInfo>,
    #[prost(message, repeated, tag = "5")]
    metric_infos: Vec<MetricInfo>,
    #[prost(string, tag = "6")]
    name: String,
}

/// `HParamInfo`.
#[derive(Clone, PartialEq, Message)]
struct HParamInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "4")]
    data_type: i32,
}

/// `DATA_TYPE_STRING`, `DATA_TYPE_BOOL`, `DATA_TYPE_FLOAT64`.
const TYPES: [i32; 3] = [1, 2, 3];

/// `MetricInfo`.
#[derive(Clone, PartialEq, Message)]
struct MetricInfo {
    #[prost(message, optional, tag = "1")]
    name: Option<MetricName>,
}

/// `MetricName`.
#[derive(Clone, PartialEq, Message)]
struct MetricName {
    #[prost(string, tag = "2")]
    tag: String,
}

/// `SessionStartInfo`.
#[derive(Clone, PartialEq, Message)]
struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    hparams: BTreeMap<String, Value>,
    #[prost(string, tag = "4")]
    group_name: String,
}

/// `google.protobuf.Value`, of which three kinds are used.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "2")]
    number: Option<f64>,
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(bool, optional, tag = "4")]
    truth: Option<bool>,
}

/// `SessionEndInfo`.
#[derive(Clone, PartialEq, Message)]
struct SessionEnd {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `STATUS_SUCCESS` and `STATUS_FAILURE`.
const STATUS: [i32; 2] = [1, 2];

/// A trial of a sweep.
#[derive(Debug, Clone)]
pub struct TrialEvents<'a> {
    /// Names its folder; the same for the same trial.
    pub name: &'a str,
    /// Trials of one group are repetitions of one choice of values.
    pub group: &'a str,
    /// Keys with their values.
    pub values: Vec<(&'a str, &'a serde_json::Value)>,
    /// The metric after every epoch.
    pub curve: &'a [f64],
    /// The metric at the best epoch.
    pub best: Option<f64>,
    /// Whether it ended well.
    pub ended_well: bool,
}

/// Writes a sweep below a folder, anew: what an earlier call left there is removed. The curve of a trial is under
/// `metric`, its value at the best epoch under `best/metric`.
///
/// # Errors
/// Those of the file system.
pub fn write_hparams(folder: &Path, name: &str, metric: &str, trials: &[TrialEvents<'_>]) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(crate::base::Error::io("remove", folder))?;
    }
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, value) in trials.iter().flat_map(|trial| &trial.values) {
        let kind = if value.is_number() { 2 } else { usize::from(value.is_boolean()) };
        // A key whose values are of several types is text.
        types.entry(path).and_modify(|known| *known = if *known == kind { kind } else { 0 }).or_insert(kind);
    }
    let best = format!("best/{metric}");
    let experiment = Experiment {
        hparam_infos: types
            .iter()
            .map(|(path, kind)| HParamInfo { name: path.to_string(), data_type: TYPES[*kind] })
            .collect(),
        metric_infos: vec![MetricInfo { name: Some(MetricName { tag: best.clone() }) }],
        name: name.into(),
    };
    let mut events = EventFile::create(folder, 0)?;
    let data = PluginData { experiment: Some(experiment), ..PluginData::default() };
    events.append_plugin(EXPERIMENT, PLUGIN, data.encode_to_vec())?;
    events.finish()?;
    for trial in trials {
        let mut events = EventFile::create(&folder.join(trial.name), 0)?;
        let value = |path: &str, value: &serde_json::Value| match (types.get(path), value) {
            (Some(2), value) => Value { number: value.as_f64(), ..Value::default() },
            (Some(1), value) => Value { truth: value.as_bool(), ..Value::default() },
            (_, serde_json::Value::String(text)) => Value { text: Some(text.clone()), ..Value::default() },
            (_, value) => Value { text: Some(value.to_string()), ..Value::default() },
        };
        let hparams = trial.values.iter().map(|(path, json)| (path.to_string(), value(path, json))).collect();
        let start = SessionStart { hparams, group_name: trial.group.into() };
        let data = PluginData { session_start_info: Some(start), ..PluginData::default() };
        events.append_plugin(SESSION_START, PLUGIN, data.encode_to_vec())?;
        for (epoch, value) in (1..).zip(trial.curve).filter(|(_, value)| value.is_finite()) {
            events.append_now(epoch, &[(metric, *value)])?;
        }
        if let Some(value) = trial.best {
            events.append_now(trial.curve.len() as u64, &[(&best, value)])?;
        }
        let status = STATUS[usize::from(!trial.ended_well)];
        let data = PluginData { session_end_info: Some(SessionEnd { status }), ..PluginData::default() };
        events.append_plugin(SESSION_END, PLUGIN, data.encode_to_vec())?;
        events.finish()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trial_has_a_session() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("hparams");
        let (lr, head) = (serde_json::json!(0.1), serde_json::json!("mlp"));
        let trial = |name| TrialEvents {
            name,
            group: "g",
            values: vec![("train.optimizer.lr", &lr), ("model.head.kind", &head)],
            curve: &[0.5, f64::NAN, 0.7],
            best: Some(0.7),
            ended_well: true,
        };
        for _ in 0..2 {
            write_hparams(&place, "sweep", "valid/accuracy", &[trial("a"), trial("b")]).unwrap();
        }
        let mut names: Vec<String> =
            std::fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!((names.len(), &names[..2]), (3, &["a".to_string(), "b".into()][..]));
        let bytes = std::fs::read(std::fs::read_dir(place.join("a")).unwrap().next().unwrap().unwrap().path()).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("_hparams_/session_start_info") && holds("train.optimizer.lr") && holds("best/valid/accuracy"));
    }
}
