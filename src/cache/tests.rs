//! The format held to its word: what is stored is read, and each way to damage a shard is found.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::base::progress::Silent;
use crate::base::random::Stream;
use crate::base::{Cancel, DType, Digest, Event, Home, Progress};

/// Takes the warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

pub(super) fn spec(row_shape: &[usize], dtype: DType) -> ColumnSpec {
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

pub(super) fn digest(i: usize) -> Digest {
    Digest::of(&i.to_le_bytes())
}

pub(super) fn row(i: usize, len: usize) -> Vec<f32> {
    let stream = Stream::new(i as u64, 0);
    (0..len).map(|at| half::f16::from_f32(stream.normal(at as u64)).to_f32()).collect()
}

/// Stores rows in shards of `per_shard`.
pub(super) fn fill(column: &Column, rows: std::ops::Range<usize>, per_shard: usize) {
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

pub(super) struct Sandbox {
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

#[test]
fn rows_come_back_in_any_order_from_any_number_of_shards() {
    for dtype in [DType::F32, DType::F16] {
        let sandbox = Sandbox::new(&[3, 5], dtype);
        let column = sandbox.column();
        assert_eq!(column.missing(&[digest(0), digest(1), digest(0)]), [0, 1]);
        fill(&column, 0..100, 7);
        assert!(!column.contains(&digest(5)), "a column is as it was when it was opened");
        column.refresh(&Silent).unwrap();
        assert_eq!(column.rows(), 100);
        let order = [99, 0, 50, 50, 7, 98];
        let reader = column.reader(&order.map(digest)).unwrap();
        assert_eq!((reader.len(), reader.row_shape()), (6, &[3, 5][..]));
        let mut out = vec![0.0; 3 * 15];
        reader.read(&[5, 0, 2], &mut out).unwrap();
        assert_eq!(out, [row(98, 15), row(99, 15), row(50, 15)].concat());
        assert!(reader.read(&[6, 0, 0], &mut out).unwrap_err().to_string().contains("row 6"));
        assert!(reader.read(&[1], &mut out).is_err());
        let error = column.reader(&[digest(1), digest(500), digest(501)]).err().unwrap().to_string();
        assert!(error.starts_with("2 of 3 rows of tensor `/encoder/out` are not in the cache; the first is sample 1"));
        assert_eq!(column.missing(&[digest(3), digest(200), digest(200), digest(4), digest(201)]), [1, 4]);
    }
}

/// Any safetensors reader can open a shard, and the checksums are what the format says.
#[test]
fn a_shard_is_what_the_format_says() {
    let sandbox = Sandbox::new(&[70_000], DType::F32);
    fill(&sandbox.column(), 0..9, 9);
    let [path] = &sandbox.shards()[..] else { panic!() };
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let digests = tensors.tensor("digest").unwrap();
    assert_eq!((digests.shape(), &digests.data()[32..64]), (&[9, 32][..], &digest(1).0[..]));
    let values = tensors.tensor("values").unwrap();
    assert_eq!((values.shape(), values.dtype()), (&[9, 70_000][..], safetensors::Dtype::F32));
    let third: &[f32] = &row(3, 70_000);
    assert_eq!(&values.data()[3 * 280_000..4 * 280_000], bytemuck::cast_slice::<f32, u8>(third));
    let sums = tensors.tensor("sums").unwrap();
    let head = bytes.len() - 9 * (32 + 280_000);
    assert!(head.is_multiple_of(4096) && sums.shape() == [3]);
    for (sum, block) in sums.data().chunks(8).zip(bytes[head..].chunks(1 << 20)) {
        assert_eq!(sum, &blake3::hash(block).as_bytes()[..8]);
    }
    let name = blake3::hash(&bytes[..head]).to_hex();
    assert_eq!(path.file_stem().unwrap().to_str().unwrap(), &name[..32]);
}

#[test]
fn the_first_of_two_rows_with_one_digest_wins_whatever_the_order_of_writing() {
    let sandbox = Sandbox::new(&[1], DType::F32);
    let column = sandbox.column();
    for value in [1.0, 2.0, 3.0] {
        let mut writer = column.writer().unwrap();
        writer.push(digest(0), &[value]).unwrap();
        writer.push(digest(0), &[-value]).unwrap();
        writer.finish().unwrap();
    }
    let first = std::fs::read(&sandbox.shards()[0]).unwrap();
    let wins = f32::from_le_bytes(first[first.len() - 8..first.len() - 4].try_into().unwrap());
    let mut out = [0.0];
    sandbox.column().reader(&[digest(0)]).unwrap().read(&[0], &mut out).unwrap();
    assert_eq!(out, [wins]);
    assert!(wins > 0.0);
}

#[test]
fn shards_close_by_bytes_and_by_age_and_a_dropped_writer_stores_what_it_has() {
    let sandbox = Sandbox::new(&[4], DType::F32);
    let column = sandbox.column();
    let mut writer = column.writer_with(Limits { bytes: 64, age: Duration::from_secs(60) }).unwrap();
    (0..8).for_each(|i| writer.push(digest(i), &row(i, 4)).unwrap());
    assert_eq!(sandbox.shards().len(), 2);
    assert_eq!(writer.finish().unwrap(), Written { rows: 8, bytes: 2 * (4096 + 4 * 48), shards: 2, error: 0.0 });
    let mut writer = column.writer_with(Limits { bytes: 1 << 20, age: Duration::ZERO }).unwrap();
    (8..11).for_each(|i| writer.push(digest(i), &row(i, 4)).unwrap());
    assert_eq!(sandbox.shards().len(), 5);
    drop(writer);
    let mut writer = column.writer().unwrap();
    writer.push(digest(11), &row(11, 4)).unwrap();
    drop(writer);
    assert_eq!(sandbox.column().rows(), 12);
    assert_eq!(column.writer().unwrap().finish().unwrap(), Written::default());
}

#[test]
fn a_row_that_is_stored_is_not_stored_again() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    fill(&sandbox.column(), 0..4, 4);
    let mut writer = sandbox.column().writer().unwrap();
    (2..6).for_each(|i| writer.push(digest(i), &row(i, 2)).unwrap());
    assert_eq!(writer.finish().unwrap().rows, 2);
}

/// The relative errors of rounding normal numbers; for i8 the step is the largest of 768 numbers / 127.
#[test]
fn each_dtype_loses_what_it_must_and_says_so() {
    let bounds =
        [(DType::F32, 0.0, 0.0), (DType::F16, 1e-4, 3e-4), (DType::Bf16, 1e-3, 2.5e-3), (DType::I8, 5e-3, 1e-2)];
    for (dtype, low, high) in bounds {
        let sandbox = Sandbox::new(&[768], dtype);
        let stream = Stream::new(5, 5);
        let values: Vec<f32> = (0..5 * 768).map(|i| stream.normal(i)).collect();
        let mut writer = sandbox.column().writer().unwrap();
        values.chunks(768).enumerate().for_each(|(i, row)| writer.push(digest(i), row).unwrap());
        writer.push(digest(5), &[0.0; 768]).unwrap();
        let error = writer.finish().unwrap().error;
        assert!((low..=high).contains(&error), "{dtype:?} {error}");
        let mut out = vec![1.0; 6 * 768];
        let reader = sandbox.column().reader(&[0, 1, 2, 3, 4, 5].map(digest)).unwrap();
        reader.read(&[0, 1, 2, 3, 4, 5], &mut out).unwrap();
        let square = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let differences: Vec<f32> = values.iter().zip(&out).map(|(a, b)| a - b).collect();
        let measured = (square(&differences) / square(&values)).sqrt();
        assert!((measured - error).abs() < 1e-9, "{dtype:?} {measured} {error}");
        assert_eq!(out[5 * 768..], [0.0; 768]);
    }
    let sandbox = Sandbox::new(&[2], DType::I8);
    let mut writer = sandbox.column().writer().unwrap();
    assert!(writer.push(digest(0), &[f32::NAN, 1.0]).unwrap_err().to_string().contains("NaN"));
    writer.push(digest(1), &[1e-45, -1e-40]).unwrap();
    writer.push(digest(2), &[3e38, -3e38]).unwrap();
    assert!(writer.finish().unwrap().error < 1e-6);
}

#[test]
fn values_that_cannot_be_stored_are_errors_that_name_the_tensor() {
    let sandbox = Sandbox::new(&[2], DType::F16);
    let mut writer = sandbox.column().writer().unwrap();
    let error = writer.push(digest(0), &[1.0, 7e4]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `/encoder/out` has a value of magnitude 70000, which overflows `f16`");
    assert_eq!(error.hint_text(), Some("set `cache.dtype: bf16` or `f32`"));
    let error = writer.push(digest(0), &[1.0, f32::NAN]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `/encoder/out` has the value NaN at element 1");
    assert!(writer.push(digest(0), &[f32::INFINITY, 0.0]).unwrap_err().to_string().contains("the value inf"));
    assert!(writer.push(digest(0), &[1.0]).unwrap_err().to_string().contains("a row of 1 values"));
    writer.push(digest(1), &[1.0, 65504.0]).unwrap();
    assert_eq!(writer.finish().unwrap().rows, 1);
    let sandbox = Sandbox::new(&[2], DType::F32);
    assert!(sandbox.column().writer().unwrap().push(digest(0), &[0.0, f32::NEG_INFINITY]).is_err());
    for shape in [&[0][..], &[1 << 40, 1 << 40], &[1 << 30]] {
        assert!(sandbox.store.column(&spec(shape, DType::F32), &Silent).is_err());
    }
}

/// Damages one of three shards and opens the column: two thirds of the rows are left, the damage is told,
/// and the file is set aside.
fn damaged_at_opening(why: &str, damage: impl Fn(&Path)) {
    let sandbox = Sandbox::new(&[400], DType::F32);
    fill(&sandbox.column(), 0..30, 10);
    let victim = &sandbox.shards()[1];
    damage(victim);
    let warnings = Warnings::default();
    let column = sandbox.store.column(&sandbox.spec, &warnings).unwrap();
    let warnings = warnings.0.into_inner().unwrap();
    assert_eq!(warnings.len(), 1, "{why}");
    assert!(warnings[0].contains(victim.to_str().unwrap()) && warnings[0].contains(why), "{why}: {}", warnings[0]);
    assert!(warnings[0].ends_with("was set aside; its rows are computed again"));
    assert_eq!((column.rows(), sandbox.shards().len()), (20, 2), "{why}");
    let digests: Vec<Digest> = (0..30).map(digest).collect();
    let missing = column.missing(&digests);
    assert_eq!(missing.len(), 10);
    let mut writer = column.writer().unwrap();
    missing.iter().for_each(|&i| writer.push(digest(i), &row(i, 400)).unwrap());
    writer.finish().unwrap();
    assert!(sandbox.column().missing(&digests).is_empty());
}

pub(super) fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Rewrites text in the header.
fn retell(path: &Path, from: &str, to: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    assert_eq!(from.len(), to.len());
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    std::fs::write(path, &bytes).unwrap();
}

#[test]
fn damage_is_found_at_opening() {
    damaged_at_opening("incomplete metadata", |path| edit(path, |bytes| bytes.truncate(bytes.len() - 1)));
    damaged_at_opening("incomplete metadata", |path| edit(path, |bytes| bytes.push(0)));
    damaged_at_opening("invalid header length", |path| edit(path, |bytes| bytes.truncate(100)));
    damaged_at_opening("header too small", |path| edit(path, |bytes| bytes.clear()));
    damaged_at_opening("header too large", |path| edit(path, |bytes| bytes[..8].fill(0xff)));
    damaged_at_opening("invalid JSON", |path| edit(path, |bytes| bytes[8] = b'x'));
    damaged_at_opening("not of format", |path| retell(path, "caft.cache", "caft.cabin"));
    damaged_at_opening("its version is `2`", |path| retell(path, "\"version\":\"1\"", "\"version\":\"2\""));
    damaged_at_opening("another column", |path| {
        retell(path, &Digest::of(b"column").to_string(), &digest(7).to_string())
    });
    damaged_at_opening("no tensor `sums`", |path| retell(path, "\"sums\"", "\"suns\""));
    damaged_at_opening("`values` is I32 [10, 400], not F32 [10, 400]", |path| retell(path, "\"F32\"", "\"I32\""));
    damaged_at_opening("F32 [40, 100], not F32 [10, 400]", |path| retell(path, "[10,400]", "[40,100]"));
    damaged_at_opening("header does not match its name", |path| edit(path, |bytes| bytes[3900] = b'\t'));
    // Within the checksums, within the digests.
    damaged_at_opening("header does not match its name", |path| edit(path, |bytes| bytes[4090] ^= 0x80));
    damaged_at_opening("block 0 of 1", |path| edit(path, |bytes| bytes[4096 + 77] ^= 0x10));
}

#[test]
fn a_flipped_byte_of_the_values_is_found_before_it_is_used() {
    let sandbox = Sandbox::new(&[50_000], DType::F32);
    fill(&sandbox.column(), 0..20, 20);
    let [path] = &sandbox.shards()[..] else { panic!() };
    // In the last of the four blocks: row 19.
    edit(path, |bytes| *bytes.last_mut().unwrap() ^= 0x40);
    let column = sandbox.column();
    let reader = column.reader(&(0..20).map(digest).collect::<Vec<_>>()).unwrap();
    let mut out = vec![0.0; 50_000];
    reader.read(&[0], &mut out).unwrap();
    assert_eq!(out, row(0, 50_000));
    let error = reader.read(&[19], &mut out).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "block 3 of 4 fails its checksum");
    assert!(error.hint_text().unwrap().starts_with("it was set aside; run the same command again"));
    assert_eq!(sandbox.column().rows(), 0);
    assert!(reader.read(&[19], &mut out).is_err(), "a second attempt must not succeed");
}

#[test]
fn what_is_not_a_shard_is_passed_over_and_stale_temporary_files_are_removed() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    fill(&sandbox.column(), 0..4, 4);
    let folder = sandbox.column_folder();
    for name in [".tmp-1-2-3", ".tmp-4.safetensors", "notes.txt", "x.safetensors.damaged"] {
        std::fs::write(folder.join(name), "?").unwrap();
    }
    let stale = std::fs::File::options().append(true).open(folder.join(".tmp-1-2-3")).unwrap();
    stale.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
    let warnings = Warnings::default();
    assert_eq!(sandbox.store.column(&sandbox.spec, &warnings).unwrap().rows(), 4);
    assert!(warnings.0.into_inner().unwrap().is_empty());
    drop(sandbox.column().writer().unwrap());
    assert!(!folder.join(".tmp-1-2-3").exists() && folder.join(".tmp-4.safetensors").exists());
}

#[test]
fn a_damaged_or_missing_column_file_is_written_anew() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    fill(&sandbox.column(), 0..4, 4);
    let path = sandbox.column_folder().join("column.json");
    for damage in [&b"{"[..], b"[]", b"{\"format\": 2}"] {
        std::fs::write(&path, damage).unwrap();
        assert_eq!(sandbox.store.columns().unwrap().len(), 0);
        assert_eq!(sandbox.column().rows(), 4);
        drop(sandbox.column().writer().unwrap());
        assert_eq!(sandbox.store.columns().unwrap()[0].spec, sandbox.spec);
    }
}

#[test]
fn a_miss_has_a_reason() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    assert!(sandbox.store.nearest(&sandbox.spec).unwrap().is_none());
    fill(&sandbox.column(), 0..4, 4);
    let mut wanted = sandbox.spec.clone();
    wanted.key = Digest::of(b"other");
    wanted.ingredients.insert("precision".into(), "bf16".into());
    let (info, changes) = sandbox.store.nearest(&wanted).unwrap().unwrap();
    assert_eq!((info.spec.made_by.as_str(), info.shards), ("test", 1));
    let change = Change { ingredient: "precision".into(), stored: Some("fp32".into()), wanted: Some("bf16".into()) };
    assert_eq!(changes, [change]);
    assert!(sandbox.store.nearest(&sandbox.spec).unwrap().unwrap().1.is_empty());
}

#[test]
fn last_use_is_recorded_once_an_hour() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    fill(&sandbox.column(), 0..4, 4);
    let file = std::fs::File::options().append(true).open(sandbox.column_folder().join("last_use")).unwrap();
    let ago = |secs| std::time::SystemTime::now() - Duration::from_secs(secs);
    for (secs, updated) in [(600, false), (5000, true)] {
        file.set_modified(ago(secs)).unwrap();
        sandbox.column();
        let last_use = sandbox.store.columns().unwrap()[0].last_use;
        assert_eq!(last_use > ago(300), updated);
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_one_clear_error() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    std::fs::create_dir_all(sandbox.store.folder()).unwrap();
    // A file where the column's folder should be; permissions would not stop a test run as root.
    std::fs::write(sandbox.column_folder(), "").unwrap();
    let error = sandbox.store.column(&sandbox.spec, &Silent).err().unwrap();
    assert!(
        error.to_string().starts_with("cannot read `") && error.to_string().contains(&sandbox.spec.key.to_string())
    );
    std::fs::remove_file(sandbox.column_folder()).unwrap();
    let column = sandbox.column();
    std::fs::write(sandbox.column_folder(), "").unwrap();
    assert!(column.writer().err().unwrap().to_string().starts_with("cannot create `"));
}

#[test]
fn a_folder_that_vanishes_is_not_made_anew() {
    let sandbox = Sandbox::new(&[2], DType::F32);
    let mut writer = sandbox.column().writer().unwrap();
    writer.push(digest(0), &row(0, 2)).unwrap();
    std::fs::remove_dir_all(sandbox.store.folder()).unwrap();
    let error = writer.flush().unwrap_err();
    assert!(error.to_string().ends_with("is gone") && error.hint_text().unwrap().contains("unmounted"));
    drop(writer);
    assert!(!sandbox.store.folder().exists());
}

#[test]
fn many_threads_read_at_once() {
    let sandbox = Sandbox::new(&[1000], DType::F16);
    fill(&sandbox.column(), 0..3000, 1000);
    let reader = sandbox.column().reader(&(0..3000).map(digest).collect::<Vec<_>>()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let reader = &reader;
            scope.spawn(move || {
                let mut out = vec![0.0; 2000];
                for i in (thread..2999).step_by(7) {
                    reader.read(&[i, i + 1], &mut out).unwrap();
                    assert_eq!(out[..1000], row(i, 1000));
                }
            });
        }
    });
}

fn compact(column: &Column, shard_bytes: usize) -> Compacted {
    column.compact(shard_bytes, &Silent, &crate::base::Cancel::default()).unwrap()
}

/// All of the rows read back as they were pushed.
fn assert_rows(sandbox: &Sandbox, rows: std::ops::Range<usize>) {
    let column = sandbox.column();
    let digests: Vec<Digest> = rows.clone().map(digest).collect();
    assert!(column.missing(&digests).is_empty() && column.missing(&[digest(1 << 40)]) == [0]);
    let reader = column.reader(&digests).unwrap();
    let mut out = vec![0.0; column.spec().row_len()];
    for (at, i) in rows.enumerate() {
        reader.read(&[at], &mut out).unwrap();
        assert_eq!(out, row(i, out.len()));
    }
}

#[test]
fn compaction_merges_shards_in_the_order_of_writing_and_drops_duplicates() {
    let sandbox = Sandbox::new(&[100], DType::F32);
    let early = sandbox.column();
    fill(&early, 0..500, 50);
    // A writer that does not know of the first rows stores some again.
    fill(&early, 450..700, 60);
    let column = sandbox.column();
    assert_eq!(column.rows(), 750);
    let done = compact(&column, 300 * 432);
    assert_eq!((done.rows, done.dropped, done.shards), (700, 50, [15, 3]));
    assert_eq!((sandbox.shards().len(), column.rows()), (3, 700));
    assert_rows(&sandbox, 0..700);
    assert_eq!(column.reader(&(0..700).map(digest).collect::<Vec<_>>()).unwrap().len(), 700);
    // Again: nothing to do, and the large shards stay when rows are added.
    assert_eq!(compact(&column, 300 * 432).shards, [3, 3]);
    let before = sandbox.shards();
    fill(&column, 700..1000, 100);
    assert_rows(&sandbox, 0..1000);
    let done = compact(&column, 300 * 432);
    assert_eq!((done.rows, done.dropped, done.shards), (1000, 0, [6, 4]));
    assert_eq!(sandbox.shards().iter().filter(|shard| before.contains(shard)).count(), 2);
    assert_rows(&sandbox, 0..1000);
    assert!(!column.contains(&digest(5000)));
}

#[test]
fn rows_with_scales_are_compacted_as_they_are() {
    let sandbox = Sandbox::new(&[9], DType::I8);
    fill(&sandbox.column(), 0..40, 7);
    let read = || {
        let mut out = vec![0.0; 9 * 40];
        let reader = sandbox.column().reader(&(0..40).map(digest).collect::<Vec<_>>()).unwrap();
        reader.read(&(0..40).collect::<Vec<_>>(), &mut out).unwrap();
        out
    };
    let before = read();
    assert_eq!(compact(&sandbox.column(), 1 << 20).shards, [6, 1]);
    assert_eq!(read(), before);
}

#[test]
fn an_index_that_is_missing_damaged_or_wrong_is_done_without() {
    let sandbox = Sandbox::new(&[100], DType::F32);
    fill(&sandbox.column(), 0..100, 10);
    compact(&sandbox.column(), 50 * 432);
    assert_eq!(sandbox.shards().len(), 2);
    let index = sandbox.column_folder().join("rows.index");
    let good = std::fs::read(&index).unwrap();
    let data = good.len() - 1200;
    let shown = |change: &dyn Fn(&mut Vec<u8>)| {
        std::fs::write(&index, &good).unwrap();
        edit(&index, change);
    };
    // Damage that makes the index void.
    for damage in [&|bytes: &mut Vec<u8>| bytes.truncate(900) as _, &|bytes| bytes[3] = 9, &|bytes| bytes.clear()]
        as [&dyn Fn(&mut Vec<u8>); 3]
    {
        shown(damage);
        assert_rows(&sandbox, 0..100);
    }
    // A wrong row or a wrong place: the row is not found, which costs work but never gives a wrong value.
    shown(&|bytes| bytes[data + 800..].fill(0xff));
    assert_eq!(sandbox.column().missing(&(0..100).map(digest).collect::<Vec<_>>()).len(), 100);
    shown(&|bytes| bytes[data..data + 800].fill(0));
    let column = sandbox.column();
    assert!((0..100).all(|i| column.missing(&[digest(i)]).len() <= 1));
    // A shard of the index is gone.
    std::fs::write(&index, &good).unwrap();
    std::fs::remove_file(&sandbox.shards()[0]).unwrap();
    assert_eq!(sandbox.column().missing(&(0..100).map(digest).collect::<Vec<_>>()).len(), 50);
}

/// A row of 1 to 7 items of three numbers.
fn ragged_row(i: usize) -> Vec<f32> {
    row(i, 3 * (i % 7 + 1))
}

fn ragged(dtype: DType) -> (tempfile::TempDir, Store, ColumnSpec) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Home::at(folder.path().join("home"))).unwrap();
    (folder, store, ColumnSpec { ragged: true, ..spec(&[3], dtype) })
}

fn fill_ragged(column: &Column, rows: std::ops::Range<usize>, per_shard: usize) {
    let mut writer = column.writer().unwrap();
    for i in rows {
        writer.push(digest(i), &ragged_row(i)).unwrap();
        if (i + 1) % per_shard == 0 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap();
}

fn read_ragged(column: &Column, count: usize) {
    let digests: Vec<Digest> = (0..count).rev().map(digest).collect();
    let reader = column.reader(&digests).unwrap();
    let lengths: Vec<u32> = (0..count).rev().map(|i| (i % 7 + 1) as u32).collect();
    assert_eq!((reader.lengths(), reader.row_shape()), (Some(&lengths[..]), &[3][..]));
    let rows: Vec<usize> = (0..count).collect();
    let mut out = vec![9.0; count * 7 * 3];
    reader.read(&rows, &mut out).unwrap();
    for (out, i) in out.chunks(21).zip((0..count).rev()) {
        let mut expected = ragged_row(i);
        expected.resize(21, 0.0);
        assert_eq!(out, expected);
    }
    // Room for fewer items than a row has is no silent cut.
    assert!(reader.read(&rows, &mut vec![0.0; count * 3]).is_err());
}

#[test]
fn ragged_rows_come_back_padded_before_and_after_compaction() {
    let (folder, store, spec) = ragged(DType::F16);
    let open = || store.column(&spec, &Silent).unwrap();
    fill_ragged(&open(), 0..100, 30);
    fill_ragged(&open(), 90..200, 1000);
    read_ragged(&open(), 200);
    let compacted = open().compact(1 << 12, &Silent, &Cancel::default()).unwrap();
    assert_eq!(compacted.rows, 200);
    read_ragged(&open(), 200);
    let info = store.columns().unwrap().remove(0);
    assert!(info.spec.ragged && store.verify(&info, &Silent, &Cancel::default()).unwrap().damaged.is_empty());
    let path = folder.path().join("x.safetensors");
    open().export(ExportFormat::Safetensors, &path, &Cancel::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let items: usize = (0..200).map(|i| i % 7 + 1).sum();
    assert_eq!(tensors.tensor("values").unwrap().shape(), [items, 3]);
    assert_eq!(tensors.tensor("offsets").unwrap().shape(), [201]);
    let (files, _) = open().export(ExportFormat::Npy, &folder.path().join("x.npy"), &Cancel::default()).unwrap();
    assert_eq!(files.len(), 3);
    open().export(ExportFormat::Parquet, &folder.path().join("x.parquet"), &Cancel::default()).unwrap();
}

#[test]
fn ragged_shards_are_read_by_any_reader_and_refused_when_they_are_not_rows() {
    let (folder, store, spec) = ragged(DType::F32);
    let column = store.column(&spec, &Silent).unwrap();
    let mut writer = column.writer().unwrap();
    assert!(writer.push(digest(0), &[]).is_err() && writer.push(digest(0), &[1.0; 4]).is_err());
    drop(writer);
    fill_ragged(&column, 0..5, 100);
    let path = column::list(&folder.path().join("home/cache/1").join(spec.key.to_string())).unwrap().remove(0);
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let offsets: Vec<u8> = [0_u64, 1, 3, 6, 10, 15].iter().flat_map(|offset| offset.to_le_bytes()).collect();
    assert_eq!(tensors.tensor("offsets").unwrap().data(), offsets);
    assert_eq!(tensors.tensor("values").unwrap().shape(), [15, 3]);
    // A flipped byte in the offsets is found when the shard is opened.
    let at = bytes.windows(offsets.len()).position(|window| window == offsets).unwrap();
    edit(&path, |bytes| bytes[at + 8] ^= 2);
    let warnings = Warnings::default();
    assert_eq!(store.column(&spec, &warnings).unwrap().rows(), 0);
    assert!(warnings.0.lock().unwrap()[0].contains("is damaged"));
    // A fixed column of the same key does not take a ragged shard.
    fill_ragged(&store.column(&spec, &Silent).unwrap(), 0..5, 100);
    let fixed = ColumnSpec { ragged: false, ..spec };
    assert_eq!(store.column(&fixed, &Warnings::default()).unwrap().rows(), 0);
}
