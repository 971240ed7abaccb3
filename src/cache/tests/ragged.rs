//! Rows of different lengths.

use super::*;
use crate::base::Cancel;

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
