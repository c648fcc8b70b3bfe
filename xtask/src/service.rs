//! The demo service as a child process: built, started, loaded, asked for its ground truth.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{Process, Stream};
use crate::project::{self, Project};
use crate::ui::Step;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
/// Should a task hang, its service ends by itself.
const LIFETIME: &str = "20m";

/// Which of the twins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// axum on tokio.
    Rust,
    /// net/http.
    Go,
}

/// The programs, built in release form.
#[derive(Debug)]
pub struct Programs {
    /// `observer`.
    pub observer: PathBuf,
    /// `demo-app`: the Rust service and the load generator.
    pub demo: PathBuf,
    /// The service of the chosen language.
    pub service: PathBuf,
}

/// Builds observer, the load generator and the service.
pub fn build(project: &Project, language: Language) -> Result<Programs> {
    ensure!(
        language == Language::Rust || project::find_program("go").is_some(),
        "the Go twin needs Go: install it (https://go.dev/dl), or run the Rust one"
    );
    let step = Step::start("building observer and the demo service (release)");
    let mut cargo = project.cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "observer",
        "--package",
        "demo-app",
    ]);
    project::run(&mut cargo, "building observer and demo-app")?;
    let release = project.target.join("release");
    let demo = release.join("demo-app");
    let service = match language {
        Language::Rust => demo.clone(),
        Language::Go => {
            let binary = release.join("demo-app-go");
            let mut go = Command::new("go");
            go.current_dir(project.path("demo-app/go"))
                .args(["build", "-o"])
                .arg(&binary)
                .arg(".");
            project::run(&mut go, "go build of the Go twin")?;
            binary
        }
    };
    step.done();
    Ok(Programs {
        observer: release.join("observer"),
        demo,
        service,
    })
}

/// A service that has said it is ready, with one link in it.
#[derive(Debug)]
pub struct Service {
    /// The process.
    pub process: Process,
    /// What a load generator gets.
    pub url: String,
    // Removed after the process has ended: fields are dropped in order.
    _data: tempfile::TempDir,
}

impl Service {
    /// Starts it on a free port.
    pub fn start(programs: &Programs, args: &[&str]) -> Result<Self> {
        let data =
            tempfile::tempdir().context("no temporary directory can be made: look at TMPDIR")?;
        let mut command = Command::new(&programs.service);
        command.args(["serve", "--listen", "127.0.0.1:0", "--duration", LIFETIME]);
        command.arg("--data-dir").arg(data.path()).args(args);
        let process = Process::start(&mut command, Stream::Stdout, "the demo service")?;
        let ready = process.line("\"event\":\"ready\"", START)?;
        let ready: Value =
            serde_json::from_str(&ready.text).context("the service's ready line is no JSON")?;
        let address = ready["listen"]
            .as_str()
            .context("the service's ready line has no address")?;
        let code = create_link(address).context("the service does not take a link")?;
        Ok(Self {
            url: format!("http://{address}/resolve/{code}"),
            process,
            _data: data,
        })
    }

    /// Ends it; gives its truth lines.
    pub fn finish(mut self) -> Result<Vec<crate::process::Line>> {
        let mut lines = self.process.lines();
        self.process.stop(STOP)?;
        lines.extend(self.process.lines());
        lines.retain(|line| line.text.contains("\"event\":\"truth\""));
        Ok(lines)
    }
}

/// A load generator on a service; its stdout is its summary.
pub fn load(
    programs: &Programs,
    service: &Service,
    connections: u16,
    length: Duration,
    more: &[&str],
) -> Result<Process> {
    let mut command = Command::new(&programs.demo);
    command.args([
        "load",
        "--json",
        "--url",
        &service.url,
        "--connections",
        &connections.to_string(),
    ]);
    command
        .args(["--duration", &format!("{}ms", length.as_millis())])
        .args(more);
    Process::start(&mut command, Stream::Stdout, "the load generator")
}

/// `POST /links`; gives the new link's code.
fn create_link(address: &str) -> Result<String> {
    const BODY: &str = r#"{"url":"https://example.org/"}"#;
    let mut stream = TcpStream::connect(address).context("it does not accept")?;
    stream
        .set_read_timeout(Some(START))
        .context("no read timeout")?;
    let length = BODY.len();
    write!(
        stream,
        "POST /links HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{BODY}"
    )
    .context("it does not read")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("it does not answer")?;
    let body = answer
        .find('{')
        .and_then(|start| answer.get(start..=answer.rfind('}')?));
    let body: Value = serde_json::from_str(body.unwrap_or_default())
        .with_context(|| format!("its answer is {answer:?}"))?;
    body["code"]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("no code in {body}"))
}
