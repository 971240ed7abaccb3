//! What the environment says about fetching.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Fetcher`](super::Fetcher).
///
/// | variable | what it sets |
/// | --- | --- |
/// | `HF_ENDPOINT` | the hub; `https://huggingface.co` if not set |
/// | `HF_TOKEN`, else the file `HF_TOKEN_PATH`, `$HF_HOME/token` or `~/.cache/huggingface/token` | the hub's token |
/// | `CAFT_OFFLINE`, `HF_HUB_OFFLINE` | `1`: nothing is fetched |
/// | `CAFT_PYTHON` | the interpreter whose pip fetches wheels |
/// | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies |
#[derive(Clone)]
pub struct Settings {
    /// The hub's URL, without a slash at its end.
    pub endpoint: String,
    /// The token that the hub, and nobody else, is shown.
    pub token: Option<String>,
    /// Whether the network may not be used.
    pub offline: bool,
    /// The interpreter whose pip fetches wheels; `None` looks for one.
    pub python: Option<OsString>,
    /// No file may be larger than this, in bytes.
    pub largest: u64,
    /// How long to wait before the first retry; doubled each time.
    pub back_off: Duration,
    /// How long a connection may give nothing.
    pub stall: Duration,
}

/// The hub that addresses mean when `HF_ENDPOINT` names no other.
pub(super) const HUB: &str = "https://huggingface.co";

impl Settings {
    /// The settings that the process's environment asks for.
    pub fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let on = |name: &str| text(name).is_some_and(|v| !["0", "false", "no", "off"].contains(&&*v.to_lowercase()));
        let token_file = || {
            path("HF_TOKEN_PATH")
                .or_else(|| path("HF_HOME").map(|home| home.join("token")))
                .or_else(|| dirs::home_dir().map(|home| home.join(".cache/huggingface/token")))
        };
        let read = |path: PathBuf| crate::base::file::read_text(&path, 4096).ok();
        let token = text("HF_TOKEN").or_else(|| token_file().and_then(read));
        Self {
            endpoint: text("HF_ENDPOINT").map_or(HUB.into(), |url| url.trim_end_matches('/').to_string()),
            token: token
                .map(|t| t.trim().to_string())
                .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic())),
            offline: on("CAFT_OFFLINE") || on("HF_HUB_OFFLINE"),
            python: std::env::var_os("CAFT_PYTHON").filter(|v| !v.is_empty()),
            ..Self::default()
        }
    }
}

impl Default for Settings {
    /// The public hub, without a token.
    fn default() -> Self {
        Self {
            endpoint: HUB.into(),
            token: None,
            offline: false,
            python: None,
            largest: 200 << 30,
            back_off: Duration::from_millis(500),
            stall: Duration::from_secs(60),
        }
    }
}

impl std::fmt::Debug for Settings {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("python", &self.python)
            .finish_non_exhaustive()
    }
}
