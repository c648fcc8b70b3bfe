//! The two services under test.

use super::child::Running;
use super::http::{self, Answer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Should a test hang, its service ends by itself after this long.
const LIFETIME: &str = "5m";
const START: Duration = Duration::from_secs(30);

/// Which service.
#[derive(Debug, Clone, Copy)]
pub enum Twin {
    /// The Rust one.
    Rust,
    /// The Go one.
    Go,
}

impl Twin {
    fn binary(self) -> PathBuf {
        match self {
            Self::Rust => PathBuf::from(env!("CARGO_BIN_EXE_demo-app")),
            Self::Go => go_binary(),
        }
    }

    /// The name of the runtime in the ready line.
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Rust => "tokio",
            Self::Go => "go",
        }
    }

    /// The scenario that it runs without `--scenario`.
    pub fn default_scenario(self) -> &'static str {
        match self {
            Self::Rust => "blocking-io-in-task",
            Self::Go => "channel-pileup",
        }
    }
}

/// Builds the Go twin once for all tests of this process; Go's own cache makes repeats quick.
fn go_binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let binary = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("demo-app-go-{}", std::process::id()));
            let status = Command::new("go")
                .args(["build", "-o"])
                .arg(&binary)
                .arg(".")
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"))
                .status()
                .expect("go build");
            assert!(status.success(), "go build of the Go twin failed: {status}");
            let settled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-app-go");
            // A rename replaces it in one step, so that test processes do not disturb each other.
            std::fs::rename(&binary, &settled).expect("rename");
            settled
        })
        .clone()
}

/// A service that has said it is ready.
pub struct Service {
    /// The process.
    pub process: Running,
    /// Its ready line.
    pub ready: Value,
    /// Where it listens.
    pub address: String,
    // Removed after the process has ended: fields are dropped in order.
    _data: tempfile::TempDir,
}

impl Service {
    /// Starts a twin on a free port, with further arguments.
    pub fn start(twin: Twin, arguments: &[&str]) -> Self {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
        let process = Running::start(
            Command::new(twin.binary())
                .args([
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--duration",
                    LIFETIME,
                    "--data-dir",
                ])
                .arg(data.path())
                .args(arguments),
        );
        let ready = process.event("ready", START);
        let address = ready["listen"].as_str().expect("listen").to_owned();
        assert_eq!(ready["pid"], process.id());
        assert_eq!(ready["runtime"], twin.runtime());
        Self {
            process,
            ready,
            address,
            _data: data,
        }
    }

    /// The Kafka that it publishes to.
    pub fn brokers(&self) -> &str {
        self.ready["brokers"].as_str().expect("brokers")
    }

    /// Creates a link and returns its code.
    pub fn create_link(&self, url: &str) -> String {
        let answer = http::post(&self.address, "/links", &json!({ "url": url }).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        let created: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(created["url"], url);
        created["code"].as_str().expect("code").to_owned()
    }

    /// Resolves a code.
    pub fn resolve(&self, code: &str) -> Answer {
        http::get(&self.address, &format!("/resolve/{code}"))
    }

    /// Asks for the metrics until `series` is `wanted`: acknowledgements come a little later.
    pub fn metrics_with(&self, series: &str, wanted: f64) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let metrics = http::get(&self.address, "/metrics");
            let value = metrics.metric(series);
            if (value - wanted).abs() < f64::EPSILON {
                return metrics;
            }
            assert!(
                Instant::now() < deadline,
                "{series} is {value}, not {wanted}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it with SIGINT and returns its final truth line.
    pub fn finish(mut self) -> Value {
        self.process.interrupt();
        let truth = loop {
            let truth = self.process.event("truth", Duration::from_secs(15));
            if truth["final"] == true {
                break truth;
            }
        };
        let status = self.process.exit(Duration::from_secs(15));
        assert!(status.success(), "{status}");
        truth
    }
}

/// Runs the load generator against a service and returns its summary.
pub fn load(service: &Service, code: &str, arguments: &[&str]) -> Value {
    let url = format!("http://{}/resolve/{code}", service.address);
    let mut process = Running::start(
        Command::new(Twin::Rust.binary())
            .args(["load", "--json", "--url", &url])
            .args(arguments),
    );
    let line = process.line(Duration::from_mins(1), |line| line.starts_with('{'));
    assert!(process.exit(Duration::from_secs(10)).success());
    serde_json::from_str(&line).expect("a summary")
}
