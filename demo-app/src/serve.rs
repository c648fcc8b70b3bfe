//! The `serve` command: puts the parts together, announces readiness, stops in order.

use crate::app::App;
use crate::broker::Broker;
use crate::cli::ServeArgs;
use crate::click::Sequence;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::output;
use crate::publisher::Publisher;
use crate::scenarios::{self, Scenario};
use crate::service;
use crate::signals::StopSignals;
use crate::truth::TruthLine;
use anyhow::{Context, Result, anyhow};
use axum::serve::ListenerExt;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long open requests may take once the service has to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long queued events may take after that.
const FLUSH: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct ReadyLine<'a> {
    event: &'static str,
    runtime: &'static str,
    pid: u32,
    listen: String,
    brokers: &'a str,
    topic: &'a str,
    scenario: &'static str,
    data_dir: &'a Path,
}

/// Runs the service.
pub fn run(args: &ServeArgs) -> Result<()> {
    let entry = scenarios::find(&args.scenario)
        .ok_or_else(|| anyhow!("there is no scenario {:?}; see --help", args.scenario))?;
    let runtime = runtime(args)?;
    let data = DataDir::open(args.data_dir.as_deref())?;
    let scenario = (entry.open)(data.path()).with_context(|| {
        format!(
            "cannot start the scenario in {}; choose another --data-dir",
            data.path().display()
        )
    })?;
    let metrics = Metrics::new().context("cannot set up metrics")?;
    let broker = match &args.brokers {
        None => Broker::embedded(&args.topic, args.partitions)?,
        Some(servers) => {
            runtime.block_on(Broker::external(servers, &args.topic, args.partitions))?
        }
    };
    let publisher = Publisher::connect(broker.servers(), &args.topic, &metrics)?;
    let app = Arc::new(App {
        links: Links::default(),
        metrics,
        publisher,
        scenario: Arc::clone(&scenario),
        clicks: Sequence::default(),
    });

    let (mut signals, listener) = runtime.block_on(async {
        let signals = StopSignals::install().context("cannot handle signals")?;
        let listener = TcpListener::bind(args.listen).await.with_context(|| {
            format!("cannot listen on {}; choose another --listen", args.listen)
        })?;
        anyhow::Ok((signals, listener))
    })?;
    output::json_line(&ReadyLine {
        event: "ready",
        runtime: "tokio",
        pid: std::process::id(),
        listen: listener
            .local_addr()
            .context("no local address")?
            .to_string(),
        brokers: broker.servers(),
        topic: &args.topic,
        scenario: entry.name,
        data_dir: data.path(),
    })
    .context("cannot announce readiness on stdout")?;

    let truth = TruthTeller::start(entry.name, scenario, args.truth_every)?;
    let served = runtime.block_on(serve(
        listener,
        Arc::clone(&app),
        &mut signals,
        args.duration,
    ));
    let flushed = app.publisher.flush(FLUSH);
    let told = truth.finish();
    // Tasks of connections that did not end in time still hold the app: they go first, then the
    // producer, then the broker it talks to.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(app);
    drop(broker);
    served?;
    flushed?;
    told
}

fn runtime(args: &ServeArgs) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = args.workers {
        builder.worker_threads(usize::from(workers));
    }
    builder
        .enable_all()
        .build()
        .context("cannot start the tokio runtime")
}

async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    signals: &mut StopSignals,
    duration: Option<Duration>,
) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait for the peer's delayed acknowledgement. A socket that
        // refuses is merely slower.
        stream.set_nodelay(true).ok();
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(
        axum::serve(listener, service::router(app))
            .with_graceful_shutdown(async {
                stopped.await.ok();
            })
            .into_future(),
    );
    tokio::select! {
        () = signals.received() => {}
        () = after(duration) => {}
        ended = &mut server => return Err(anyhow!("the HTTP server ended by itself: {ended:?}")),
    }
    drop(stop);
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        eprintln!("demo-app: some connections were still open after {DRAIN:?}; closing them");
        server.abort();
    }
    Ok(())
}

async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The directory of the scenario's files.
enum DataDir {
    Given(PathBuf),
    Temporary(TempDir),
}

impl DataDir {
    fn open(given: Option<&Path>) -> Result<Self> {
        let Some(path) = given else {
            return TempDir::with_prefix("demo-app-")
                .map(Self::Temporary)
                .context("cannot make a temporary directory; name one with --data-dir");
        };
        std::fs::create_dir_all(path).with_context(|| {
            format!(
                "cannot make the data directory {}; choose another --data-dir",
                path.display()
            )
        })?;
        Ok(Self::Given(path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// Prints the truth lines, from its own thread: writing to a pipe that nobody reads must not
/// become one more thing that blocks a worker.
struct TruthTeller {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl TruthTeller {
    fn start(
        name: &'static str,
        scenario: Arc<dyn Scenario>,
        every: Option<Duration>,
    ) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("demo-truth".to_owned())
            .spawn(move || tell(name, scenario.as_ref(), every, &stopped))
            .context("cannot start the thread that prints the truth")?;
        Ok(Self { stop, thread })
    }

    fn finish(self) -> Result<()> {
        drop(self.stop);
        self.thread
            .join()
            .map_err(|_| anyhow!("the thread that prints the truth panicked"))?
    }
}

fn tell(
    name: &'static str,
    scenario: &dyn Scenario,
    every: Option<Duration>,
    stopped: &mpsc::Receiver<()>,
) -> Result<()> {
    let start = Instant::now();
    // Without --truth-every it only waits for the end.
    let every = every.unwrap_or(Duration::MAX);
    loop {
        let last = stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout);
        let line = TruthLine::new(name, start.elapsed(), last, scenario.truth());
        output::json_line(&line).context("cannot print the truth on stdout")?;
        if last {
            return Ok(());
        }
    }
}
