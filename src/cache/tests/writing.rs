//! Writing: when shards close, what is refused, and folders that cannot be used.

use std::time::Duration;

use super::*;

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
