//! A real Apache Kafka broker: one KRaft node on loopback, from the jars that Maven brings.

use super::child::Running;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const VERSION: &str = "4.1.1";
/// Any 16 bytes in URL-safe base64 name a cluster.
const CLUSTER_ID: &str = "ZGVtby1hcHAtdGVzdHMtMQ";
const START: Duration = Duration::from_mins(1);

/// A running broker; ended when dropped.
pub struct Kafka {
    /// Its bootstrap server.
    pub servers: String,
    _process: Running,
    // After the process: fields are dropped in order.
    _data: TempDir,
}

impl Kafka {
    /// Formats a fresh log directory and starts a broker on it.
    pub fn start() -> Self {
        let jars = jars().join("*");
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
        let (broker, controller) = free_ports();
        let properties = data.path().join("server.properties");
        fs::write(
            &properties,
            server_properties(data.path(), broker, controller),
        )
        .expect("write");
        let java = || {
            let mut command = Command::new("java");
            command
                .arg("-Xmx512m")
                .arg("-cp")
                .arg(&jars)
                .current_dir(data.path());
            command
        };
        let formatted = java()
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(&properties)
            .output()
            .expect("java");
        assert!(formatted.status.success(), "StorageTool: {formatted:?}");
        let log = File::create(data.path().join("kafka.log")).expect("log");
        let process = Running::start(java().arg("kafka.Kafka").arg(&properties).stderr(log));
        let servers = format!("127.0.0.1:{broker}");
        wait_until_it_answers(&servers, data.path());
        Self {
            servers,
            _process: process,
            _data: data,
        }
    }
}

fn server_properties(data: &Path, broker: u16, controller: u16) -> String {
    let logs = data.join("logs");
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n\
         controller.listener.names=CONTROLLER\n\
         offsets.topic.replication.factor=1\n\
         default.replication.factor=1\n\
         auto.create.topics.enable=false\n\
         log.dirs={}\n",
        logs.display()
    )
}

fn wait_until_it_answers(servers: &str, data: &Path) {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .expect("consumer");
    consumer
        .fetch_metadata(None, START)
        .unwrap_or_else(|error| {
            let log = fs::read_to_string(data.join("kafka.log")).unwrap_or_default();
            panic!("Kafka does not answer on {servers}: {error}\n{log}")
        });
}

/// Two ports that were free a moment ago.
fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let (one, two) = (listen(), listen());
    let port = |listener: TcpListener| listener.local_addr().expect("address").port();
    (port(one), port(two))
}

/// The directory of Kafka's jars, filled by Maven the first time.
fn jars() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{VERSION}"));
    fs::create_dir_all(&cache).expect("cache");
    // Tests of other processes wait here instead of copying into the same directory.
    let lock = File::create(cache.join("lock")).expect("lock file");
    lock.lock().expect("lock");
    let (jars, complete) = (cache.join("libs"), cache.join("complete"));
    if !complete.exists() {
        fs::write(cache.join("pom.xml"), pom()).expect("pom.xml");
        let copied = Command::new("mvn")
            .args(["--batch-mode", "--quiet", "dependency:copy-dependencies"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .current_dir(&cache)
            .output()
            .expect("mvn");
        assert!(copied.status.success(), "mvn: {copied:?}");
        File::create(complete).expect("marker");
    }
    jars
}

fn pom() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>demo-app</groupId><artifactId>kafka-broker</artifactId><version>1</version>\n\
         <dependencies><dependency>\n\
         <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>\n\
         <version>{VERSION}</version>\n\
         </dependency></dependencies>\n\
         </project>\n"
    )
}
