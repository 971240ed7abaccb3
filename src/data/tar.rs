//! The members of a tar file and where their bytes are; nothing is unpacked.
//!
//! The format is POSIX's ustar with the pax and GNU extensions for long names and sizes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::base::{Error, Result};

/// A file in a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name with its folders. It is only a name: nothing is ever written there.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// Their number.
    pub len: u64,
}

const BLOCK: u64 = 512;

/// No extended header is longer.
const MAX_EXTENSION: u64 = 1 << 20;

/// Lists the files of a tar file.
///
/// # Errors
/// It cannot be read, is no tar file, is compressed, or is cut off.
pub(super) fn members(path: &Path) -> Result<Vec<Member>> {
    let bad = |why: &str| Error::bad_input(format!("`{}` is not a tar file that can be read: {why}", path.display()));
    let file = File::open(path).map_err(Error::io("open", path))?;
    let end = file.metadata().map_err(Error::io("read", path))?.len();
    let mut reader = BufReader::new(file);
    let mut members = Vec::new();
    let (mut at, mut long_name, mut long_size) = (0, None, None);
    while at < end {
        let mut head = [0; BLOCK as usize];
        reader.read_exact(&mut head).map_err(|_| bad("it is cut off in a header"))?;
        at += BLOCK;
        if head.iter().all(|byte| *byte == 0) {
            break;
        }
        if head.starts_with(&[0x1f, 0x8b]) {
            return Err(bad("it is compressed").hint("unpack it with `gunzip`, so that samples can be read in place"));
        }
        let (Some(sum), Some(size)) = (number(&head[148..156]), number(&head[124..136])) else {
            return Err(bad("a header has no size"));
        };
        let summed =
            head.iter().enumerate().map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u64::from(*byte) });
        if summed.sum::<u64>() != sum {
            return Err(bad("a header's checksum is wrong"));
        }
        let kind = head[156];
        let len = if matches!(kind, b'0' | 0) { long_size.take().unwrap_or(size) } else { size };
        let blocks = len.div_ceil(BLOCK).checked_mul(BLOCK).filter(|blocks| *blocks <= i64::MAX as u64);
        let Some(blocks) = blocks.filter(|_| at.checked_add(len).is_some_and(|last| last <= end)) else {
            return Err(bad("it is cut off"));
        };
        if matches!(kind, b'x' | b'L') {
            if len > MAX_EXTENSION {
                return Err(bad("an extended header is too long"));
            }
            let mut extension = vec![0; blocks as usize];
            reader.read_exact(&mut extension).map_err(|_| bad("it is cut off"))?;
            extension.truncate(len as usize);
            if kind == b'L' {
                long_name = Some(text(&extension));
            } else {
                for (key, value) in pax(&extension) {
                    match key {
                        "path" => long_name = Some(value.to_string()),
                        "size" => long_size = value.parse().ok(),
                        _ => {}
                    }
                }
            }
        } else {
            if matches!(kind, b'0' | 0) {
                let prefix = if &head[257..262] == b"ustar" { text(&head[345..500]) } else { String::new() };
                let short = text(&head[..100]);
                let short = if prefix.is_empty() { short } else { format!("{prefix}/{short}") };
                members.push(Member { name: long_name.take().unwrap_or(short), offset: at, len });
            }
            reader.seek_relative(blocks as i64).map_err(Error::io("read", path))?;
        }
        at += blocks;
    }
    Ok(members)
}

/// Text up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An octal number, or GNU's binary one.
fn number(bytes: &[u8]) -> Option<u64> {
    if bytes[0] & 0x80 != 0 {
        let (high, low) = bytes.split_at(bytes.len() - 8);
        let fits = high[0] == 0x80 && high[1..].iter().all(|byte| *byte == 0);
        return fits.then(|| low.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
    }
    u64::from_str_radix(text(bytes).trim(), 8).ok()
}

/// The records `length key=value\n` of a pax header; what is odd ends them.
fn pax(mut bytes: &[u8]) -> Vec<(&str, &str)> {
    let mut records = Vec::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| bytes.get(space + 1..length)) else { break };
        if let Some((key, value)) = std::str::from_utf8(record).ok().and_then(|text| text.trim_end().split_once('=')) {
            records.push((key, value));
        }
        bytes = &bytes[space + 1 + record.len()..];
    }
    records
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn header(name: &str, size: usize, kind: u8) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        head[148..156].fill(b' ');
        head[156] = kind;
        head[257..262].copy_from_slice(b"ustar");
        let sum: u64 = head.iter().map(|byte| u64::from(*byte)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        head
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().div_ceil(512) * 512, 0);
        bytes
    }

    /// A tar file of some files.
    pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (name, bytes) in files {
            tar.extend(header(name, bytes.len(), b'0'));
            tar.extend(padded(bytes));
        }
        tar.extend([0; 1024]);
        tar
    }

    fn list(bytes: &[u8]) -> Result<Vec<Member>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, bytes).unwrap();
        members(&path)
    }

    #[test]
    fn members_are_found_with_long_names_too() {
        let long = "x/".repeat(80) + "a.png";
        let record = format!("{} path={long}\n", long.len() + 10);
        let mut bytes = header("pax", record.len(), b'x');
        bytes.extend(padded(record.as_bytes()));
        bytes.extend(tar(&[("short", b"123")]));
        let found = list(&bytes).unwrap();
        assert_eq!(found, [Member { name: long.clone(), offset: 1536, len: 3 }]);
        let mut bytes = header("././@LongLink", long.len() + 1, b'L');
        bytes.extend(padded(format!("{long}\0").as_bytes()));
        bytes.extend(header("folder", 0, b'5'));
        bytes.extend(tar(&[("a", b"123"), ("b", b"")]));
        let names: Vec<String> = list(&bytes).unwrap().into_iter().map(|member| member.name).collect();
        assert_eq!(names, [long, "b".into()]);
    }

    #[test]
    fn what_is_no_tar_file_is_a_clear_error() {
        let good = tar(&[("a", &[7; 600]), ("b", &[7; 600])]);
        let error = |bytes: &[u8]| list(bytes).unwrap_err().to_string();
        assert!(error(&good[..700]).contains("cut off"));
        assert!(error(&good[..1600]).contains("cut off"));
        assert!(error(&[b'x'; 2048]).contains("has no size"));
        let mut flipped = good;
        flipped[3] ^= 1;
        assert!(error(&flipped).contains("checksum"));
        let zipped = [&[0x1f, 0x8b][..], &[8; 700]].concat();
        assert!(list(&zipped).unwrap_err().hint_text().unwrap().contains("gunzip"));
    }
}
