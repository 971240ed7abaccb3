//! Building: from a source model to an engine's folder, or to the one that was built before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::{EngineFile, EngineInput, EngineOutput, FORMAT, MODEL, Manifest, SourceModel};
use super::precision::{Conversion, Converted};
use super::verify::Scratch;
use crate::backbone::Task;
use crate::base::{Digest, Error, Home, KeyWriter, Result, file};
use crate::graph::onnx::proto::{DataType, ValueInfoProto};
use crate::graph::onnx::{self, OutputSpec, Select};
use crate::resource::DigestTable;
use crate::sample::image::ImagePreprocess;
use crate::sample::text::{TextInput, TextInputs};

/// Raised when the same request gives another file, so that engines built before are not reused.
const BUILD_VERSION: &str = "4";

/// What to build.
#[derive(Clone, Copy)]
pub struct BuildRequest<'a> {
    /// The catalogue entry, or the source file's name.
    pub name: &'a str,
    /// The source model's file.
    pub source: &'a Path,
    /// Where it came from, as it was written.
    pub address: &'a str,
    /// The digest of the source model's file.
    pub digest: Digest,
    /// Where to cut.
    pub outputs: &'a [OutputSpec],
    /// The licence of the weights, where it is known.
    pub licence: Option<&'a str>,
    /// The family of backbones, where it is known.
    pub family: Option<&'a str>,
    /// The tasks its features serve, where they are known.
    pub tasks: &'a [Task],
    /// How a picture becomes the input, where it is known.
    pub preprocess: Option<&'a ImagePreprocess>,
    /// The names of a text network's inputs, where they are known to be others than usual.
    pub inputs: Option<&'a TextInputs>,
    /// Height and width that pictures have, which may be others than the model was exported for.
    pub image: Option<[usize; 2]>,
    /// How the cut model is converted.
    pub conversion: Conversion<'a>,
}

/// An engine on disk.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its folder below the home's `engines/`.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether it was there before.
    pub reused: bool,
}

impl Built {
    /// The path of the model.
    pub fn model(&self) -> PathBuf {
        self.folder.join(MODEL)
    }
}

impl BuildRequest<'_> {
    /// What the engine's folder is called: everything that decides what is in it.
    pub fn key(&self) -> Digest {
        let key = KeyWriter::new("engine")
            .field("version", BUILD_VERSION)
            .field("source", self.digest.to_string())
            .json("outputs", &self.outputs)
            .json("image", &self.image)
            .field("precision", self.conversion.precision().name())
            .field("conversion", self.conversion.key());
        let unusual = self.inputs.filter(|names| **names != TextInputs::default());
        unusual.into_iter().fold(key, |key, names| key.json("inputs", names)).finish()
    }
}

/// Cuts the source model and writes the engine to `engines/<key>/`; an engine that is there already and
/// undamaged is reused, a damaged one is built again. The folder appears whole or not at all.
///
/// # Errors
/// Those of [`onnx::read()`], [`onnx::cut()`] and the file system.
pub fn build(home: &Home, request: &BuildRequest<'_>) -> Result<Built> {
    let folder = home.folder("engines")?.join(request.key().short(32));
    let digests = DigestTable::open(home)?;
    if let Some(manifest) = undamaged(&folder, &digests) {
        digests.save()?;
        return Ok(Built { folder, manifest, reused: true });
    }
    let scratch = Scratch::beside(&folder)?;
    let mut model = onnx::cut(onnx::read(request.source)?, request.outputs)?;
    onnx::widen_inputs(&mut model);
    if let Some(size) = request.image {
        onnx::set_image_size(&mut model, size)?;
    }
    let converted = request.conversion.apply(model, scratch.path())?;
    let manifest = keep(&folder, &digests, |temporary| write_folder(temporary, request, converted))?;
    Ok(Built { folder, manifest, reused: false })
}

/// Lets `write` fill a new folder, and puts it in its place once it is whole.
fn keep(folder: &Path, digests: &DigestTable, write: impl FnOnce(&Path) -> Result<Manifest>) -> Result<Manifest> {
    let temporary = file::temporary_beside(folder);
    let manifest = fs::create_dir(&temporary)
        .map_err(Error::io("create", &temporary))
        .and_then(|()| write(&temporary))
        .and_then(|manifest| put_in_place(&temporary, folder, digests).map(|()| manifest));
    if manifest.is_err() {
        // The error at hand matters more than a temporary folder that stays.
        let _ = fs::remove_dir_all(&temporary);
    }
    manifest
}

/// A kept engine as it is, or, where other outputs or another order are wanted, the part of it that gives these.
/// `outputs` are among the engine's, by tensor and selection.
///
/// # Errors
/// An output is not among them; those of the cut and the file system.
pub fn part(home: &Home, kept: &Built, outputs: &[OutputSpec]) -> Result<Built> {
    let manifest = &kept.manifest;
    let of = |spec: &OutputSpec| {
        let found = manifest.outputs.iter().find(|o| o.tensor == spec.tensor && o.select == spec.select);
        found.ok_or_else(|| Error::bad_input(format!("the engine `{}` has no output `{}`", manifest.name, spec.name)))
    };
    let wanted: Vec<&EngineOutput> = outputs.iter().map(of).collect::<Result<_>>()?;
    let same = wanted.len() == manifest.outputs.len()
        && wanted.iter().zip(&manifest.outputs).zip(outputs).all(|((a, b), spec)| *a == b && a.name == spec.name);
    if same {
        return Ok(kept.clone());
    }
    let key = KeyWriter::new("part of an engine")
        .field("version", BUILD_VERSION)
        .json("files", &manifest.files)
        .json("source", &manifest.source)
        .json("outputs", &outputs);
    let folder = home.folder("engines")?.join(key.finish().short(32));
    let digests = DigestTable::open(home)?;
    if let Some(manifest) = undamaged(&folder, &digests) {
        return Ok(Built { folder, manifest, reused: true });
    }
    let all = |(wanted, spec): (&&EngineOutput, &OutputSpec)| OutputSpec {
        name: spec.name.clone(),
        tensor: wanted.name.clone(),
        select: Select::All,
    };
    let specs: Vec<OutputSpec> = wanted.iter().zip(outputs).map(all).collect();
    let model = onnx::cut(onnx::read(&kept.model())?, &specs)?;
    let mut manifest = manifest.clone();
    manifest.outputs = wanted
        .into_iter()
        .zip(outputs)
        .map(|(wanted, spec)| EngineOutput { name: spec.name.clone(), ..wanted.clone() })
        .collect();
    manifest.parameters = onnx::parameters(&model);
    manifest.flops = onnx::inspect::flops(&model, manifest.preprocess.as_ref().map(ImagePreprocess::output_shape))?;
    // They are about other files.
    manifest.checks.clear();
    let manifest = keep(&folder, &digests, |temporary| {
        onnx::write(&model, &temporary.join(MODEL))?;
        manifest.files = files_of(temporary)?;
        manifest.write(temporary)?;
        Ok(manifest)
    })?;
    Ok(Built { folder, manifest, reused: false })
}

fn undamaged(folder: &Path, digests: &DigestTable) -> Option<Manifest> {
    let manifest = Manifest::read(folder).ok()?;
    manifest.check_files(folder, digests).ok()?;
    Some(manifest)
}

fn write_folder(folder: &Path, request: &BuildRequest<'_>, converted: Converted) -> Result<Manifest> {
    let Converted { model, calibrated, checks } = converted;
    let model = &model;
    onnx::write(model, &folder.join(MODEL))?;
    let files = files_of(folder)?;
    let graph = model.graph.as_ref().ok_or_else(|| Error::failed("the cut model has no graph"))?;
    let outputs = request.outputs.iter().zip(&graph.output).map(|(spec, value)| EngineOutput {
        name: spec.name.clone(),
        tensor: spec.tensor.clone(),
        select: spec.select,
        dtype: dtype_name(value),
        shape: row_shape(value),
    });
    let inputs = graph.input.iter().map(|value| EngineInput {
        name: value.name.clone(),
        dtype: dtype_name(value),
        shape: row_shape(value).unwrap_or_default(),
        takes: takes(value, request.inputs),
    });
    let manifest = Manifest {
        format: FORMAT,
        name: request.name.into(),
        source: SourceModel { address: request.address.into(), digest: request.digest },
        origin: None,
        licence: request.licence.map(Into::into),
        family: request.family.map(Into::into),
        tasks: request.tasks.to_vec(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        preprocess: request.preprocess.cloned(),
        precision: request.conversion.precision().name().into(),
        provider: request.conversion.provider().into(),
        calibration: calibrated,
        opset: onnx::default_opset(model)?,
        parameters: onnx::parameters(model),
        flops: onnx::inspect::flops(model, request.preprocess.map(ImagePreprocess::output_shape))?,
        files,
        checks: checks.into_iter().collect(),
    };
    manifest.write(folder)?;
    Ok(manifest)
}

/// What of a text an input takes, if it takes integers, by its name.
fn takes(value: &ValueInfoProto, names: Option<&TextInputs>) -> Option<TextInput> {
    let integers = value.tensor().is_some_and(|tensor| tensor.elem_type() == DataType::Int64);
    let known = || names.map_or_else(|| TextInput::usual(&value.name), |names| names.takes(&value.name));
    integers.then(known).flatten()
}

/// The files of a folder with their sizes and digests.
fn files_of(folder: &Path) -> Result<BTreeMap<String, EngineFile>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, EngineFile { bytes, digest: Digest::of_file(&path)? });
    }
    Ok(files)
}

/// Puts the finished folder in its place, unless another process has put an undamaged one there.
pub(super) fn put_in_place(temporary: &Path, folder: &Path, digests: &DigestTable) -> Result<()> {
    file::place_folder(temporary, folder, || undamaged(folder, digests).is_some())
}

fn row_shape(value: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let shape = value.tensor()?.shape.as_ref()?;
    Some(shape.dim.iter().skip(1).map(onnx::proto::Dimension::fixed).collect())
}

fn dtype_name(value: &ValueInfoProto) -> String {
    match value.tensor().map_or(DataType::Undefined, |tensor| tensor.elem_type()) {
        DataType::Float => "f32".into(),
        DataType::Float16 => "f16".into(),
        DataType::Bfloat16 => "bf16".into(),
        DataType::Double => "f64".into(),
        DataType::Int64 => "i64".into(),
        DataType::Int32 => "i32".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::graph::onnx::testing;

    /// A home below `folder` with one engine of a tiny network, whose outputs are `cls` and `tokens`.
    pub fn tiny_engine(folder: &Path) -> (Home, Built) {
        let home = Home::at(folder.join("home"));
        let source = folder.join("tiny.onnx");
        onnx::write(&testing::tiny_vit(), &source).unwrap();
        let norm = "/norm/Add_1_output_0";
        let outputs =
            [spec("cls", norm), OutputSpec { name: "tokens".into(), tensor: norm.into(), select: Select::All }];
        let built = build(&home, &request(&source, &outputs)).unwrap();
        (home, built)
    }

    #[test]
    fn a_part_of_an_engine_gives_some_of_its_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let (home, built) = tiny_engine(folder.path());
        let specs: Vec<OutputSpec> = built
            .manifest
            .outputs
            .iter()
            .map(|o| OutputSpec { name: o.name.clone(), tensor: o.tensor.clone(), select: o.select })
            .collect();
        assert_eq!(part(&home, &built, &specs).unwrap().folder, built.folder);
        let swapped = part(&home, &built, &[specs[1].clone(), specs[0].clone()]).unwrap();
        let names: Vec<&str> = swapped.manifest.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["tokens", "cls"]);
        let only = part(&home, &built, &[OutputSpec { name: "all".into(), ..specs[1].clone() }]).unwrap();
        assert_eq!(only.manifest.outputs[0].shape, Some(vec![Some(17), Some(16)]));
        assert_eq!(only.manifest.source, built.manifest.source);
        let graph = onnx::read(&only.model()).unwrap().graph.unwrap();
        assert_eq!(graph.output.iter().map(|value| value.name.as_str()).collect::<Vec<_>>(), ["all"]);
        assert!(part(&home, &built, &only_spec()).unwrap_err().to_string().contains("has no output `x`"));
    }

    fn only_spec() -> [OutputSpec; 1] {
        [spec("x", "none")]
    }

    fn spec(name: &str, tensor: &str) -> OutputSpec {
        OutputSpec { name: name.into(), tensor: tensor.into(), select: Select::Token { index: 0 } }
    }

    fn request<'a>(source: &'a Path, outputs: &'a [OutputSpec]) -> BuildRequest<'a> {
        let digest = Digest::of_file(source).unwrap();
        BuildRequest {
            name: "tiny",
            source,
            address: "tiny.onnx",
            digest,
            outputs,
            licence: Some("MIT"),
            family: None,
            tasks: &[],
            preprocess: None,
            inputs: None,
            image: None,
            conversion: Conversion::Keep,
        }
    }

    #[test]
    fn an_engine_is_built_once_and_again_when_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let source = folder.path().join("tiny.onnx");
        onnx::write(&testing::tiny_vit(), &source).unwrap();
        let outputs = [spec("cls", "/norm/Add_1_output_0")];
        let first = build(&home, &request(&source, &outputs)).unwrap();
        assert!(!first.reused);
        assert_eq!(first.manifest.only_input().unwrap().shape, [Some(3), Some(32), Some(32)]);
        assert_eq!(Manifest::read(&first.folder).unwrap(), first.manifest);
        let again = build(&home, &request(&source, &outputs)).unwrap();
        assert!(again.reused);
        assert_eq!(again.manifest, first.manifest);

        fs::write(again.model(), b"damaged").unwrap();
        let digests = DigestTable::open(&home).unwrap();
        let error = first.manifest.check_files(&first.folder, &digests).unwrap_err();
        assert!(error.to_string().ends_with("is not the file that the engine was built with"), "{error}");
        let repaired = build(&home, &request(&source, &outputs)).unwrap();
        assert!(!repaired.reused);
        assert_eq!(repaired.manifest, first.manifest);
    }

    #[test]
    fn a_failed_build_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let source = folder.path().join("tiny.onnx");
        onnx::write(&testing::tiny_vit(), &source).unwrap();
        assert!(build(&home, &request(&source, &[spec("cls", "none")])).is_err());
        fs::write(&source, b"<html>").unwrap();
        assert!(build(&home, &request(&source, &[spec("cls", "none")])).is_err());
        assert_eq!(fs::read_dir(home.folder("engines").unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_manifest_names_only_files_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let source = folder.path().join("tiny.onnx");
        onnx::write(&testing::tiny_vit(), &source).unwrap();
        let mut built = build(&home, &request(&source, &[spec("cls", "/norm/Add_1_output_0")])).unwrap();
        let file = built.manifest.files[MODEL].clone();
        built.manifest.files.insert("../x".into(), file);
        let error = built.manifest.check_files(&built.folder, &DigestTable::open(&home).unwrap()).unwrap_err();
        assert!(error.to_string().contains("not in its folder"));
        fs::write(built.folder.join(super::super::manifest::MANIFEST), "format: 1\nname: [").unwrap();
        assert!(Manifest::read(&built.folder).unwrap_err().to_string().ends_with("is not a manifest of an engine"));
    }
}
