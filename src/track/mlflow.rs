//! A finished run for an MLflow server, by its REST interface (`api/2.0/mlflow`).
//!
//! A run is sent whole, when it is finished, so that a server that is away never holds up training. It
//! carries its id as the tag `caft.id`, and one that is there is not sent again. Its files go with it where the server
//! itself serves its artifacts (`mlflow server` does).

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use crate::base::{Error, Result};

/// The tag that holds a run's id.
const ID_TAG: &str = "caft.id";
/// The most metrics that the server takes in one request.
const METRICS: usize = 1000;
/// The most parameters that the server takes in one request.
const PARAMETERS: usize = 100;
/// The longest value of a parameter in characters.
const LONGEST: usize = 6000;
/// How the address of artifacts begins that go through the server.
const SERVED: &str = "mlflow-artifacts:";
/// No answer of these calls is longer.
const ANSWER: u64 = 16 << 20;

/// What is sent of a run.
#[derive(Debug, Clone, Default)]
pub struct MlflowRun {
    /// The name that the server shows.
    pub name: String,
    /// caft's id of the run.
    pub id: String,
    /// When it began, in seconds since 1970.
    pub started_secs: u64,
    /// How long it took in seconds.
    pub seconds: f64,
    /// The recipe's values by key path.
    pub parameters: Vec<(String, String)>,
    /// Name, step and value.
    pub metrics: Vec<(String, u64, f64)>,
    /// The names of files among the run's artifacts, and where they are.
    pub files: Vec<(String, PathBuf)>,
}

/// A run that is on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its address there.
    pub page: String,
    /// How many of its files were sent with it; none if the server does not take them, or had the run before.
    pub files: usize,
}

/// Looks whether a text can be the address of a server. Nothing is sent.
///
/// # Errors
/// It is none.
pub fn check(server: &str) -> Result<()> {
    Server::new(server).map(drop)
}

/// Sends a run to the experiment of this name, which is made if it is missing.
///
/// # Errors
/// The address is not that of an MLflow server; the server cannot be reached or refuses.
pub fn send(server: &str, experiment: &str, run: &MlflowRun) -> Result<Sent> {
    let server = Server::new(server)?;
    let experiment = server.experiment(experiment)?;
    let page = |id: &str| format!("{}/#/experiments/{experiment}/runs/{id}", server.address);
    if let Some(id) = server.find(&experiment, &run.id)? {
        return Ok(Sent { page: page(&id), files: 0 });
    }
    let started = run.started_secs * 1000;
    let tags = json!([{"key": ID_TAG, "value": run.id}, {"key": "mlflow.source.name", "value": "caft"}]);
    let wanted = json!({"experiment_id": experiment, "run_name": run.name, "start_time": started, "tags": tags});
    let made = server.post("runs/create", &wanted)?;
    let id = text(&made, &["run", "info", "run_id"])?;
    for some in run.parameters.chunks(PARAMETERS) {
        let params: Vec<Value> = some
            .iter()
            .map(|(key, value)| json!({"key": accepted(key), "value": value.chars().take(LONGEST).collect::<String>()}))
            .collect();
        server.post("runs/log-batch", &json!({"run_id": id, "params": params}))?;
    }
    for some in run.metrics.chunks(METRICS) {
        let metrics: Vec<Value> = some
            .iter()
            .map(|(key, step, value)| json!({"key": accepted(key), "value": value, "step": step, "timestamp": started}))
            .collect();
        server.post("runs/log-batch", &json!({"run_id": id, "metrics": metrics}))?;
    }
    let mut files = 0;
    if let Some(folder) = made["run"]["info"]["artifact_uri"].as_str().and_then(|uri| uri.strip_prefix(SERVED)) {
        for (name, path) in &run.files {
            server.put(&format!("{}/{name}", folder.trim_matches('/')), path)?;
            files += 1;
        }
    }
    let end = started + (run.seconds * 1e3) as u64;
    server.post("runs/update", &json!({"run_id": id, "status": "FINISHED", "end_time": end}))?;
    Ok(Sent { page: page(&id), files })
}

/// A key with what MLflow does not take replaced: it allows letters, digits, `_`, `-`, `.`, `/`, `:` and spaces.
fn accepted(key: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "_-./: ".contains(c);
    key.chars().map(|c| if allowed(c) { c } else { '_' }).take(250).collect()
}

struct Server {
    address: String,
    agent: Agent,
}

impl Server {
    fn new(address: &str) -> Result<Self> {
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            return Err(Error::bad_input(format!("`{address}` is not the address of an MLflow server"))
                .hint("such as `http://localhost:5000`"));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        Ok(Self { address: address.trim_end_matches('/').into(), agent: config.into() })
    }

    fn experiment(&self, name: &str) -> Result<String> {
        let (status, answer) = self.call("experiments/create", &json!({"name": name}))?;
        if status == 200 {
            return text(&answer, &["experiment_id"]);
        }
        if answer["error_code"] != "RESOURCE_ALREADY_EXISTS" {
            return Err(self.refused("experiments/create", status, &answer));
        }
        let filter = format!("name = '{}'", name.replace('\'', "\\'"));
        let found = self.post("experiments/search", &json!({"max_results": 1, "filter": filter}))?;
        text(&found["experiments"][0], &["experiment_id"])
    }

    /// A finished run of this id that is there.
    fn find(&self, experiment: &str, id: &str) -> Result<Option<String>> {
        let filter = format!("tags.`{ID_TAG}` = '{id}' and attributes.status = 'FINISHED'");
        let wanted = json!({"experiment_ids": [experiment], "filter": filter, "max_results": 1});
        let found = self.post("runs/search", &wanted)?;
        Ok(found["runs"][0]["info"]["run_id"].as_str().map(String::from))
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value> {
        match self.call(what, body)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(self.refused(what, status, &answer)),
        }
    }

    fn call(&self, what: &str, body: &Value) -> Result<(u16, Value)> {
        let url = format!("{}/api/2.0/mlflow/{what}", self.address);
        let failed = |e: ureq::Error| {
            Error::failed(format!("the MLflow server at `{}` cannot be reached", self.address)).because(e)
        };
        let mut answer =
            self.agent.post(&url).content_type("application/json").send(body.to_string()).map_err(failed)?;
        let text = answer.body_mut().with_config().limit(ANSWER).read_to_string().map_err(failed)?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Sends a file; a large one may take its time.
    fn put(&self, name: &str, path: &std::path::Path) -> Result<()> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{name}", self.address);
        let request = self.agent.put(&url).config().timeout_global(None).build();
        let answer = request.content_type("application/octet-stream").send(file).map_err(|e| {
            Error::failed(format!("the MLflow server at `{}` did not take `{name}`", self.address)).because(e)
        })?;
        match answer.status().as_u16() {
            200..300 => Ok(()),
            status => Err(self.refused(name, status, &Value::Null)),
        }
    }

    fn refused(&self, what: &str, status: u16, answer: &Value) -> Error {
        let why = answer["message"].as_str().map_or_else(|| format!("status {status}"), String::from);
        Error::failed(format!("the MLflow server at `{}` refused `{what}`: {why}", self.address))
            .hint("is this the address of an MLflow server?")
    }
}

fn text(answer: &Value, path: &[&str]) -> Result<String> {
    let found = path.iter().fold(answer, |value, key| &value[*key]);
    let missing = || Error::failed(format!("the MLflow server's answer has no `{}`", path.join(".")));
    found.as_str().map(String::from).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// Answers as MLflow does, and keeps what it was asked.
    fn server(there: bool) -> (String, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Asked::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut line, mut length, mut chunked) = (String::new(), 0, false);
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                    let what = line.split(' ').nth(1).unwrap().trim_start_matches("/api/2.0/mlflow/").to_string();
                    loop {
                        let mut header = String::new();
                        reader.read_line(&mut header).unwrap();
                        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        chunked |= header.to_lowercase().starts_with("transfer-encoding: chunked");
                        if header.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    if chunked {
                        body = chunks(&mut reader);
                    }
                    let (status, answer) = match what.as_str() {
                        "experiments/create" => (400, json!({"error_code": "RESOURCE_ALREADY_EXISTS"})),
                        "experiments/search" => (200, json!({"experiments": [{"experiment_id": "7"}]})),
                        "runs/search" if there => (200, json!({"runs": [{"info": {"run_id": "old"}}]})),
                        "runs/create" => {
                            let info = json!({"run_id": "new", "artifact_uri": "mlflow-artifacts:/7/new/artifacts"});
                            (200, json!({"run": {"info": info}}))
                        }
                        _ => (200, json!({})),
                    };
                    let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
                    kept.lock().unwrap().push((what, serde_json::from_slice(&body).unwrap_or_else(|_| text())));
                    let answer = answer.to_string();
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
                    reader.get_mut().write_all((head + &answer).as_bytes()).unwrap();
                }
            }
        });
        (address, asked)
    }

    /// The body of a request whose length is not said before.
    fn chunks(reader: &mut impl std::io::BufRead) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return body;
            }
        }
    }

    #[test]
    fn a_run_is_sent_once_in_pieces_that_the_server_takes() {
        let (address, asked) = server(false);
        let parameters = (0..150).map(|i| (format!("key[{i}]"), "x".repeat(7000))).collect();
        let metrics = (0..1001).map(|i| ("train/loss".to_string(), i, 0.5)).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.html");
        std::fs::write(&path, "<p>page</p>").unwrap();
        let files = vec![("report.html".to_string(), path)];
        let run =
            MlflowRun { name: "cats".into(), id: "abc".into(), parameters, metrics, files, ..MlflowRun::default() };
        let sent = send(&address, "caft", &run).unwrap();
        assert_eq!((sent.page, sent.files), (format!("{address}/#/experiments/7/runs/new"), 1));
        let asked = asked.lock().unwrap();
        let batches: Vec<&Value> = asked.iter().filter(|(what, _)| what == "runs/log-batch").map(|(_, b)| b).collect();
        assert_eq!(batches.len(), 4);
        assert_eq!(batches[0]["params"][3]["key"], "key_3_");
        assert_eq!(batches[0]["params"][3]["value"].as_str().unwrap().len(), LONGEST);
        assert_eq!(batches[3]["metrics"].as_array().unwrap().len(), 1);
        let file = asked.iter().find(|(what, _)| what.ends_with("artifacts/7/new/artifacts/report.html")).unwrap();
        assert_eq!(file.1, "<p>page</p>");
        assert_eq!(asked.last().unwrap().1["status"], "FINISHED");
        drop(asked);

        let (address, asked) = server(true);
        assert!(send(&address, "caft", &run).unwrap().page.ends_with("/runs/old"));
        assert!(asked.lock().unwrap().iter().all(|(what, _)| what != "runs/create"));
    }

    #[test]
    fn what_is_no_server_is_said() {
        assert_eq!(check("localhost:5000").unwrap_err().exit_code(), 2);
        let nobody = send("http://127.0.0.1:9", "caft", &MlflowRun::default()).unwrap_err();
        assert!(nobody.to_string().contains("cannot be reached"), "{nobody}");
    }
}
