//! The library's error type. It keeps its `source`, and says what failed and, where one is known, a
//! hint; the command line decides how it is drawn and which exit code it becomes.

use std::path::{Path, PathBuf};

use super::problem::Problems;

/// A result of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Everything that can go wrong, in the four ways a caller may want to tell apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe (or another user-written file) has problems; all of them are listed.
    #[error(transparent)]
    Invalid(Problems),
    /// Something the user gave cannot be used: a file, an address, a dataset, an option.
    #[error("{what}")]
    BadInput {
        /// What was wrong with which thing; lower case, no full stop, literals in backticks.
        what: String,
        /// What would help, if known.
        hint: Option<String>,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// The verb: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// Something failed that is not the user's input: the runtime, the network, the disk's contents.
    #[error("{what}")]
    Failed {
        /// What failed.
        what: String,
        /// What would help, if known.
        hint: Option<String>,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
    /// The user asked to stop. What was stored is good and is resumed.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The user's input is at fault.
    pub fn bad_input(what: impl Into<String>) -> Self {
        Self::BadInput { what: what.into(), hint: None, source: None }
    }

    /// Something failed that is not the input's fault.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), hint: None, source: None }
    }

    /// `error.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Adds a hint. On variants without room for one it is dropped.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::BadInput { hint, .. } | Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Adds the cause. On variants that have their own it is dropped.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Source>) -> Self {
        if let Self::BadInput { source, .. } | Self::Failed { source, .. } = &mut self {
            *source = Some(cause.into());
        }
        self
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        match self {
            Self::BadInput { hint, .. } | Self::Failed { hint, .. } => hint.as_deref(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("the disk is full; what was stored before is good and the same command goes on from it")
            }
            _ => None,
        }
    }

    /// The exit code of a process that ends with this error: 2 for bad input, 130 after an interrupt,
    /// 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::BadInput { .. } => 2,
            // A file that is missing or unreadable was named by the user.
            Self::Io { source, action: "read" | "open", .. }
                if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::IsADirectory) =>
            {
                2
            }
            Self::Interrupted => 130,
            Self::Io { .. } | Self::Failed { .. } => 1,
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_cause_hint_and_exit_code() {
        let cause = std::io::Error::other("socket closed");
        let error = Error::bad_input("`x` is not an address").hint("write `pip:…`").because(cause);
        assert_eq!(error.to_string(), "`x` is not an address");
        assert_eq!(error.hint_text(), Some("write `pip:…`"));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "socket closed");
        assert_eq!(error.exit_code(), 2);
        assert_eq!(Error::Interrupted.exit_code(), 130);
        assert_eq!(Error::failed("x").exit_code(), 1);
    }
}
