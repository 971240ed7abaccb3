//! What engines are compared on: real pictures or texts, or made-up ones where there are none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::random::Stream;
use crate::base::{Error, Result, file};
use crate::sample::image::{ImagePreprocess, Preprocessor};
use crate::sample::text::{Encoder, inputs_of};
use crate::sample::{Sample, Tensor, Values};

/// Ready samples.
#[derive(Debug, Clone)]
pub struct Samples {
    /// The inputs of each, `[1, …]`.
    pub inputs: Vec<Vec<Tensor>>,
    /// What they are, for the manifest.
    pub of: String,
}

/// More files than this are not listed to choose from.
const MOST_FILES: usize = 100_000;
/// A larger file is not one of sample texts.
const LARGEST_TEXT: u64 = 256 << 20;

impl Samples {
    /// Rows of normal random numbers.
    pub fn random(row: &[usize], count: usize) -> Self {
        let inputs = (0..count as u64).map(|sample| vec![random_tensor(row, sample)]).collect();
        Self { inputs, of: "random numbers".into() }
    }

    /// The lines of a text file that are not empty, evenly spread.
    ///
    /// # Errors
    /// The file cannot be read, is too large or not UTF-8, or has no such lines; one cannot be encoded.
    pub fn texts(path: &Path, encoder: &Encoder, count: usize) -> Result<Self> {
        let text = file::read_text(path, LARGEST_TEXT)?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            return Err(Error::bad_input(format!("there are no texts in `{}`", path.display())));
        }
        let count = count.clamp(1, lines.len());
        let inputs = (0..count).map(|i| inputs_of(encoder, lines[i * lines.len() / count])).collect::<Result<_>>()?;
        Ok(Self { inputs, of: format!("texts of {}", path.display()) })
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
        let row = preprocess.output_shape();
        let shape: Vec<usize> = std::iter::once(1).chain(row).collect();
        let one = |i: usize| {
            let (file, mut bytes) = (&files[i * files.len() / count], Vec::new());
            let mut out = vec![0.0; row.iter().product()];
            let sample = Sample::file(file);
            sample.read(&mut bytes)?;
            worker
                .apply(&bytes, &sample.encoding, &mut out)
                .map_err(|error| Error::bad_input(format!("`{}` cannot be a sample", file.display())).because(error))?;
            Ok(vec![Tensor { name: String::new(), shape: shape.clone(), data: Values::F32(out) }])
        };
        Ok(Self { inputs: (0..count).map(one).collect::<Result<_>>()?, of: format!("pictures of {}", path.display()) })
    }
}

/// Normal random numbers in the shape of one sample, `[1, …row]`: the same for the same seed.
pub fn random_tensor(row: &[usize], seed: u64) -> Tensor {
    let stream = Stream::new(seed, 0x766_572);
    let data = (0..row.iter().product::<usize>() as u64).map(|i| stream.normal(i)).collect();
    Tensor {
        name: String::new(),
        shape: std::iter::once(1).chain(row.iter().copied()).collect(),
        data: Values::F32(data),
    }
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
        let values: Vec<&[f32]> = samples.inputs.iter().map(|inputs| inputs[0].f32()).collect();
        assert_eq!(values, [[0.0; 3], [1.0; 3]]);
        assert_eq!(Samples::pictures(folder.path(), &preprocess, 9).unwrap().inputs.len(), 3);
        let none = folder.path().join("none");
        fs::create_dir(&none).unwrap();
        assert!(Samples::pictures(&none, &preprocess, 1).unwrap_err().to_string().contains("there are no pictures"));
        fs::write(none.join("x.png"), b"no").unwrap();
        assert!(Samples::pictures(&none, &preprocess, 1).unwrap_err().to_string().contains("x.png"));
    }
}
