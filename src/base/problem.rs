//! Problems in something a user wrote, each with its place; collected, sorted and shown together.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file, with line and column counted from 1 (columns in characters).
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A `key=value` word of the command line.
    CommandLine {
        /// The word as written.
        word: String,
    },
    /// An environment variable.
    Environment {
        /// The variable's name.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A built-in default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::CommandLine { word } => write!(f, "{word} (command line)"),
            Self::Environment { variable, value } => write!(f, "{variable}={value} (environment)"),
            Self::Default => write!(f, "default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was written; `None` if it is about the whole file.
    pub place: Option<Place>,
    /// The key's path, such as `train.optimizer.lr`; empty for the whole document.
    pub path: String,
    /// What is wrong, what is allowed, and the nearest right spelling.
    pub message: String,
}

/// Every problem found in one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// What has the problems, such as `configs/cats.yaml is not a valid recipe`.
    pub title: String,
    /// The problems, in the order of their places.
    pub list: Vec<Problem>,
}

impl Problems {
    /// No problems yet, under a title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), list: Vec::new() }
    }

    /// Adds a problem.
    pub fn push(&mut self, place: Option<Place>, path: impl Into<String>, message: impl Into<String>) {
        self.list.push(Problem { place, path: path.into(), message: message.into() });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `Ok` if there is none; else all of them, sorted by place and without repetitions.
    ///
    /// # Errors
    /// [`super::Error::Invalid`] with the problems.
    pub fn into_result(mut self) -> super::Result<()> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort();
        self.list.dedup();
        Err(super::Error::Invalid(self))
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.title)?;
        let places: Vec<String> =
            self.list.iter().map(|p| p.place.as_ref().map(ToString::to_string).unwrap_or_default()).collect();
        let in_file = |p: &Problem| matches!(p.place, Some(Place::File { .. }));
        let width = self.list.iter().zip(&places).filter(|(p, _)| in_file(p)).map(|(_, s)| s.len()).max().unwrap_or(0);
        for (problem, place) in self.list.iter().zip(&places) {
            write!(f, "\n  ")?;
            match (in_file(problem), place.is_empty(), problem.path.is_empty()) {
                (true, _, false) => write!(f, "{place:width$}  {}: {}", problem.path, problem.message)?,
                (true, _, true) => write!(f, "{place:width$}  {}", problem.message)?,
                // The word or variable already names the key.
                (false, false, _) => write!(f, "{place}: {}", problem.message)?,
                (false, true, false) => write!(f, "{}: {}", problem.path, problem.message)?,
                (false, true, true) => write!(f, "{}", problem.message)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_drawn_as_the_design_shows() {
        let mut problems = Problems::new("configs/cats.yaml is not a valid recipe");
        let at = |line, column| Some(Place::File { path: "configs/cats.yaml".into(), line, column });
        problems.push(
            Some(Place::CommandLine { word: "train.optimizer.lr=fast".into() }),
            "train.optimizer.lr",
            "\"fast\" is not a number",
        );
        problems.push(at(22, 14), "train.epochs", "0 is less than the minimum of 1");
        problems.push(at(14, 5), "model.head.hiden", "unknown field; did you mean `hidden`?");
        let shown = problems.into_result().unwrap_err().to_string();
        assert_eq!(
            shown,
            "configs/cats.yaml is not a valid recipe\n  \
             configs/cats.yaml:14:5   model.head.hiden: unknown field; did you mean `hidden`?\n  \
             configs/cats.yaml:22:14  train.epochs: 0 is less than the minimum of 1\n  \
             train.optimizer.lr=fast (command line): \"fast\" is not a number"
        );
    }
}
