//! The format held to its word: what is stored is read, and each way to damage a shard is found.

mod compacting;
mod damage;
mod ragged;
mod rows;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;
use crate::base::progress::Silent;
use crate::base::random::Stream;
use crate::base::{DType, Digest, Event, Home, Progress};

/// Takes the warnings.
#[derive(Default)]
pub(super) struct Warnings(pub Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

pub(in crate::cache) fn spec(row_shape: &[usize], dtype: DType) -> ColumnSpec {
    let ingredients = serde_json::json!({"weights": "aa", "tensor": "/encoder/out", "precision": "fp32"});
    let ingredients = ingredients.as_object().unwrap().clone();
    ColumnSpec {
        key: Digest::of(b"column"),
        ingredients,
        row_shape: row_shape.into(),
        ragged: false,
        dtype,
        made_by: "test".into(),
    }
}

pub(in crate::cache) fn digest(i: usize) -> Digest {
    Digest::of(&i.to_le_bytes())
}

pub(in crate::cache) fn row(i: usize, len: usize) -> Vec<f32> {
    let stream = Stream::new(i as u64, 0);
    (0..len).map(|at| half::f16::from_f32(stream.normal(at as u64)).to_f32()).collect()
}

/// Stores rows in shards of `per_shard`.
pub(in crate::cache) fn fill(column: &Column, rows: std::ops::Range<usize>, per_shard: usize) {
    let len = column.spec().row_len();
    let mut writer = column.writer().unwrap();
    for i in rows {
        writer.push(digest(i), &row(i, len)).unwrap();
        if (i + 1) % per_shard == 0 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap();
}

pub(in crate::cache) struct Sandbox {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub spec: ColumnSpec,
}

impl Sandbox {
    pub fn new(row_shape: &[usize], dtype: DType) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::at(folder.path())).unwrap();
        Self { folder, store, spec: spec(row_shape, dtype) }
    }

    pub fn column(&self) -> Column {
        self.store.column(&self.spec, &Silent).unwrap()
    }

    pub fn shards(&self) -> Vec<PathBuf> {
        let mut shards = column::list(&self.column_folder()).unwrap();
        shards.sort();
        shards
    }

    pub fn column_folder(&self) -> PathBuf {
        self.folder.path().join("cache/1").join(self.spec.key.to_string())
    }
}

/// Changes the bytes of a file.
pub(in crate::cache) fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}
