//! Packed engines: one file that another machine can use without the source.
//!
//! A pack is a zip archive without compression: `engine.yaml` first, then the files that it names, and nothing
//! else. What is inside is believed only after its digests, its names and the model itself were checked.

use std::fs;
use std::path::Path;

use super::manifest::{MANIFEST, Manifest};
use super::{Built, build};
use crate::base::{Cancel, Error, Home, KeyWriter, Result, file};
use crate::graph::onnx;
use crate::resource::unpack::{Limits, unpack as unzip};
use crate::resource::{DigestTable, archive};

/// The ending of a pack's name.
pub const ENDING: &str = "caft-engine";
/// A model, its weights beside it, its manifest; more is no engine.
const MOST_FILES: usize = 16;

/// Packs an engine into one file, which appears whole or not at all. Equal engines give equal files.
///
/// # Errors
/// The engine is damaged; those of the file system.
pub fn pack(built: &Built, digests: &DigestTable, to: &Path) -> Result<()> {
    built.manifest.check_files(&built.folder, digests)?;
    let names = std::iter::once(MANIFEST).chain(built.manifest.files.keys().map(String::as_str));
    let paths: Vec<_> = names.map(|name| (name, built.folder.join(name))).collect();
    archive::write(to, None, paths.iter().map(|(name, path)| (*name, path.as_path())))
}

/// The manifest of a pack, without keeping anything.
///
/// # Errors
/// It is no pack, or a hostile one.
pub fn manifest_of(archive: &Path, cancel: &Cancel) -> Result<Manifest> {
    let folder = file::temporary_beside(&std::env::temp_dir().join(MANIFEST));
    let limits = Limits { bytes: 4 << 20, files: 1, ..Limits::default() };
    let read = unzip(archive, MANIFEST, &folder.join(MANIFEST), limits, cancel, |_| ())
        .map_err(no_pack(archive))
        .and_then(|_| Manifest::read(&folder));
    // A rest that cannot be removed does no harm.
    let _ = fs::remove_dir_all(&folder);
    read
}

/// Unpacks an engine and puts it on the shelf. `origin` says where it came from, for the manifest.
///
/// # Errors
/// It is no pack; it is damaged or hostile; it is not what its manifest says. Nothing is kept then.
pub fn unpack(home: &Home, archive: &Path, origin: &str, cancel: &Cancel) -> Result<Built> {
    let engines = home.folder("engines")?;
    let temporary = file::temporary_beside(&engines.join(MANIFEST));
    let limits = Limits { files: MOST_FILES, ..Limits::default() };
    let placed = unzip(archive, "", &temporary, limits, cancel, |_| ())
        .map_err(no_pack(archive))
        .and_then(|_| check(home, &temporary, archive))
        .and_then(|manifest| place(home, &temporary, Manifest { origin: Some(origin.into()), ..manifest }));
    // Nothing is left of it once it is in its place.
    let _ = fs::remove_dir_all(&temporary);
    placed
}

fn no_pack(archive: &Path) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Interrupted => Error::Interrupted,
        Error::Io { .. } => error,
        other => Error::bad_input(format!("`{}` is not a packed engine", archive.display())).because(other),
    }
}

/// Whether an unpacked folder is an engine, and no more.
fn check(home: &Home, folder: &Path, archive: &Path) -> Result<Manifest> {
    let shown = archive.display();
    let wrong = |what: String| Error::bad_input(format!("`{shown}` {what}")).hint("nothing of it was kept");
    let manifest = Manifest::read(folder)?;
    manifest
        .check_files(folder, &DigestTable::open(home)?)
        .map_err(|error| wrong("is not the engine that its manifest describes".into()).because(error))?;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let name = entry.map_err(Error::io("read", folder))?.file_name().to_string_lossy().into_owned();
        if name != MANIFEST && !manifest.files.contains_key(&name) {
            return Err(wrong(format!("holds `{name}`, which its manifest does not name")));
        }
    }
    let model = onnx::read(&folder.join(super::manifest::MODEL))?;
    let graph = model.graph.unwrap_or_default();
    let same = |have: Vec<&String>, said: Vec<&String>| have == said;
    let inputs = same(graph.input.iter().map(|v| &v.name).collect(), manifest.inputs.iter().map(|i| &i.name).collect());
    let outputs =
        same(graph.output.iter().map(|v| &v.name).collect(), manifest.outputs.iter().map(|o| &o.name).collect());
    if !inputs || !outputs {
        return Err(wrong("has a model with other inputs or outputs than its manifest says".into()));
    }
    Ok(manifest)
}

/// Renames a checked folder to its place on the shelf.
fn place(home: &Home, folder: &Path, manifest: Manifest) -> Result<Built> {
    // Never the place of an engine that is built here: whoever has the source trusts that alone.
    let key = KeyWriter::new("unpacked engine")
        .json("files", &manifest.files)
        .json("source", &manifest.source)
        .json("outputs", &manifest.outputs)
        .field("name", &manifest.name);
    let target = home.folder("engines")?.join(key.finish().short(32));
    manifest.write(folder)?;
    build::put_in_place(folder, &target, &DigestTable::open(home)?)?;
    Ok(Built { folder: target, manifest, reused: false })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use std::fs::File;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;
    use crate::base::Digest;
    use crate::engine::build::tests::tiny_engine;
    use crate::engine::manifest::{EngineFile, MODEL};

    fn zip(to: &Path, files: &[(&str, &[u8])]) {
        let mut zip = ZipWriter::new(File::create(to).unwrap());
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn a_packed_engine_is_unpacked_elsewhere_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (home, built) = tiny_engine(folder.path());
        let (pack_file, again) = (folder.path().join("a.caft-engine"), folder.path().join("b.caft-engine"));
        let digests = DigestTable::open(&home).unwrap();
        pack(&built, &digests, &pack_file).unwrap();
        pack(&built, &digests, &again).unwrap();
        assert_eq!(fs::read(&pack_file).unwrap(), fs::read(&again).unwrap());
        assert_eq!(manifest_of(&pack_file, &Cancel::default()).unwrap(), built.manifest);

        let other = Home::at(folder.path().join("other"));
        let there = unpack(&other, &pack_file, "a friend", &Cancel::default()).unwrap();
        assert_eq!(there.manifest.origin.as_deref(), Some("a friend"));
        assert_eq!(Manifest { origin: None, ..there.manifest.clone() }, built.manifest);
        assert_eq!(fs::read(there.model()).unwrap(), fs::read(built.model()).unwrap());
        assert_eq!(unpack(&other, &pack_file, "a friend", &Cancel::default()).unwrap().folder, there.folder);
        assert_eq!(fs::read_dir(other.folder("engines").unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_as_the_manifest_says_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (_, built) = tiny_engine(folder.path());
        let model = fs::read(built.model()).unwrap();
        let yaml = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = built.manifest.clone();
            change(&mut manifest);
            serde_yaml::to_string(&manifest).unwrap().into_bytes()
        };
        let good = yaml(&|_| ());
        let renamed = yaml(&|manifest| manifest.outputs[0].name = "other".into());
        let outside = yaml(&|manifest| {
            let file = EngineFile { bytes: 1, digest: Digest::of(b"x") };
            manifest.files.insert("../x".into(), file);
        });
        let page = yaml(&|manifest| {
            let file = EngineFile { bytes: 6, digest: Digest::of(b"<html>") };
            manifest.files.insert(MODEL.into(), file);
        });
        type Files<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Files<'_>, &str); 8] = [
            (&[(MANIFEST, &good), (MODEL, b"damaged")], "is not the engine that its manifest describes"),
            (&[(MANIFEST, &good), (MODEL, &model), ("more", b"x")], "holds `more`, which its manifest does not name"),
            (&[(MANIFEST, &renamed), (MODEL, &model)], "other inputs or outputs"),
            (&[(MANIFEST, &outside), (MODEL, &model)], "is not the engine that its manifest describes"),
            (&[(MANIFEST, &page), (MODEL, b"<html>")], "is not an ONNX model"),
            (&[(MODEL, &model)], "engine.yaml"),
            (&[(MANIFEST, &good), ("../../model.onnx", &model)], "is not a packed engine"),
            (&[(MANIFEST, b"format: 1\nname: ["), (MODEL, &model)], "is not a manifest of an engine"),
        ];
        let home = Home::at(folder.path().join("other"));
        for (files, part) in cases {
            let path = folder.path().join("x.caft-engine");
            zip(&path, files);
            let error = unpack(&home, &path, "test", &Cancel::default()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let path = folder.path().join("x.caft-engine");
        fs::write(&path, b"no zip").unwrap();
        let error = unpack(&home, &path, "test", &Cancel::default()).unwrap_err();
        assert!(error.to_string().ends_with("is not a packed engine"), "{error}");
        assert_eq!(fs::read_dir(home.folder("engines").unwrap()).unwrap().count(), 0);
    }
}
