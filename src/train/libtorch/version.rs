//! Which libtorch is loaded.

use std::path::Path;

/// The version of the libtorch that this process has loaded, such as `2.13.0+cpu`: from the file beside it that says
/// so, in PyTorch's own archives (`build-version`) and in its Python packages (`version.py`).
pub fn version() -> Option<String> {
    // Each line ends with the path of what is mapped there.
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let of_line = |line: &str| line.find('/').map(|at| line[at..].to_string());
    let library = maps.lines().filter_map(of_line).find(|path| path.contains("/libtorch_cpu.so"))?;
    version_of(Path::new(&library))
}

/// The version of the library at `…/lib/libtorch_cpu.so`.
fn version_of(library: &Path) -> Option<String> {
    let folder = library.parent()?.parent()?;
    let archive = std::fs::read_to_string(folder.join("build-version")).ok();
    archive.map(|text| text.trim().to_string()).filter(|version| !version.is_empty()).or_else(|| {
        let package = std::fs::read_to_string(folder.join("version.py")).ok()?;
        let line = package.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        Some(line.trim_matches(['\'', '"', ' ']).to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_beside_the_library_says_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("lib/libtorch_cpu.so");
        assert_eq!(version_of(&library), None);
        std::fs::write(folder.path().join("version.py"), "x = 1\n__version__ = '2.13.0+cpu'\n").unwrap();
        assert_eq!(version_of(&library).as_deref(), Some("2.13.0+cpu"));
        std::fs::write(folder.path().join("build-version"), "2.13.1+cpu\n").unwrap();
        assert_eq!(version_of(&library).as_deref(), Some("2.13.1+cpu"));
    }

    #[test]
    fn the_loaded_library_is_found() {
        assert!(tch::Tensor::from_slice(&[1.0f32]).size() == [1]);
        assert!(version().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())));
    }
}
