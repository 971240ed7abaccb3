//! TensorBoard event files.
//!
//! Records are framed by `tensorboard-rs`. Its `SummaryWriter` is not used: it panics when a disk is full,
//! and names a file by second and process, so that a run resumed at once would truncate its own file. The
//! messages are the few fields of TensorFlow's `event.proto` and `summary.proto` that scalars need.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use prost::Message;
use tensorboard_rs::record_writer::RecordWriter;

use super::jsonl::now;
use crate::base::{Error, Result};

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    // Optional, so that a zero is written.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
    #[prost(message, optional, tag = "5")]
    histo: Option<Histogram>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

/// `tensorflow.TensorProto`; a value that only its metadata says has an empty one.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    /// 1 is f32.
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Scalar>,
    #[prost(float, repeated, tag = "5")]
    float_val: Vec<f32>,
}

/// `tensorflow.TensorShapeProto` without dimensions.
#[derive(Clone, PartialEq, Message)]
struct Scalar {}

/// `tensorflow.SummaryMetadata`.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<Plugin>,
}

/// `tensorflow.SummaryMetadata.PluginData`.
#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

/// `tensorflow.Summary.Image`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 3 for red, green and blue.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// A PNG.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

/// `tensorflow.HistogramProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(double, tag = "1")]
    pub min: f64,
    #[prost(double, tag = "2")]
    pub max: f64,
    #[prost(double, tag = "3")]
    pub num: f64,
    #[prost(double, tag = "4")]
    pub sum: f64,
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// The upper end of each bucket.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    /// How many values each bucket holds.
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// `tensorflow.SessionLog`.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The status that makes TensorBoard drop what earlier files hold from the event's step on.
const START: i32 = 1;

/// One event file.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
    records: RecordWriter<BufWriter<File>>,
}

impl EventFile {
    /// Creates a file whose steps begin at `first`.
    pub fn create(run_dir: &Path, first: u64) -> Result<Self> {
        std::fs::create_dir_all(run_dir).map_err(Error::io("create", run_dir))?;
        let time = now();
        let (path, file) = create_new(run_dir, time as u64)?;
        let clone = file.try_clone().map_err(Error::io("write", &path))?;
        let mut events = Self { path, file, records: RecordWriter::new(BufWriter::new(clone)) };
        events.write(&Event { wall_time: time, file_version: Some("brain.Event:2".into()), ..Event::default() })?;
        let session_log = Some(SessionLog { status: START });
        events.write(&Event { wall_time: time, step: first as i64, session_log, ..Event::default() })?;
        events.flush()?;
        Ok(events)
    }

    pub fn append(&mut self, step: u64, time: f64, values: &[(&str, f64)]) -> Result<()> {
        let value = values
            .iter()
            .map(|(tag, value)| SummaryValue {
                tag: (*tag).into(),
                simple_value: Some(*value as f32),
                ..SummaryValue::default()
            })
            .collect();
        self.append_values(step, time, value)
    }

    pub fn append_now(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.append(step, now(), values)
    }

    /// What only a plugin of TensorBoard reads.
    pub fn append_plugin(&mut self, tag: &str, plugin: &str, content: Vec<u8>) -> Result<()> {
        let plugin_data = Some(Plugin { plugin_name: plugin.into(), content });
        let tensor = Some(Tensor { dtype: 1, shape: Some(Scalar {}), float_val: vec![0.0] });
        let metadata = Some(Metadata { plugin_data });
        let value = SummaryValue { tag: tag.into(), tensor, metadata, ..SummaryValue::default() };
        self.append_values(0, now(), vec![value])
    }

    pub fn append_histogram(&mut self, step: u64, tag: &str, histogram: Histogram) -> Result<()> {
        let value = SummaryValue { tag: tag.into(), histo: Some(histogram), ..SummaryValue::default() };
        self.append_values(step, now(), vec![value])
    }

    pub fn append_image(&mut self, step: u64, tag: &str, image: Image) -> Result<()> {
        let value = SummaryValue { tag: tag.into(), image: Some(image), ..SummaryValue::default() };
        self.append_values(step, now(), vec![value])
    }

    fn append_values(&mut self, step: u64, time: f64, value: Vec<SummaryValue>) -> Result<()> {
        let summary = Some(Summary { value });
        self.write(&Event { wall_time: time, step: step as i64, summary, ..Event::default() })?;
        self.flush()
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        self.records.write(&event.encode_to_vec()).map_err(Error::io("write", &self.path))
    }

    fn flush(&mut self) -> Result<()> {
        self.records.flush().map_err(Error::io("write", &self.path))
    }
}

/// A new file; names sort by time, which is the order in which TensorBoard reads them.
fn create_new(run_dir: &Path, seconds: u64) -> Result<(PathBuf, File)> {
    let mut count = 0;
    loop {
        let path = run_dir.join(format!("events.out.tfevents.{seconds:010}.caft.{count:03}"));
        match File::create_new(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => count += 1,
            file => return file.map_err(Error::io("create", &path)).map(|file| (path, file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames as the TFRecord format describes them: length, its checksum, data, its checksum.
    fn events(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let (mut at, mut events) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            events.push(Event::decode(&bytes[at + 12..at + 12 + length]).unwrap());
            at += length + 16;
        }
        events
    }

    #[test]
    fn events_are_readable_while_the_file_is_open_and_a_zero_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 7).unwrap();
        file.append(7, 12.5, &[("train/loss", 0.0), ("valid/accuracy", 0.75)]).unwrap();
        let events = events(&file.path);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].session_log.clone().unwrap().status), (7, START));
        let values = &events[2].summary.as_ref().unwrap().value;
        assert_eq!((events[2].step, events[2].wall_time), (7, 12.5));
        assert_eq!((values[0].tag.as_str(), values[0].simple_value), ("train/loss", Some(0.0)));
        assert_eq!(values[1].simple_value, Some(0.75));
    }

    #[test]
    fn two_files_of_one_second_are_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = create_new(folder.path(), 5).unwrap();
        let (second, _) = create_new(folder.path(), 5).unwrap();
        assert!(first < second);
    }
}
