//! Compaction, and the index that it writes.

use super::*;

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
