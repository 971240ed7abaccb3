//! Recipes that are shared: in a folder, a git repository, or a repository of a hub, beside an index that says what
//! they are.

use serde::{Deserialize, Serialize};

use crate::base::suggest::{did_you_mean, one_of};
use crate::base::{Digest, Error, Result, file};
use crate::engine::exchange::Place;
use crate::recipe::foreign::Review;
use crate::resource::Fetcher;

/// The index's file name.
pub const INDEX: &str = "recipes.yaml";
/// The form of the index.
const FORMAT: u32 = 1;
/// A recipe or an index is not longer.
const LARGEST: u64 = 4 << 20;

/// What recipes there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The form of this file.
    pub format: u32,
    /// The recipes, by name.
    pub recipes: Vec<Listed>,
}

/// A recipe in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name: that of its file without ending.
    pub name: String,
    /// What it is: the comment at its beginning.
    #[serde(default)]
    pub about: String,
    /// The digest of its file, `NAME.yaml`.
    pub digest: Digest,
}

impl Listed {
    fn file(&self) -> String {
        format!("{}.yaml", self.name)
    }
}

impl Index {
    fn parse(text: &str, shown: &str) -> Result<Self> {
        let wrong = || Error::bad_input(format!("`{INDEX}` of `{shown}` is not an index of recipes"));
        let index: Self = serde_yaml::from_str(text).map_err(|e| wrong().because(e))?;
        if index.format != FORMAT || index.recipes.iter().any(|listed| !is_plain(&listed.name)) {
            return Err(wrong().hint("its form is of another caft, or a name in it leads elsewhere"));
        }
        Ok(index)
    }

    fn find(&self, name: Option<&str>, shown: &str) -> Result<&Listed> {
        let names = || self.recipes.iter().map(|listed| listed.name.as_str());
        match (name, &self.recipes[..]) {
            (None, [one]) => Ok(one),
            (None, _) => Err(Error::bad_input(format!("say which recipe of `{shown}` is meant"))
                .hint(format!("there is {}", one_of(names())))),
            (Some(name), all) => all.iter().find(|listed| listed.name == name).ok_or_else(|| {
                let near = did_you_mean(name, names());
                Error::bad_input(format!("there is no recipe `{name}` at `{shown}`{near}"))
            }),
        }
    }
}

/// A name that is a file's and nothing more.
fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.len() < 100 && !name.starts_with(['.', '-']) && name.chars().all(is_plain)
}

/// A recipe that was fetched, looked at, and not used yet.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it names.
    pub review: Review,
}

/// What recipes there are at a place.
///
/// # Errors
/// It cannot be reached, or has no index of recipes.
pub fn list(place: &Place, fetcher: &Fetcher<'_>) -> Result<Index> {
    let path = place.file(INDEX, fetcher)?;
    if !path.is_file() {
        return Err(Error::bad_input(format!("there is no `{INDEX}` of recipes in `{place}`"))
            .hint(format!("`caft recipe push FILE {place}` puts the first recipe there")));
    }
    Index::parse(&file::read_text(&path, LARGEST)?, &place.to_string())
}

/// Fetches a recipe and looks at what it names. Nothing else is fetched, read or written.
///
/// # Errors
/// It is not there, is not what the index says, is no valid recipe, or names a path.
pub fn pull(place: &Place, name: Option<&str>, fetcher: &Fetcher<'_>) -> Result<Pulled> {
    let index = list(place, fetcher)?;
    let listed = index.find(name, &place.to_string())?;
    let file = listed.file();
    let text = file::read_text(&place.file(&file, fetcher)?, LARGEST)?;
    if Digest::of(text.as_bytes()) != listed.digest {
        return Err(Error::bad_input(format!("`{file}` of `{place}` is not the file that its index describes"))
            .hint("it is damaged or being replaced; nothing was kept"));
    }
    let review = Review::of(&text, &file)?;
    review.check(&file, false)?;
    Ok(Pulled { name: listed.name.clone(), text, review })
}

/// Puts a recipe's text to a place under a name and lists it in the index.
///
/// # Errors
/// It is no recipe that others can use; the place cannot be written.
pub fn push(text: &str, name: &str, place: &Place, fetcher: &Fetcher<'_>) -> Result<Listed> {
    if !is_plain(name) {
        return Err(Error::bad_input(format!("`{name}` is not a name to share a recipe under"))
            .hint("letters, digits, `_`, `-` and `.` will do"));
    }
    let shown = format!("{name}.yaml");
    Review::of(text, &shown)?.check(&shown, true)?;
    let listed = Listed { name: name.into(), about: about(text), digest: Digest::of(text.as_bytes()) };
    let scratch = file::temporary_beside(&std::env::temp_dir().join(&shown));
    file::write_bytes(&scratch, text.as_bytes())?;
    let change = |text: Option<&str>| {
        let empty = Index { format: FORMAT, recipes: Vec::new() };
        let mut index = text.map_or(Ok(empty), |text| Index::parse(text, &place.to_string()))?;
        index.recipes.retain(|known| known.name != listed.name);
        index.recipes.push(listed.clone());
        index.recipes.sort_by(|a, b| a.name.cmp(&b.name));
        serde_yaml::to_string(&index).map_err(|e| Error::failed("an index does not serialise").because(e))
    };
    let put = place.put((&listed.file(), &scratch), (INDEX, &change), &format!("Add the recipe {name}"), fetcher);
    // Left behind, it does no harm.
    let _ = std::fs::remove_file(&scratch);
    put.map(|()| listed)
}

/// The comment at the beginning of a recipe, without the line for editors.
fn about(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.starts_with("# yaml-language-server"));
    let comment: Vec<&str> = lines.map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    comment.join(" ").trim().chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Silent;
    use crate::base::{Cancel, Home};

    const RECIPE: &str = "# For few rows.\ntrain: {epochs: 3}\n";

    #[test]
    fn a_recipe_travels_through_a_folder_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let (silent, cancel) = (Silent, Cancel::default());
        let fetcher = Fetcher::new(&home, &silent, &cancel, true);
        let place: Place = folder.path().join("shared").display().to_string().parse().unwrap();
        assert!(list(&place, &fetcher).is_err());
        push(RECIPE, "few", &place, &fetcher).unwrap();
        push("train: {epochs: 9}\n", "many", &place, &fetcher).unwrap();
        let index = list(&place, &fetcher).unwrap();
        assert_eq!((index.recipes.len(), index.recipes[0].about.as_str()), (2, "For few rows."));
        assert_eq!(pull(&place, Some("few"), &fetcher).unwrap().text, RECIPE);
        assert!(pull(&place, None, &fetcher).unwrap_err().hint_text().unwrap().contains("`few`"));
        std::fs::write(folder.path().join("shared/few.yaml"), "train: {epochs: 4}\n").unwrap();
        assert!(pull(&place, Some("few"), &fetcher).unwrap_err().to_string().contains("its index describes"));
        for name in ["../x", ".hidden", "-o", "a b", ""] {
            assert!(push(RECIPE, name, &place, &fetcher).is_err(), "{name}");
        }
        let index = "format: 1\nrecipes: [{name: ../../x, digest: '6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85'}]\n";
        std::fs::write(folder.path().join("shared").join(INDEX), index).unwrap();
        assert!(list(&place, &fetcher).unwrap_err().to_string().contains("is not an index of recipes"));
    }
}
