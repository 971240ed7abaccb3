//! `kind: mnist`: handwritten digits, and whatever else comes in the same idx files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Row;
use super::bad::BadRows;
use super::load::{Found, Pictures, Read, Set, SetPlace};
use crate::base::{Error, Result};
use crate::sample::{Encoding, Lines, Sample, Source};

/// MNIST and its relatives in idx files (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`),
/// unpacked. A set is the file of the images, whose labels lie beside it; with a `root` alone both sets are
/// found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mnist {
    /// Names of the classes 0, 1, …
    pub names: Vec<String>,
}

impl Default for Mnist {
    fn default() -> Self {
        Self { names: (0..10).map(|digit| digit.to_string()).collect() }
    }
}

impl Read for Mnist {
    fn find(&self, root: &Path) -> Result<Found> {
        for folder in [root.to_path_buf(), root.join("raw"), root.join("MNIST/raw")] {
            let file = |set: &str| -> Vec<PathBuf> {
                let names = [format!("{set}-images-idx3-ubyte"), format!("{set}-images.idx3-ubyte")];
                names.iter().map(|name| folder.join(name)).find(|path| path.is_file()).into_iter().collect()
            };
            let found = Found { train: file("train"), test: file("t10k"), ..Found::default() };
            if !found.train.is_empty() {
                return Ok(found);
            }
        }
        Err(Error::bad_input(format!("`{}` has no file `train-images-idx3-ubyte`", root.display()))
            .hint("unpack the `.gz` files with `gunzip`"))
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let mut set = Pictures { classes: self.names.clone(), ..Pictures::default() };
        for path in paths {
            self.read_file(path, place, &mut set)?;
        }
        Ok(set.into())
    }
}

impl Mnist {
    fn read_file(&self, path: &Path, place: &SetPlace<'_>, set: &mut Pictures) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains("images") {
            return Err(Error::bad_input(format!("`{}` is not a file of images in idx form", path.display()))
                .hint("its name has `images` in it, and the labels' `labels` in the same place"));
        }
        let labels_path = path.with_file_name(name.replace("images", "labels").replace("idx3", "idx1"));
        let mut head = Vec::new();
        let len = Sample::file(path).read_part(0, 16, &mut head)?;
        let labels = std::fs::read(&labels_path).map_err(Error::io("read", &labels_path))?;
        let bad = |path: &Path, why: &str| Error::bad_input(format!("`{}` is not in idx form: {why}", path.display()));
        let number = |bytes: &[u8], at: usize| {
            bytes.get(4 * at..4 * at + 4).map(|four| four.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
        };
        let [Some(0x803), Some(count), Some(height), Some(width)] = [0, 1, 2, 3].map(|at| number(&head, at)) else {
            return Err(bad(path, "it does not begin with 0x00000803").hint("unpack the `.gz` files with `gunzip`"));
        };
        let [Some(0x801), Some(label_count)] = [0, 1].map(|at| number(&labels, at)) else {
            return Err(bad(&labels_path, "it does not begin with 0x00000801"));
        };
        let picture = u64::from(width) * u64::from(height);
        if picture.checked_mul(count.into()).and_then(|all| all.checked_add(16)) != Some(len) {
            return Err(bad(path, &format!("{len} bytes are not {count} pictures of {width}×{height}")));
        }
        let labels = &labels[8..];
        if label_count != count || labels.len() != count as usize {
            return Err(bad(&labels_path, &format!("{} labels for {count} pictures", labels.len())));
        }
        let file: Arc<Path> = path.into();
        let mut bad = BadRows::new(place.on_error, format!("`{}` has labels that are none", labels_path.display()));
        let lines = Lines::of(path);
        for (row, label) in labels.iter().enumerate() {
            if usize::from(*label) >= self.names.len() {
                let classes = self.names.len();
                bad.push_at(&labels_path, row + 1, format!("label {label}, with {classes} classes"));
                continue;
            }
            let source = Source::Range { file: file.clone(), offset: 16 + row as u64 * picture, len: picture };
            let sample = Sample { source, encoding: Encoding::Grey { width, height } };
            set.rows.push(Row { samples: sample.into(), origin: lines.at(row + 1) });
            set.class_of.push(u32::from(*label));
        }
        set.left_out.extend(bad.finish()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::data::load::tests::{Fixture, class_names};
    use crate::sample::image::decode::{Pixels, decode};
    use serde_json::json;

    #[test]
    fn idx_files_are_read_and_checked_against_each_other() {
        let fixture = Fixture::new();
        let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[7; 6], &[9; 6]].concat();
        fixture.write("m/train-images-idx3-ubyte", &images);
        fixture.write("m/train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 4, 9]);
        let config = json!({"kind": "mnist", "root": "m"});
        let data = fixture.load(config.clone()).unwrap();
        assert_eq!(class_names(&data).1, [4, 9]);
        let sample = &data.rows[1].samples[0];
        let mut bytes = Vec::new();
        sample.read(&mut bytes).unwrap();
        assert_eq!(bytes, [9; 6]);
        let mut pixels = Pixels::default();
        decode(&bytes, &sample.encoding, &mut pixels).unwrap();
        assert_eq!((pixels.width, pixels.height, pixels.rgb), (3, 2, vec![9; 18]));

        fixture.write("m/train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 4]);
        assert!(fixture.load(config.clone()).unwrap_err().to_string().contains("1 labels for 2 pictures"));
        fixture.write("m/train-images-idx3-ubyte", &images[..20]);
        assert!(fixture.load(config.clone()).unwrap_err().to_string().contains("20 bytes are not 2 pictures of 3×2"));
        fixture.write("m/train-images-idx3-ubyte", b"\x1f\x8b gzip");
        assert!(fixture.load(config).unwrap_err().hint_text().unwrap().contains("gunzip"));
    }
}
