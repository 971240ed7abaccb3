//! Damage: found at opening, or before a value is used.

use super::*;

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
