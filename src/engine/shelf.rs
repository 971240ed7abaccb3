//! The engines that are kept under the home.

use std::fs;
use std::path::Path;

use super::Built;
use super::manifest::Manifest;
use crate::base::home::Home;
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};
use crate::graph::onnx::OutputSpec;

/// Every engine with a readable manifest, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn list(home: &Home) -> Result<Vec<Built>> {
    let folder = home.folder("engines")?;
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let folder = entry.map_err(Error::io("read", &folder))?.path();
        let hidden = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !folder.is_dir() {
            continue;
        }
        // A damaged one is built again when it is needed; here it is none.
        if let Ok(manifest) = Manifest::read(&folder) {
            all.push(Built { folder, manifest, reused: true });
        }
    }
    all.sort_by(|a, b| (&a.manifest.name, &a.folder).cmp(&(&b.manifest.name, &b.folder)));
    Ok(all)
}

/// The id of an engine: the name of its folder.
pub fn id(built: &Built) -> String {
    built.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The only engine of a name, or with an id that begins so.
///
/// # Errors
/// There is none, or there are several.
pub fn find(home: &Home, word: &str) -> Result<Built> {
    let all = list(home)?;
    let fits = |built: &&Built| built.manifest.name == word || (word.len() >= 4 && id(built).starts_with(word));
    let found: Vec<&Built> = all.iter().filter(fits).collect();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => {
            let near = did_you_mean(word, all.iter().map(|built| built.manifest.name.as_str()));
            Err(Error::bad_input(format!("there is no engine `{word}`{near}"))
                .hint("`caft engine ls` lists the engines, `caft engine build` makes one"))
        }
        _ => {
            let ids: Vec<String> = found.iter().map(|built| format!("`{}`", &id(built)[..8])).collect();
            let ids = ids.join(", ");
            Err(Error::bad_input(format!("there are several engines `{word}`")).hint(format!("say which one: {ids}")))
        }
    }
}

/// The kept engine that can stand in for a source which is not here: one of the same name, cut from the same address
/// (from any, if `address` is none), in the same precision, whose outputs include those wanted.
///
/// # Errors
/// The folder of engines cannot be read.
pub fn stand_in(
    home: &Home,
    name: &str,
    address: Option<&str>,
    precision: &str,
    outputs: &[OutputSpec],
    image: Option<[usize; 3]>,
) -> Result<Option<Built>> {
    let gives = |built: &Built, spec: &OutputSpec| {
        built.manifest.outputs.iter().any(|output| output.tensor == spec.tensor && output.select == spec.select)
    };
    let takes = |built: &Built| match (&built.manifest.inputs[..], image) {
        (_, None) => true,
        ([input], Some(image)) => {
            input.shape.len() == 3 && input.shape.iter().zip(&image).all(|(a, b)| a.is_none_or(|a| a == *b))
        }
        _ => false,
    };
    let fits = |built: &Built| {
        built.manifest.name == name
            && built.manifest.precision == precision
            && address.is_none_or(|address| built.manifest.source.address == address)
            && takes(built)
            && outputs.iter().all(|spec| gives(built, spec))
    };
    // The fewest outputs first: what is not wanted costs a cut.
    Ok(list(home)?.into_iter().filter(fits).min_by_key(|built| built.manifest.outputs.len()))
}

/// Removes an engine.
///
/// # Errors
/// Those of the file system.
pub fn remove(folder: &Path) -> Result<()> {
    // Out of the way first, so that nobody finds half an engine.
    let gone = crate::base::file::temporary_beside(folder);
    fs::rename(folder, &gone).map_err(Error::io("remove", folder))?;
    fs::remove_dir_all(&gone).map_err(Error::io("remove", &gone))
}
