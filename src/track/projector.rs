//! Embeddings for TensorBoard's projector: two tables of tabs and a file that names them.

use std::fmt::Write as _;
use std::path::Path;

use crate::base::{Result, file};

/// Writes vectors `[rows, width]` with their labels and where each row comes from into `projector/` of the run directory.
///
/// # Errors
/// A file cannot be written.
pub fn write_embeddings(run_dir: &Path, vectors: &[f32], width: usize, rows: &[(String, String)]) -> Result<()> {
    let folder = run_dir.join("projector");
    std::fs::create_dir_all(&folder).map_err(crate::base::Error::io("create", &folder))?;
    let mut tensors = String::new();
    for row in vectors.chunks_exact(width.max(1)) {
        let numbers: Vec<String> = row.iter().map(ToString::to_string).collect();
        tensors += &(numbers.join("\t") + "\n");
    }
    let mut metadata = String::from("label\torigin\n");
    for (label, origin) in rows {
        let _ = writeln!(metadata, "{}\t{}", plain(label), plain(origin));
    }
    file::write_bytes(&folder.join("tensors.tsv"), tensors.as_bytes())?;
    file::write_bytes(&folder.join("metadata.tsv"), metadata.as_bytes())?;
    let config = "embeddings {\n  tensor_name: \"features\"\n  tensor_path: \"projector/tensors.tsv\"\n  metadata_path: \"projector/metadata.tsv\"\n}\n";
    file::write_bytes(&run_dir.join("projector_config.pbtxt"), config.as_bytes())
}

/// A text without what would end its cell.
fn plain(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_line_whatever_its_label_holds() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [("a\tb".to_string(), "1.png".to_string()), ("c".into(), "2\n.png".into())];
        write_embeddings(folder.path(), &[1.0, 2.5, 3.0, -4.0], 2, &rows).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("projector/tensors.tsv"), "1\t2.5\n3\t-4\n");
        assert_eq!(read("projector/metadata.tsv"), "label\torigin\na b\t1.png\nc\t2 .png\n");
        assert!(read("projector_config.pbtxt").contains("projector/tensors.tsv"));
    }
}
