//! Writing archives that others take apart by [`unpack`](super::unpack).

use std::fs::File;
use std::io;
use std::path::Path;

use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use crate::base::{Result, file};

/// Writes a zip archive without compression, which appears whole or not at all: a text by its name if there is one, then
/// files, each by its name in the archive. Equal contents give equal archives.
///
/// # Errors
/// Those of the file system.
pub fn write<'a>(
    to: &Path,
    text: Option<(&str, &str)>,
    files: impl Iterator<Item = (&'a str, &'a Path)>,
) -> Result<()> {
    file::write_atomic(to, |out| {
        let mut zip = ZipWriter::new(out);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(true);
        if let Some((name, text)) = text {
            zip.start_file(name, options).map_err(io::Error::other)?;
            io::Write::write_all(&mut zip, text.as_bytes())?;
        }
        for (name, path) in files {
            zip.start_file(name, options).map_err(io::Error::other)?;
            io::copy(&mut File::open(path)?, &mut zip)?;
        }
        zip.finish().map_err(io::Error::other)?;
        Ok(())
    })
}
