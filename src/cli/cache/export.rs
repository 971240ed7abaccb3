//! `caft cache export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::Work;
use crate::base::Error;
use crate::cache::ExportFormat;
use crate::cli::{Globals, print, print_json};

/// Copy a column into a file of another program, with the samples' digests.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The first digits of the column's key.
    key: String,
    /// The file to write; it must not be there yet.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// `npy`, `parquet` or `safetensors`; by the file's extension if not given.
    #[arg(long)]
    format: Option<ExportFormat>,
}

impl Export {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let format = match self.format {
            Some(format) => format,
            None => self.output.extension().and_then(|e| e.to_str()).unwrap_or_default().parse()?,
        };
        if self.output.exists() {
            let text = format!("`{}` is there already", self.output.display());
            return Err(Error::bad_input(text).hint("delete it or name another file").into());
        }
        let work = Work::new(globals)?;
        let column = work.open(&work.store.find(&self.key)?)?;
        let (files, rows) = column.export(format, &self.output, &work.cancel)?;
        if globals.json {
            print_json(&json!({"rows": rows, "files": files}))?;
        } else {
            let files: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
            print(&format!("{rows} rows of shape {:?} in {}\n", column.spec().row_shape, files.join(" and ")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
