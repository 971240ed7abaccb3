//! Reading a model: the file is mapped, weights stay where they are in it, and every way in which a
//! file is not a model gives its own error.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::proto::{DataLocation, ModelProto, TensorProto};
use super::walk::for_each_tensor_mut;
use crate::base::{Error, Result};

/// What a protobuf message can hold; larger models keep their weights in files beside.
pub const LARGEST_FILE: u64 = i32::MAX as u64;
/// Before it, nothing said which operators a model means.
const OLDEST_IR: i64 = 3;

/// Reads a model and maps its weights, also those in files beside it: afterwards every constant has its
/// values in the message (borrowed from the maps), whatever file they came from.
///
/// The files must not be changed while the model is in use.
///
/// # Errors
/// The file is missing, a folder, empty, too large, truncated, not an ONNX model (the error says what it
/// is, where that is plain) or of an unknown version; values lie outside the model's folder or outside
/// their file.
pub fn read(path: &Path) -> Result<ModelProto> {
    let bytes = map(path)?;
    let size = bytes.len() as u64;
    if size > LARGEST_FILE {
        let shown = path.display();
        return Err(Error::bad_input(format!("`{shown}` has {size} bytes; an ONNX file has at most {LARGEST_FILE}"))
            .hint("export it with its weights in external data"));
    }
    recognise(path, &bytes)?;
    let mut model = ModelProto::decode(bytes).map_err(|error| not_a_model(path, "").because(error))?;
    check_version(path, &model)?;
    let mut outside = ExternalData::beside(path);
    for_each_tensor_mut(&mut model, &mut |tensor| outside.attach(tensor))?;
    Ok(model)
}

/// The files beside a model that hold values of its tensors, each once, by the names that the model has
/// for them. Together with the model's own file they are its weights.
///
/// # Errors
/// Those of [`read`].
pub fn external_files(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let bytes = map(path)?;
    recognise(path, &bytes)?;
    let mut model = ModelProto::decode(bytes).map_err(|error| not_a_model(path, "").because(error))?;
    let mut files = BTreeMap::new();
    for_each_tensor_mut(&mut model, &mut |tensor| {
        if tensor.data_location() == DataLocation::External
            && let Some(location) = tensor.external_data.iter().find(|entry| entry.key == "location")
            && !files.contains_key(&location.value)
        {
            let file = inside(path, &location.value).map_err(|why| {
                let (shown, location) = (path.display(), &location.value);
                let error = Error::bad_input(format!("`{shown}` keeps values in `{location}`"));
                match why {
                    Escape::Outside => error.hint("that is outside the model's folder, and is not read"),
                    Escape::Missing(cause) => error.because(cause),
                }
            })?;
            files.insert(location.value.clone(), file);
        }
        Ok(())
    })?;
    Ok(files)
}

/// The names that a model has for files beside it, whether they are there or not.
///
/// # Errors
/// The model cannot be read.
pub fn external_locations(path: &Path) -> Result<BTreeSet<String>> {
    let bytes = map(path)?;
    recognise(path, &bytes)?;
    let mut model = ModelProto::decode(bytes).map_err(|error| not_a_model(path, "").because(error))?;
    let mut locations = BTreeSet::new();
    for_each_tensor_mut(&mut model, &mut |tensor| {
        if tensor.data_location() == DataLocation::External {
            locations.extend(tensor.external_data.iter().find(|e| e.key == "location").map(|e| e.value.clone()));
        }
        Ok(())
    })?;
    Ok(locations)
}

fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        return Err(Error::bad_input(format!("`{}` is a folder, not an ONNX file", path.display())));
    }
    if !metadata.is_file() {
        return Err(Error::bad_input(format!("`{}` is not a regular file", path.display())));
    }
    if metadata.len() == 0 {
        return Err(Error::bad_input(format!("`{}` is empty", path.display())));
    }
    // SAFETY: the map is only read. Someone who truncates the file meanwhile ends the process, as with
    // every program that maps its model; caft's own files are only ever replaced by renaming.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("read", path))?;
    Ok(Bytes::from_owner(map))
}

fn not_a_model(path: &Path, what: &str) -> Error {
    Error::bad_input(format!("`{}` is not an ONNX model{what}", path.display()))
}

/// Says what a file is if it is plainly something else, and whether it is truncated.
fn recognise(path: &Path, bytes: &[u8]) -> Result<()> {
    let head = &bytes[..bytes.len().min(1024)];
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim_start().to_lowercase();
    if ["<!doctype", "<html", "<head", "<?xml"].iter().any(|mark| text.starts_with(mark)) {
        return Err(not_a_model(path, " but a web page")
            .hint("the download probably gave a login or error page; fetch the file itself"));
    }
    if text.starts_with("version https://git-lfs") {
        return Err(not_a_model(path, " but a Git LFS pointer").hint("fetch the file itself with `git lfs pull`"));
    }
    let known: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", " but a zip archive, perhaps a PyTorch checkpoint"),
        (b"\x80\x02", " but a Python pickle"),
        (b"\x1f\x8b", " but a gzip archive"),
        (b"\x89HDF", " but an HDF5 file"),
        (b"ORTM", " but a model in ONNX Runtime's own format"),
    ];
    let mark = known.iter().find(|(mark, _)| head.starts_with(mark) || head.get(4..8) == Some(*mark));
    if let Some((_, what)) = mark {
        return Err(not_a_model(path, what).hint("export the model to ONNX first"));
    }
    if text.starts_with('{') || text.starts_with('[') {
        return Err(not_a_model(path, " but JSON or another text"));
    }
    walk_fields(path, bytes)
}

/// Goes over the outermost fields of the message without looking into them.
fn walk_fields(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut at = 0usize;
    let truncated = |needed: u64| {
        let (shown, size) = (path.display(), bytes.len());
        Err(Error::bad_input(format!("`{shown}` is truncated: it has {size} bytes of at least {needed}"))
            .hint("fetch or copy it again"))
    };
    while at < bytes.len() {
        let begin = at;
        let Some(key) = varint(bytes, &mut at) else { return truncated(bytes.len() as u64 + 1) };
        let (field, wire) = (key >> 3, key & 7);
        if !matches!(field, 1..=8 | 14 | 20 | 25 | 26) || matches!((field, wire), (7, 0 | 1 | 5) | (1, 1 | 2 | 5)) {
            return Err(not_a_model(path, ""));
        }
        let length = match wire {
            0 => match varint(bytes, &mut at) {
                Some(_) => 0,
                None => return truncated(bytes.len() as u64 + 1),
            },
            1 => 8,
            2 => match varint(bytes, &mut at) {
                Some(length) => length,
                None => return truncated(bytes.len() as u64 + 1),
            },
            5 => 4,
            _ => return Err(not_a_model(path, "")),
        };
        let end = (at as u64).saturating_add(length);
        if end > bytes.len() as u64 {
            // A first field without end is more likely not a message at all.
            let likely = field == 7 && length <= LARGEST_FILE;
            return if likely || begin > 0 { truncated(end) } else { Err(not_a_model(path, "")) };
        }
        at = end as usize;
    }
    Ok(())
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    // Ten bytes and still going on: no number; let the decoder say so.
    Some(u64::MAX)
}

fn check_version(path: &Path, model: &ModelProto) -> Result<()> {
    let (ir, shown) = (model.ir_version, path.display());
    if ir == 0 || model.graph.is_none() {
        let what = if ir == 0 { ": it has no format version" } else { ": it has no graph" };
        return Err(not_a_model(path, what));
    }
    if ir < OLDEST_IR {
        return Err(Error::bad_input(format!(
            "`{shown}` has ONNX format version {ir}; caft reads version {OLDEST_IR} and later ones"
        ))
        .hint("convert it with onnx.version_converter"));
    }
    // Which versions can be run is the runtime's to say: the user may have named a newer one.
    if let Ok(opset) = super::default_opset(model)
        && opset < 1
    {
        return Err(not_a_model(path, &format!(": it uses version {opset} of the ONNX operators")));
    }
    Ok(())
}

/// The files beside a model that hold values, each mapped once.
struct ExternalData {
    model: PathBuf,
    files: HashMap<String, Bytes>,
}

impl ExternalData {
    fn beside(model: &Path) -> Self {
        Self { model: model.to_path_buf(), files: HashMap::new() }
    }

    fn attach(&mut self, tensor: &mut TensorProto) -> Result<()> {
        if tensor.data_location() != DataLocation::External {
            return Ok(());
        }
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let wrong = |what: String| {
            Error::bad_input(format!("`{}` keeps the values of `{}` {what}", self.model.display(), tensor.name))
        };
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| wrong(format!("in another file at the {key} `{text}`, which is no number"))),
        };
        let location = entry("location").ok_or_else(|| wrong("in another file that it does not name".into()))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let wanted = tensor.byte_count()?.ok_or_else(|| wrong("in another file, but they are texts".into()))?;
        if let Some(length) = length.filter(|l| *l != wanted) {
            return Err(wrong(format!("in {length} bytes of `{location}`; its shape needs {wanted}")));
        }
        if !self.files.contains_key(location) {
            let path = inside(&self.model, location).map_err(|why| match why {
                Escape::Outside => wrong(format!("in `{location}`, which is outside the model's folder")),
                Escape::Missing(error) => wrong(format!("in `{location}`, which cannot be read")).because(error),
            })?;
            // An empty file can only hold empty constants.
            let empty = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == 0);
            let bytes = if empty { Bytes::new() } else { map(&path)? };
            self.files.insert(location.to_string(), bytes);
        }
        let file = &self.files[location];
        let end = offset.checked_add(wanted).filter(|end| *end <= file.len() as u64).ok_or_else(|| {
            let has = file.len();
            wrong(format!("in `{location}` at {offset}, {wanted} bytes long, but that file has {has} bytes"))
        })?;
        let values = file.slice(offset as usize..end as usize);
        tensor.raw_data = Some(values);
        tensor.external_data.clear();
        tensor.set_data_location(DataLocation::Default);
        Ok(())
    }
}

enum Escape {
    Outside,
    Missing(std::io::Error),
}

/// The real path of a file that a model names, if it lies in the model's folder. Both the folder of the
/// path as given and that of the real file count, so that a download cache whose entries are links into
/// one folder works; links that lead anywhere else do not.
fn inside(model: &Path, location: &str) -> Result<PathBuf, Escape> {
    let relative = Path::new(location);
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || location.contains(['\\', '\0']) || !relative.components().all(plain) {
        return Err(Escape::Outside);
    }
    let parent = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let folder = parent(model);
    let real = folder.join(relative).canonicalize().map_err(Escape::Missing)?;
    let homes = [folder.canonicalize(), model.canonicalize().map(|m| parent(&m))];
    if homes.into_iter().flatten().any(|home| real.starts_with(home)) {
        return Ok(real);
    }
    Err(if real.exists() { Escape::Outside } else { Escape::Missing(ErrorKind::NotFound.into()) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::proto::{GraphProto, StringStringEntryProto};
    use super::*;

    fn model_with(tensor: TensorProto) -> ModelProto {
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        ModelProto { ir_version: 8, graph: Some(graph), ..Default::default() }
    }

    fn external(location: &str, offset: &str, length: &str) -> TensorProto {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        TensorProto {
            name: "w".into(),
            dims: vec![2],
            data_type: 1,
            data_location: 1,
            external_data: vec![entry("location", location), entry("offset", offset), entry("length", length)],
            ..Default::default()
        }
    }

    fn fails(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string().replace(&path.display().to_string(), "m.onnx")
    }

    #[test]
    fn weights_are_not_copied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::write(&path, model_with(TensorProto::from_f32("w", &[2], &[1.0, 2.0])).encode_to_vec()).unwrap();
        let bytes = map(&path).unwrap();
        let range = bytes.as_ptr_range();
        let model = ModelProto::decode(bytes.clone()).unwrap();
        let raw = model.graph.unwrap().initializer[0].raw_data.clone().unwrap();
        assert!(range.contains(&raw.as_ptr()));
    }

    #[test]
    fn what_is_not_a_model_is_told_apart() {
        assert_eq!(fails(b""), "`m.onnx` is empty");
        assert_eq!(fails(b"\n<!DOCTYPE html><html>"), "`m.onnx` is not an ONNX model but a web page");
        assert_eq!(
            fails(b"version https://git-lfs.github.com/spec/v1\n"),
            "`m.onnx` is not an ONNX model but a Git LFS pointer"
        );
        assert!(fails(b"PK\x03\x04aaaa").ends_with("a zip archive, perhaps a PyTorch checkpoint"));
        assert_eq!(fails(b"just some words about nothing"), "`m.onnx` is not an ONNX model");
        assert_eq!(fails(&[0xff; 40]), "`m.onnx` is not an ONNX model");
        let mut model = model_with(TensorProto::from_f32("w", &[2], &[1.0, 2.0]));
        let whole = model.encode_to_vec();
        let short = fails(&whole[..whole.len() - 4]);
        assert_eq!(
            short,
            format!("`m.onnx` is truncated: it has {} bytes of at least {}", whole.len() - 4, whole.len())
        );
        model.ir_version = 8;
        model.graph = None;
        assert_eq!(fails(&model.encode_to_vec()), "`m.onnx` is not an ONNX model: it has no graph");
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().ends_with("is a folder, not an ONNX file"));
        assert_eq!(read(&folder.path().join("none")).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn values_in_another_file_stay_inside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/m.onnx");
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("secret"), [0; 64]).unwrap();
        fs::write(folder.path().join("sub/w.data"), [1.0f32, 2.0, 3.0].map(f32::to_le_bytes).concat()).unwrap();
        let attempt = |tensor: TensorProto| {
            fs::write(&path, model_with(tensor).encode_to_vec()).unwrap();
            read(&path)
        };
        let why = |tensor| {
            let text = attempt(tensor).unwrap_err().to_string();
            text.split_once("keeps the values of `w` ").unwrap().1.to_string()
        };
        let model = attempt(external("w.data", "4", "8")).unwrap();
        assert_eq!(model.graph.unwrap().initializer[0].to_f32().unwrap(), [2.0, 3.0]);
        assert_eq!(why(external("../secret", "0", "8")), "in `../secret`, which is outside the model's folder");
        let absolute = folder.path().join("secret");
        assert!(why(external(absolute.to_str().unwrap(), "0", "8")).ends_with("outside the model's folder"));
        assert_eq!(why(external("none", "0", "8")), "in `none`, which cannot be read");
        assert_eq!(why(external("w.data", "8", "8")), "in `w.data` at 8, 8 bytes long, but that file has 12 bytes");
        assert!(why(external("w.data", "18446744073709551615", "8")).contains("but that file has"));
        assert!(why(external("w.data", "-1", "8")).ends_with("which is no number"));
        assert_eq!(why(external("w.data", "0", "12")), "in 12 bytes of `w.data`; its shape needs 8");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", folder.path().join("sub/link")).unwrap();
            assert!(why(external("link", "0", "8")).ends_with("outside the model's folder"));
        }
    }
}
