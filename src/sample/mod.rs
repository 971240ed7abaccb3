//! Rank 1: what a sample is (its modality, where its bytes are, its digest) and how a network input
//! is made of it.
//!
//! A [`Sample`] says where bytes are and how to read them; only short texts of tables it holds itself. [`image`]
//! makes `[3, H, W]` tensors of photographs, [`text`] token ids of texts, and [`pipeline`] does so for many samples at
//! once. A [`Transform`] is one of these with all its steps.

pub mod image;
mod origin;
pub mod pipeline;
mod preprocess;
mod tensor;
pub mod text;
mod transform;

pub use origin::{Lines, Named, Origin};
pub use preprocess::PreprocessConfig;
pub use tensor::{Tensor, Values};
pub use transform::{Ready, Transform};

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Digest, Error, KeyWriter, Result};

/// No sample is larger; a larger file is refused before anything is allocated for it.
pub const MAX_SAMPLE_BYTES: u64 = 1 << 30;

/// What kind of thing a field of a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// A picture, for an image backbone.
    Image,
    /// A text, for a language backbone.
    Text,
}

impl Modality {
    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "pictures",
            Self::Text => "texts",
        }
    }
}

/// Where a sample's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A whole file.
    File(PathBuf),
    /// A part of a file that holds many samples.
    Range {
        /// The file.
        file: Arc<Path>,
        /// The first byte.
        offset: u64,
        /// The number of bytes.
        len: u64,
    },
    /// In memory: the cell of a table.
    Inline(Arc<[u8]>),
}

/// How the bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// PNG, JPEG, GIF, BMP, TIFF or WebP, as the bytes themselves say.
    Encoded,
    /// All red values, then all green, then all blue, row by row, one byte each (CIFAR's binary files).
    PlanarRgb {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// UTF-8 text.
    Text,
    /// Grey values, row by row, one byte each (MNIST's files).
    Grey {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// One input of one row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Where the bytes are.
    pub source: Source,
    /// What they mean.
    pub encoding: Encoding,
}

/// The samples of a row, one for each field: mostly one, which then needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Samples {
    /// One.
    One(Sample),
    /// Several, or none.
    Many(Box<[Sample]>),
}

impl std::ops::Deref for Samples {
    type Target = [Sample];

    fn deref(&self) -> &[Sample] {
        match self {
            Self::One(sample) => std::slice::from_ref(sample),
            Self::Many(samples) => samples,
        }
    }
}

impl From<Sample> for Samples {
    fn from(sample: Sample) -> Self {
        Self::One(sample)
    }
}

impl FromIterator<Sample> for Samples {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut samples: Vec<Sample> = samples.into_iter().collect();
        match (samples.len(), samples.pop()) {
            (1, Some(one)) => Self::One(one),
            (_, last) => Self::Many(samples.into_iter().chain(last).collect()),
        }
    }
}

impl Sample {
    /// An encoded image file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { source: Source::File(path.into()), encoding: Encoding::Encoded }
    }

    /// A text.
    pub fn text(text: &str) -> Self {
        Self { source: Source::Inline(text.as_bytes().into()), encoding: Encoding::Text }
    }

    /// Whether it is a text.
    pub fn is_text(&self) -> bool {
        self.encoding == Encoding::Text
    }

    /// The file that holds the bytes, if one does.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Range { file, .. } => Some(file),
            Source::Inline(_) => None,
        }
    }

    /// Puts the bytes into `buffer`, replacing what it held.
    ///
    /// # Errors
    /// The file cannot be read, is a folder, is shorter than the range, or the sample is larger than
    /// [`MAX_SAMPLE_BYTES`].
    pub fn read(&self, buffer: &mut Vec<u8>) -> Result<()> {
        self.read_part(0, u64::MAX, buffer).map(|_| ())
    }

    /// Puts at most `most` bytes from the `skip`-th on into `buffer`, and returns how many there are in all.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_part(&self, skip: u64, most: u64, buffer: &mut Vec<u8>) -> Result<u64> {
        buffer.clear();
        let path = match &self.source {
            Source::File(path) => path.as_path(),
            Source::Range { file, .. } => file,
            Source::Inline(bytes) => {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len() - skip);
                buffer.extend_from_slice(&bytes[skip..skip + most]);
                return Ok(bytes.len() as u64);
            }
        };
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        if metadata.is_dir() {
            return Err(Error::bad_input(format!("`{}` is a folder, not a file", path.display())));
        }
        let (offset, len) = match self.source {
            Source::Range { offset, len, .. } => (offset, len),
            Source::File(_) | Source::Inline(_) => (0, metadata.len()),
        };
        if len > MAX_SAMPLE_BYTES {
            let path = path.display();
            return Err(Error::bad_input(format!(
                "a sample of `{path}` has {len} bytes; at most {MAX_SAMPLE_BYTES} are read"
            )));
        }
        if offset.checked_add(len).is_none_or(|end| end > metadata.len()) {
            let (size, path) = (metadata.len(), path.display());
            return Err(Error::bad_input(format!("`{path}` has {size} bytes, too few for {len} bytes at {offset}")));
        }
        let skip = skip.min(len);
        if offset + skip > 0 {
            file.seek(SeekFrom::Start(offset + skip)).map_err(Error::io("read", path))?;
        }
        let wanted = most.min(len - skip);
        buffer.reserve_exact(wanted as usize);
        // A file that grows meanwhile is read to its old end.
        file.take(wanted).read_to_end(buffer).map_err(Error::io("read", path))?;
        Ok(len)
    }

    /// The digest of this sample, given its bytes.
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        self.digest_of_content(Digest::of(bytes))
    }

    /// The digest of this sample, given the digest of its bytes.
    ///
    /// An encoded image's digest is that of its bytes, so that a table of files' digests serves as it
    /// is, and images embedded in a table share rows with the same images in files. Raw pixels add
    /// their layout, without which the bytes say little, and text that it is text.
    pub fn digest_of_content(&self, content: Digest) -> Digest {
        let (layout, width, height) = match self.encoding {
            Encoding::Encoded => return content,
            Encoding::Text => return KeyWriter::new("sample").field("text", "utf8").field("bytes", content.0).finish(),
            Encoding::PlanarRgb { width, height } => ("planar_rgb", width, height),
            Encoding::Grey { width, height } => ("grey", width, height),
        };
        KeyWriter::new("sample").field(layout, format!("{width}x{height}")).field("bytes", content.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_and_its_bounds_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        std::fs::write(&path, b"0123456789").unwrap();
        let file: Arc<Path> = path.as_path().into();
        let range = |offset, len| Sample {
            source: Source::Range { file: file.clone(), offset, len },
            encoding: Encoding::Encoded,
        };
        let mut buffer = b"old".to_vec();
        range(2, 3).read(&mut buffer).unwrap();
        assert_eq!(buffer, b"234");
        assert_eq!(range(2, 5).read_part(3, 99, &mut buffer).unwrap(), 5);
        assert_eq!(buffer, b"56");
        assert_eq!(range(2, 5).read_part(99, 99, &mut buffer).unwrap(), 5);
        assert!(buffer.is_empty());
        assert!(range(8, 3).read(&mut buffer).unwrap_err().to_string().ends_with("too few for 3 bytes at 8"));
        assert!(range(u64::MAX, 2).read(&mut buffer).is_err());
        assert!(range(0, MAX_SAMPLE_BYTES + 1).read(&mut buffer).unwrap_err().to_string().contains("at most"));
        assert_eq!(Sample::file(folder.path()).read(&mut buffer).unwrap_err().exit_code(), 2);
        assert_eq!(Sample::file(folder.path().join("none")).read(&mut buffer).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_text_is_read_in_place_and_is_no_picture_of_the_same_bytes() {
        let text = Sample::text("words");
        let mut buffer = Vec::new();
        assert_eq!((text.read_part(1, 3, &mut buffer).unwrap(), buffer.as_slice()), (5, &b"ord"[..]));
        text.read(&mut buffer).unwrap();
        assert_eq!(buffer, b"words");
        assert_ne!(text.digest(b"words"), Digest::of(b"words"));
        assert!(text.path().is_none());
    }

    #[test]
    fn an_encoded_sample_has_the_digest_of_its_bytes_and_raw_pixels_another() {
        let encoded = Sample::file("x");
        assert_eq!(encoded.digest(b"abc"), Digest::of(b"abc"));
        let planar = |width, height| Sample { encoding: Encoding::PlanarRgb { width, height }, ..encoded.clone() };
        assert_ne!(planar(1, 1).digest(b"abc"), encoded.digest(b"abc"));
        assert_ne!(planar(1, 2).digest(b"abcdef"), planar(2, 1).digest(b"abcdef"));
    }
}
