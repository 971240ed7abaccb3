//! What engines are compared on: real pictures, or random numbers where there are none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::random::Stream;
use crate::base::{Error, Result};
use crate::sample::Sample;
use crate::sample::image::{ImagePreprocess, Preprocessor};

/// Ready inputs, each of one row.
#[derive(Debug, Clone)]
pub struct Samples {
    /// The values of each.
    pub rows: Vec<Vec<f32>>,
    /// What they are, for the manifest.
    pub of: String,
}

/// More files than this are not listed to choose from.
const MOST_FILES: usize = 100_000;

impl Samples {
    /// Rows of normal random numbers.
    pub fn random(row: &[usize], count: usize) -> Self {
        Self { rows: (0..count as u64).map(|sample| random_row(row, sample)).collect(), of: "random numbers".into() }
    }

    /// Pictures of a folder and the folders in it, evenly spread over their sorted names; or one picture.
    ///
    /// # Errors
    /// The folder cannot be read or has no pictures, by the endings of their names; one cannot be decoded.
    pub fn pictures(path: &Path, preprocess: &ImagePreprocess, count: usize) -> Result<Self> {
        let mut files = Vec::new();
        if path.is_file() {
            files.push(path.to_path_buf());
        } else {
            pictures_below(path, &mut files)?;
        }
        if files.is_empty() {
            return Err(Error::bad_input(format!("there are no pictures in `{}`", path.display())));
        }
        let count = count.clamp(1, files.len());
        let mut worker = Preprocessor::new(preprocess);
        let size = preprocess.output_shape().iter().product();
        let row = |i: usize| {
            let (file, mut bytes, mut out) = (&files[i * files.len() / count], Vec::new(), vec![0.0; size]);
            let sample = Sample::file(file);
            sample.read(&mut bytes)?;
            worker
                .apply(&bytes, &sample.encoding, &mut out)
                .map_err(|error| Error::bad_input(format!("`{}` cannot be a sample", file.display())).because(error))?;
            Ok(out)
        };
        Ok(Self { rows: (0..count).map(row).collect::<Result<_>>()?, of: format!("pictures of {}", path.display()) })
    }
}

/// A row of normal random numbers, the same for the same `sample`.
pub(super) fn random_row(row: &[usize], sample: u64) -> Vec<f32> {
    let stream = Stream::new(sample, 0x766_572);
    (0..row.iter().product::<usize>() as u64).map(|i| stream.normal(i)).collect()
}

fn pictures_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let kind = entry.file_type().map_err(Error::io("read", folder))?;
        // Links may lead in circles.
        paths.push((entry.path(), kind.is_dir()));
    }
    paths.sort_unstable();
    for (path, is_folder) in paths {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if is_folder {
            pictures_below(&path, files)?;
        } else if ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"].contains(&&*ending) {
            files.push(path);
        }
        if files.len() >= MOST_FILES {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_spread_over_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for (name, grey) in [("a.pgm", 0u8), ("b/c.pgm", 255), ("b/d.pgm", 51), ("b/notes.txt", 1)] {
            fs::write(folder.path().join(name), [b"P5 1 1 255\n".as_slice(), &[grey]].concat()).unwrap();
        }
        let preprocess: ImagePreprocess = serde_json::from_value(serde_json::json!(
            {"crop": 1, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
        ))
        .unwrap();
        let samples = Samples::pictures(folder.path(), &preprocess, 2).unwrap();
        assert_eq!(samples.rows, [[0.0; 3], [1.0; 3]]);
        assert_eq!(Samples::pictures(folder.path(), &preprocess, 9).unwrap().rows.len(), 3);
        let none = folder.path().join("none");
        fs::create_dir(&none).unwrap();
        assert!(Samples::pictures(&none, &preprocess, 1).unwrap_err().to_string().contains("there are no pictures"));
        fs::write(none.join("x.png"), b"no").unwrap();
        assert!(Samples::pictures(&none, &preprocess, 1).unwrap_err().to_string().contains("x.png"));
    }
}
