//! Gathering: a recipe's text, and those of all that it extends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layers::Layers;
use super::tree::{Entry, Node, Origin, Source, Value};
use super::{KeyPath, shipped, yaml};
use crate::base::suggest::{did_you_mean, nearest};
use crate::base::{Error, Place, Problems, Result, file};

/// The most files that one recipe may be made of.
const MOST_FILES: usize = 64;

/// Gathers files.
#[derive(Default)]
pub struct Gather {
    /// What the files say, those that others extend first.
    pub layers: Layers,
    /// What is wrong with them.
    pub problems: Problems,
    files: usize,
    /// The files that are being read, outermost first: what identifies each, and how it was named.
    open: Vec<(String, String)>,
}

impl Gather {
    /// Nothing yet of a recipe with this name.
    pub fn new(name: &str) -> Self {
        Self { problems: Problems::new(format!("{name} is not a valid recipe")), ..Self::default() }
    }

    /// Reads the recipe that a user names: a file, or one that is part of the program.
    ///
    /// # Errors
    /// The file is missing or cannot be read.
    pub fn root(&mut self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        self.named(path);
        if !path.exists()
            && let Ok(shipped) = shipped::find(&name)
        {
            self.text(shipped.text, PathBuf::from(shipped.path()), None, shipped.path());
            return Ok(());
        }
        self.file(path).map_err(|error| match error {
            Error::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                let missing = format!("there is no file `{}`", path.display());
                if let Some(near) = near_file(&path) {
                    return Error::bad_input(format!("{missing}; did you mean `{near}`?"));
                }
                // A bare word may have been meant as the name of a recipe that comes with caft.
                let shipped = did_you_mean(&name, shipped::all().iter().map(|shipped| shipped.name));
                Error::bad_input(missing + &shipped).hint("`caft recipe ls` lists the recipes that come with caft")
            }
            other => other,
        })
    }

    /// Names the run after the file, unless something in it does.
    pub fn named(&mut self, path: &Path) {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
        let stem: String =
            path.file_stem().unwrap_or_default().to_string_lossy().chars().map(plain).take(100).collect();
        let stem = if stem.starts_with(['.', '-']) { format!("_{}", &stem[1..]) } else { stem };
        let origin = Origin { source: Arc::new(Source::Defaults), line: 0, column: 0 };
        let node = Node { value: Value::String(stem), origin: origin.clone() };
        let entry = Entry { key: origin.clone(), node };
        let map = [("name".to_string(), entry)].into_iter().collect();
        self.layers.push(Node { value: Value::Map(map), origin });
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let text = file::read_text(path, yaml::LIMITS.bytes)?;
        let identity = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = path.parent().map(Path::to_path_buf);
        self.text(&text, path.to_path_buf(), folder, identity.display().to_string());
        Ok(())
    }

    /// Reads a text, first what it extends.
    pub fn text(&mut self, text: &str, path: PathBuf, folder: Option<PathBuf>, identity: String) {
        self.files += 1;
        let name = path.display().to_string();
        let source = Arc::new(Source::File { path: path.clone(), folder });
        let start = Place::File { path, line: 1, column: 1 };
        if text.contains('\0') {
            self.problems.push(Some(start), "", "this is not UTF-8 text; save it as UTF-8");
            return;
        }
        let before = self.problems.list.len();
        let Some(mut node) = yaml::parse(text, &source, &mut self.problems) else {
            if self.problems.list.len() == before {
                self.problems.push(Some(start), "", "the file is empty");
            }
            return;
        };
        let Some(map) = node.as_map_mut() else {
            let what = node.kind_name();
            let message = if what == "nothing" {
                "the file is empty".into()
            } else {
                format!("a recipe is a map of keys, not {what}")
            };
            self.problems.push(Some(start), "", message);
            return;
        };
        let extends = map.shift_remove("extends");
        self.open.push((identity, name));
        if let Some(entry) = extends {
            self.extends(&entry.node);
        }
        self.open.pop();
        self.layers.push(node);
    }

    fn extends(&mut self, node: &Node) {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => return,
            _ => {
                let message = format!("{} is not a list of recipes, such as `[linear_probe]`", node.kind_name());
                self.problems.push(Some(node.origin.place()), "extends", message);
                return;
            }
        };
        for (index, item) in items.iter().enumerate() {
            let path = KeyPath::default().key("extends").index(index).to_string();
            let message = match &item.value {
                Value::String(name) => self.extend(name, &item.origin).err(),
                _ => Some(format!("{} is not a recipe's name or path", item.kind_name())),
            };
            if let Some(message) = message {
                self.problems.push(Some(item.origin.place()), path, message);
            }
        }
    }

    fn extend(&mut self, name: &str, origin: &Origin) -> Result<(), String> {
        if self.files >= MOST_FILES {
            return Err(format!("the recipe is made of more than {MOST_FILES} files"));
        }
        let is_path = name.contains(['/', '\\']) || name.ends_with(".yaml") || name.ends_with(".yml");
        let of_program = |identity: &str, gather: &mut Self, text: &str| {
            gather.check_cycle(identity, identity)?;
            gather.text(text, PathBuf::from(identity), None, identity.to_string());
            Ok(())
        };
        if !is_path {
            let shipped = shipped::recipe(name).map_err(|error| error.to_string())?;
            return of_program(&shipped.path(), self, shipped.text);
        }
        let Some(folder) = origin.folder() else {
            // A file inside the program names its neighbours.
            let Source::File { path: from, .. } = &*origin.source else { return Err("it is not in a file".into()) };
            let shipped = shipped::beside(&from.display().to_string(), name)
                .ok_or_else(|| format!("there is no `{name}` beside `{}` in the program", from.display()))?;
            return of_program(&shipped.path(), self, shipped.text);
        };
        let path = folder.join(name);
        let identity = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone()).display().to_string();
        self.check_cycle(&identity, &path.display().to_string())?;
        self.file(&path).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                let near = near_file(&path).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                format!("there is no file `{}`{near}", path.display())
            }
            other => with_cause(&other),
        })
    }

    fn check_cycle(&self, identity: &str, name: &str) -> Result<(), String> {
        let Some(start) = self.open.iter().position(|(open, _)| open == identity) else { return Ok(()) };
        let mut names: Vec<&str> = self.open[start..].iter().map(|(_, name)| name.as_str()).collect();
        names.push(name);
        Err(format!("recipes extend each other in a circle: {}", names.join(" → ")))
    }
}

fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A file in the same folder with a name like this one.
fn near_file(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(1000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    let near = nearest(name, names.iter().map(String::as_str))?;
    Some(path.with_file_name(near).display().to_string())
}
