//! A hub on loopback: files with a Hugging Face hub's layout, redirects, etags and errors, and with faults that
//! the test asks for. It keeps a log of the requests.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use caft::resource::{Settings, Sha256};

/// The commit that every branch of every repository points at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How a repository keeps a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Large: the hub redirects to a storage server and names the SHA-256.
    Large,
    /// Small: served by the hub itself, with an etag that is no SHA-256.
    Plain,
}

/// What goes wrong with a file's bytes, where they are served.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The connection closes after so many bytes, once.
    DropAfter(usize),
    /// Like `DropAfter`, and then the file is another one, of the same length.
    ChangeAfter(usize, Vec<u8>),
    /// Ranges are ignored: the whole file comes, with status 200.
    IgnoreRange,
    /// The bytes are not those that were announced.
    Corrupt,
    /// So many answers with a status.
    Status(u16, usize),
    /// More bytes come than a hub announces.
    Longer,
}

struct File {
    bytes: Vec<u8>,
    kind: Kind,
    faults: Vec<Fault>,
}

#[derive(Default)]
struct State {
    /// By `owner/repo/path` or `datasets/owner/repo/path`.
    files: HashMap<String, File>,
    /// Repositories that want this token.
    gated: HashMap<String, String>,
    log: Vec<String>,
    down: HashSet<u16>,
    /// What was sent to the storage server, by its path.
    objects: HashMap<String, Vec<u8>>,
}

/// A running hub; it stops answering when it is dropped.
pub struct Hub {
    /// The endpoint, for `HF_ENDPOINT`.
    pub url: String,
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Hub {
    /// Starts a hub without files. The storage server is the same process on another port, so another origin.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let storage = listen(&state, None);
        let port = listen(&state, Some(storage));
        Self { url: format!("http://127.0.0.1:{port}"), state, port }
    }

    /// Adds a file: `owner/repo/path`, or `datasets/owner/repo/path`.
    pub fn add(&self, path: &str, kind: Kind, bytes: impl Into<Vec<u8>>) {
        self.add_with(path, kind, bytes, []);
    }

    /// Adds a file with faults.
    pub fn add_with(&self, path: &str, kind: Kind, bytes: impl Into<Vec<u8>>, faults: impl IntoIterator<Item = Fault>) {
        let file = File { bytes: bytes.into(), kind, faults: faults.into_iter().collect() };
        self.state.lock().unwrap().files.insert(path.into(), file);
    }

    /// Opens a repository only to those who show a token.
    pub fn gate(&self, repo: &str, token: &str) {
        self.state.lock().unwrap().gated.insert(repo.into(), token.into());
    }

    /// The requests so far, such as `GET storage /owner/repo/a range=bytes=5- token=no`.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    /// The bytes of a file, as a commit may have changed them.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().files.get(path).map(|file| file.bytes.clone())
    }

    /// From now on connections are closed without an answer.
    pub fn go_down(&self) {
        self.state.lock().unwrap().down.insert(self.port);
    }

    /// Settings for a fetcher that uses this hub and retries at once.
    pub fn settings(&self) -> Settings {
        Settings { endpoint: self.url.clone(), back_off: std::time::Duration::from_millis(1), ..Settings::default() }
    }
}

/// Serves on a free port from a thread; `storage` is the port to redirect to, `None` for the storage itself.
fn listen(state: &Arc<Mutex<State>>, storage: Option<u16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                if !state.lock().unwrap().down.contains(&port) {
                    // A client that goes away is no failure of the server.
                    let _ = serve(stream, &state, storage);
                }
            });
        }
    });
    port
}

struct Request {
    head: bool,
    method: String,
    body: Vec<u8>,
    path: String,
    range: Option<usize>,
    range_text: String,
    if_range: Option<String>,
    token: Option<String>,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut request = Request {
        head: method == "HEAD",
        method,
        body: Vec::new(),
        path,
        range: None,
        range_text: "none".into(),
        if_range: None,
        token: None,
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        (&mut reader).take(8192).read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            reader.take(length).read_to_end(&mut request.body).ok()?;
            return Some(request);
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                request.range_text = value.into();
                request.range = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
            }
            "content-length" => length = value.parse().ok()?,
            "if-range" => request.if_range = Some(value.into()),
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_string),
            _ => (),
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, storage: Option<u16>) -> std::io::Result<()> {
    let Some(request) = read_request(&stream) else { return Ok(()) };
    let mut state = state.lock().unwrap();
    let (method, place) = (&request.method, if storage.is_some() { "hub" } else { "storage" });
    let token = if request.token.is_some() { "yes" } else { "no" };
    state.log.push(format!("{method} {place} {} range={} token={token}", request.path, request.range_text));
    match storage {
        Some(storage) if request.method == "POST" => write(&mut stream, &mut state, &request, storage),
        None if request.method == "PUT" => {
            let path = request.path.trim_start_matches('/').to_string();
            state.objects.insert(path, request.body);
            answer(&mut stream, 200, &[], false, b"")
        }
        Some(_) if request.path.starts_with("/api/") => list(&mut stream, &state, &request),
        Some(storage) => resolve(&mut stream, &mut state, &request, storage),
        None => {
            let path = decode(request.path.split('?').next().unwrap_or("").trim_start_matches('/'));
            send_file(&mut stream, &mut state, &request, &path, &[])
        }
    }
}

/// Answers the commit protocol: what is kept how, where large files go, and the commit itself.
fn write(stream: &mut TcpStream, state: &mut State, request: &Request, storage: u16) -> std::io::Result<()> {
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let send = |stream: &mut TcpStream, value: serde_json::Value| {
        answer(stream, 200, &["content-type: application/json"], false, value.to_string().as_bytes())
    };
    let path = request.path.trim_start_matches('/');
    let repo = path.strip_prefix("api/models/").unwrap_or(path).split('/').take(2).collect::<Vec<_>>().join("/");
    let repo = repo.trim_end_matches(".git").to_string();
    if state.gated.get(&repo).is_some_and(|token| request.token.as_ref() != Some(token)) {
        return answer(stream, 403, &[], false, b"");
    }
    if path.ends_with("/info/lfs/objects/batch") {
        let object = &json(&request.body)["objects"][0];
        let href = format!("http://127.0.0.1:{storage}/{}", object["oid"].as_str().unwrap());
        let object = serde_json::json!({"oid": object["oid"], "size": object["size"],
            "actions": {"upload": {"href": href, "header": {}}}});
        return send(stream, serde_json::json!({"transfer": "basic", "objects": [object]}));
    }
    if path.contains("/preupload/") {
        let name = &json(&request.body)["files"][0]["path"];
        return send(stream, serde_json::json!({"files": [{"path": name, "uploadMode": "lfs"}]}));
    }
    for line in request.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let (line, value) = (json(line), json(line)["value"].take());
        let (kind, name) = (line["key"].as_str().unwrap(), value["path"].as_str().unwrap_or(""));
        let bytes = match kind {
            "lfsFile" => state.objects[value["oid"].as_str().unwrap()].clone(),
            "file" => from_base64(value["content"].as_str().unwrap()),
            _ => continue,
        };
        let kind = if kind == "file" { Kind::Plain } else { Kind::Large };
        state.files.insert(format!("{repo}/{name}"), File { bytes, kind, faults: Vec::new() });
    }
    send(stream, serde_json::json!({"commitOid": COMMIT}))
}

fn from_base64(text: &str) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text.bytes().filter_map(|b| letters.iter().position(|l| *l == b)).map(|p| p as u8).collect();
    let group = |g: &[u8]| {
        let all = g.iter().enumerate().fold(0u32, |all, (i, b)| all | u32::from(*b) << (18 - 6 * i));
        all.to_be_bytes()[1..g.len()].to_vec()
    };
    bits.chunks(4).flat_map(group).collect()
}

/// Undoes percent-encoding.
fn decode(path: &str) -> String {
    let mut parts = path.split('%');
    let mut out = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.extend(byte);
        out.extend(part.bytes().skip(if byte.is_some() { 2 } else { 0 }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Files on one page of a folder's list.
const PAGE: usize = 2;

/// Answers `/api/{models|datasets}/{repo}/revision/{revision}` and `…/tree/{commit}/{folder}`, page by page.
fn list(stream: &mut TcpStream, state: &State, request: &Request) -> std::io::Result<()> {
    let (path, page) = request.path.split_once("?cursor=").unwrap_or((&request.path, "0"));
    let path = path.trim_start_matches("/api/").replacen("models/", "", 1);
    let (repo, rest) = path.split_once("/tree/").or_else(|| path.split_once("/revision/")).unwrap();
    if state.gated.get(repo).is_some_and(|token| request.token.as_ref() != Some(token)) {
        return answer(stream, 401, &["x-error-code: GatedRepo"], false, b"");
    }
    let (revision, folder) = rest.split_once('/').unwrap_or((rest, ""));
    if revision != "main" && revision != COMMIT {
        return answer(stream, 404, &["x-error-code: RevisionNotFound"], false, b"");
    }
    if path.contains("/revision/") {
        return answer(stream, 200, &[], false, serde_json::json!({"sha": COMMIT}).to_string().as_bytes());
    }
    let begin = [repo, &decode(folder)].join("/").trim_end_matches('/').to_string() + "/";
    let mut names: Vec<(&str, String)> = Vec::new();
    for name in state.files.keys().filter_map(|name| name.strip_prefix(&begin)) {
        let path = |name: &str| format!("{begin}{name}").split_off(repo.len() + 1);
        names.push(match name.split_once('/') {
            Some((folder, _)) => ("directory", path(folder)),
            None => ("file", path(name)),
        });
    }
    if names.is_empty() {
        return answer(stream, 404, &["x-error-code: EntryNotFound"], false, b"");
    }
    names.sort();
    names.dedup();
    let page: usize = page.parse().unwrap();
    let entries = names.iter().skip(page * PAGE).take(PAGE);
    let entries: Vec<_> =
        entries.map(|(kind, path)| serde_json::json!({"type": kind, "path": path, "oid": ""})).collect();
    let url = request.path.split('?').next().unwrap();
    let link = format!("link: <{url}?cursor={}>; rel=\"next\"", page + 1);
    let more = names.len() > (page + 1) * PAGE;
    let headers: &[&str] = if more { &[&link] } else { &[] };
    answer(stream, 200, headers, false, serde_json::Value::from(entries).to_string().as_bytes())
}

/// Answers `…/resolve/{revision}/{path}`.
fn resolve(stream: &mut TcpStream, state: &mut State, request: &Request, storage: u16) -> std::io::Result<()> {
    let Some((repo, rest)) = request.path.trim_start_matches('/').split_once("/resolve/") else {
        return answer(stream, 404, &[], request.head, b"");
    };
    if !state.files.keys().any(|path| path.starts_with(&format!("{repo}/"))) {
        let status = if request.token.is_some() { 404 } else { 401 };
        return answer(stream, status, &["x-error-code: RepoNotFound"], request.head, b"");
    }
    if let Some(token) = state.gated.get(repo).filter(|token| request.token.as_ref() != Some(token)) {
        let status = if token.is_empty() { 403 } else { 401 };
        return answer(stream, status, &["x-error-code: GatedRepo"], request.head, b"");
    }
    let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
    if revision != "main" && revision != COMMIT {
        return answer(stream, 404, &["x-error-code: RevisionNotFound"], request.head, b"");
    }
    let full = format!("{repo}/{}", decode(path));
    let commit = format!("x-repo-commit: {COMMIT}");
    let Some(file) = state.files.get(&full) else {
        return answer(stream, 404, &["x-error-code: EntryNotFound", &commit], request.head, b"");
    };
    if file.kind == Kind::Plain {
        return send_file(stream, state, request, &full, &[&commit]);
    }
    let location = format!("location: http://127.0.0.1:{storage}/{repo}/{path}?signature=secret");
    let etag = format!("x-linked-etag: \"{}\"", Sha256::of(&file.bytes));
    let size = format!("x-linked-size: {}", file.bytes.len());
    answer(stream, 302, &[&commit, &location, &etag, &size], request.head, b"")
}

/// Sends a file's bytes, or what its faults make of them.
fn send_file(
    stream: &mut TcpStream,
    state: &mut State,
    request: &Request,
    path: &str,
    headers: &[&str],
) -> std::io::Result<()> {
    let Some(file) = state.files.get_mut(path) else {
        return answer(stream, 404, headers, request.head, b"");
    };
    if let Some(Fault::Status(status, times)) =
        file.faults.iter_mut().find(|f| matches!(f, Fault::Status(_, n) if *n > 0))
    {
        *times -= 1;
        let status = *status;
        return answer(stream, status, headers, request.head, b"");
    }
    // Not the SHA-256, as a small file's etag is not.
    let etag = format!("\"{}\"", &Sha256::of(&file.bytes).to_string()[..40]);
    let etag_line = format!("etag: {etag}");
    let mut headers = headers.to_vec();
    headers.push(&etag_line);
    let same = request.if_range.as_ref().is_none_or(|wanted| *wanted == etag);
    let start = request.range.filter(|_| same && !file.faults.contains(&Fault::IgnoreRange)).unwrap_or(0);
    if start > 0 && start >= file.bytes.len() {
        return answer(stream, 416, &headers, request.head, b"");
    }
    let mut body = file.bytes[start..].to_vec();
    let range = format!("content-range: bytes {start}-{}/{}", file.bytes.len() - 1, file.bytes.len());
    let status = if start > 0 { 206 } else { 200 };
    if start > 0 {
        headers.push(&range);
    }
    if file.faults.contains(&Fault::Corrupt) {
        body[0] ^= 1;
    }
    if file.faults.contains(&Fault::Longer) {
        body.push(0);
    }
    if request.head {
        return answer(stream, status, &headers, true, &body);
    }
    let drop_at = file.faults.iter().position(|f| matches!(f, Fault::DropAfter(_) | Fault::ChangeAfter(..)));
    let Some(fault) = drop_at.map(|i| file.faults.remove(i)) else {
        return answer(stream, status, &headers, false, &body);
    };
    let (Fault::DropAfter(sent) | Fault::ChangeAfter(sent, _)) = fault else { unreachable!("chosen above") };
    write_head(stream, status, &headers, body.len())?;
    stream.write_all(&body[..sent])?;
    stream.flush()?;
    if let Fault::ChangeAfter(_, bytes) = fault {
        file.bytes = bytes;
    }
    // Long enough for the client to have read what was sent before the connection ends.
    std::thread::sleep(std::time::Duration::from_millis(50));
    stream.shutdown(std::net::Shutdown::Both)
}

fn write_head(stream: &mut TcpStream, status: u16, headers: &[&str], length: usize) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())
}

fn answer(stream: &mut TcpStream, status: u16, headers: &[&str], head: bool, body: &[u8]) -> std::io::Result<()> {
    write_head(stream, status, headers, body.len())?;
    if !head {
        stream.write_all(body)?;
    }
    stream.flush()
}
