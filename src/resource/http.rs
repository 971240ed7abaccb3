//! Requests to web servers, and transfers that survive broken connections.
//!
//! Redirects are followed here and not by the client, so that a token reaches only the server it is for, and
//! nothing leads from `https:` to `http:`. A request runs in a thread of its own: a stop is heard at once even while
//! a server says nothing.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use ureq::http::{HeaderMap, Request, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::settings::Settings;
use super::url;
use crate::base::{Cancel, Error};

/// What went wrong with a request, and whether another try may help.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The network or the server; after at least this long, if the server said.
    Again(Error, Option<Duration>),
    /// Trying again would not help.
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A server's answer: its head, and its body as it comes.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub url: String,
    chunks: Receiver<Message>,
}

enum Message {
    Head(u16, Box<HeaderMap>),
    Chunk(Vec<u8>),
    Failed(ureq::Error),
}

/// What a request carries.
pub(super) enum Payload {
    Nothing,
    Bytes(Vec<u8>),
    /// A file with its size.
    File(PathBuf, u64),
}

/// A request.
pub(super) struct Ask<'a> {
    pub method: &'static str,
    pub url: &'a str,
    pub headers: Vec<(String, String)>,
    /// A token for the server of `url`, shown to no other.
    pub token: Option<&'a str>,
    /// Follow only redirects within the server of `url`.
    pub stay: bool,
    pub payload: Payload,
}

/// The client. It keeps connections open between requests.
pub(super) struct Client {
    /// For other machines, through the proxies that the environment names.
    remote: Agent,
    /// For this machine.
    local: Agent,
}

const MOST_REDIRECTS: usize = 10;

impl Client {
    pub fn new(settings: &Settings) -> Self {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .timeout_connect(Some(Duration::from_secs(20).min(settings.stall)))
                .timeout_recv_response(Some(settings.stall))
                .timeout_per_read(Some(settings.stall))
                .accept_encoding("identity")
                .user_agent(concat!("caft/", env!("CARGO_PKG_VERSION")))
                .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        };
        Self { remote: config().build().into(), local: config().proxy(None).build().into() }
    }

    /// Sends a request and follows its redirects.
    pub fn ask(&self, ask: &Ask<'_>, cancel: &Cancel) -> Result<Answer, Trouble> {
        let mut target = ask.url.to_string();
        let home = url::origin(ask.url);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::builder().method(ask.method).uri(&target);
            for (name, value) in &ask.headers {
                request = request.header(name, value);
            }
            if let Some(token) = ask.token.filter(|_| url::origin(&target) == home && url::is_private(&target)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request =
                request.body(()).map_err(|e| Error::bad_input(format!("`{target}` is not a URL")).because(e))?;
            let agent = if url::is_local(&target) { &self.local } else { &self.remote };
            let sending = match &ask.payload {
                Payload::Nothing => Sending::Nothing(request),
                Payload::Bytes(bytes) => Sending::Bytes(request.map(|()| bytes.clone())),
                Payload::File(path, size) => {
                    let file = File::open(path).map_err(Error::io("open", path))?;
                    let mut request = request.map(|()| file);
                    // Storage servers take nothing in chunks.
                    request.headers_mut().insert(header::CONTENT_LENGTH, (*size).into());
                    Sending::File(request)
                }
            };
            let answer = start(agent.clone(), sending, &target, cancel)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let Some(location) = answer.header("location") else {
                return Err(Error::failed(format!("`{target}` redirects to nowhere")).into());
            };
            let next = url::join(&target, location);
            if ask.stay && url::origin(&next) != home {
                return Ok(answer);
            }
            if !url::is_private(&next) && url::is_private(&target) {
                return Err(Error::failed(format!("`{target}` redirects to `{next}`, which is not encrypted")).into());
            }
            target = next;
        }
        Err(Error::failed(format!("`{}` redirects more than {MOST_REDIRECTS} times", ask.url)).into())
    }
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The announced length of the body.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub fn chunk(&self, cancel: &Cancel) -> Result<Option<Vec<u8>>, Trouble> {
        match receive(&self.chunks, cancel)? {
            Some(Message::Chunk(bytes)) => Ok(Some(bytes)),
            Some(Message::Failed(error)) => Err(network(&self.url, error)),
            Some(Message::Head(..)) | None => Ok(None),
        }
    }

    /// What a status that is not a success means, without knowing what was asked for.
    pub fn refused(&self) -> Trouble {
        let error = Error::failed(format!("`{}` answers with status {}", origin_of(&self.url), self.status));
        match self.status {
            408 | 425 | 429 | 500..=599 => {
                let after = self.header("retry-after").and_then(|text| text.trim().parse().ok());
                let error =
                    if self.status == 429 { error.hint("the server asks to wait; try again later") } else { error };
                Trouble::Again(error, after.map(Duration::from_secs))
            }
            _ => Trouble::Final(error),
        }
    }
}

/// A URL without what may be secret in it: signed links carry their key in the query.
pub(super) fn origin_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// A request with its body.
enum Sending {
    Nothing(Request<()>),
    Bytes(Request<Vec<u8>>),
    File(Request<File>),
}

fn start(agent: Agent, sending: Sending, target: &str, cancel: &Cancel) -> Result<Answer, Trouble> {
    let (sender, chunks) = sync_channel(8);
    std::thread::spawn(move || {
        let answer = match sending {
            Sending::Nothing(request) => agent.run(request),
            Sending::Bytes(request) => agent.run(request),
            Sending::File(request) => agent.run(request),
        };
        // The receiver is gone once the user has stopped; then so is the interest in what follows.
        let mut response: Response<Body> = match answer {
            Ok(response) => response,
            Err(error) => return drop(sender.send(Message::Failed(error))),
        };
        let head = Message::Head(response.status().as_u16(), Box::new(response.headers().clone()));
        if sender.send(head).is_err() {
            return;
        }
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        loop {
            let mut buffer = vec![0; 1 << 16];
            match std::io::Read::read(&mut body, &mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    buffer.truncate(n);
                    if sender.send(Message::Chunk(buffer)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                Err(error) => return drop(sender.send(Message::Failed(ureq::Error::from(error)))),
            }
        }
    });
    match receive(&chunks, cancel)? {
        Some(Message::Head(status, headers)) => Ok(Answer { status, headers: *headers, url: target.into(), chunks }),
        Some(Message::Failed(error)) => Err(network(target, error)),
        Some(Message::Chunk(_)) | None => Err(Error::failed(format!("`{}` gave no answer", origin_of(target))).into()),
    }
}

/// The next message; `None` when the sender is done.
fn receive(chunks: &Receiver<Message>, cancel: &Cancel) -> Result<Option<Message>, Trouble> {
    loop {
        cancel.check()?;
        match chunks.recv_timeout(Duration::from_millis(100)) {
            Ok(message) => return Ok(Some(message)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => (),
        }
    }
}

/// An error of the network. Bad certificates and addresses do not get better by trying again.
fn network(target: &str, error: ureq::Error) -> Trouble {
    let failed = Error::failed(format!("`{}` cannot be reached", origin_of(target)));
    let certificate = match &error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(io) => io.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    };
    let hopeless = matches!(error, ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Http(_));
    if certificate {
        let hint =
            "its certificate is not trusted here; `SSL_CERT_FILE` may name the certificates of a proxy in between";
        return Trouble::Final(failed.hint(hint).because(error));
    }
    if hopeless {
        return Trouble::Final(failed.because(error));
    }
    let hint = "is the network there? `HTTPS_PROXY` names a proxy; with `CAFT_OFFLINE=1` only what is here is used";
    Trouble::Again(failed.hint(hint).because(error), None)
}
