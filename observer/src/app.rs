//! The composition root: the only place that knows every stage, and wires them for each command.

pub mod census;
pub mod census_names;
pub mod children;
pub mod doctor;
pub mod finish;
pub mod go_transitions;
pub mod launch;
pub mod lifecycle;
pub mod naming;
pub mod open_waits;
pub mod paths;
pub mod peers;
pub mod poll_view;
pub mod polls;
pub mod ps;
pub mod rate_guard;
pub mod run_cost;
pub mod runtime_tier;
pub mod session;
pub mod stacks;
pub mod state;
pub mod syscalls;
pub mod target;
pub mod target_config;
pub mod task_types;
pub mod two_stacks;
pub mod user_probes;
pub mod view;
pub mod watch;
pub mod workers;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::time::Instant;

use anyhow::Context as _;

use self::session::{Options, Session};
use self::target::Target;
use crate::cli::{self, Cli, Command, Exit, ListFormat, ReportArgs};
use crate::export;
use crate::export::dto::Report;
use crate::export::report;
use crate::export::sink::{Sink, Written};
use crate::model::Pid;
use crate::model::transport::Transport;
use crate::probes::attach::AttachError;
use crate::probes::spec::Tiers;
use crate::resolve::processes;
use crate::resolve::symbols::{ModuleSymbolsFactory, Symbolizer, SymbolizerConfig, go_symbols};
use crate::sys::kernel::KernelFacts;
use crate::sys::process::ProcessError;
use crate::sys::usage;

/// Chooses how records travel: `ring` or `perf`. For tests of the fallback.
const TRANSPORT_VARIABLE: &str = "OBSERVER_TRANSPORT";
/// Mechanisms not to use, comma-separated (`tp_btf,raw_tracepoint`). For tests of the fallbacks.
const EXCLUDE_VARIABLE: &str = "OBSERVER_EXCLUDE_MECHANISMS";

/// A command line that asks for something this version can not do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Runs a command line; the exit code says how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(stop) => return print_stop(&stop),
    };
    start_log(&cli);
    run(&cli).unwrap_or_else(|error| failed(&error))
}

/// Says why, on one line: what, why, what to do.
fn failed(error: &anyhow::Error) -> Exit {
    let text = format!("{error:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    eprintln!("observer: {}", crate::export::text::clean::clean(&text));
    exit_of(error)
}

fn print_stop(stop: &cli::Stop) -> Exit {
    if stop.exit == Exit::Ok {
        return show(&stop.text).unwrap_or_else(|error| failed(&error));
    }
    eprint!("{}", stop.text);
    stop.exit
}

fn start_log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (_, 0) => "warn,observer=info",
        (_, 1) => "info,observer=debug",
        _ => "debug,observer=trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("OBSERVER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    // A second subscriber can only be there in tests: then that one stays.
    let _already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .try_init()
        .is_err();
}

fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if cause.downcast_ref::<UsageError>().is_some() {
            return Exit::Usage;
        }
        if matches!(cause.downcast_ref(), Some(ProcessError::Denied(_)))
            || matches!(cause.downcast_ref(), Some(AttachError::Permission(_)))
            || matches!(
                cause.downcast_ref(),
                Some(processes::SelectError::Process(ProcessError::Denied(_)))
            )
        {
            return Exit::NoPermission;
        }
    }
    Exit::Failed
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Report(args) => report(args, cli.verbose),
        Command::Ps(args) => {
            Sink::Stdout.check()?;
            let rows = ps::rows(&args.pids)?;
            show(&match args.format {
                ListFormat::Text => export::ps::text(&rows),
                ListFormat::Json => export::ps::json(&rows)?,
            })
        }
        Command::Doctor(args) => {
            Sink::Stdout.check()?;
            let diagnosis = doctor::diagnose(args.pid.map(Pid))?;
            let shown = show(&match args.format {
                ListFormat::Text => export::doctor::text(&diagnosis),
                ListFormat::Json => export::doctor::json(&diagnosis)?,
            })?;
            Ok(if diagnosis.usable() {
                shown
            } else {
                Exit::NoPermission
            })
        }
    }
}

/// The tiers that a command line asks for.
fn tiers(asked: &[cli::Tier]) -> Result<Tiers, UsageError> {
    let mut tiers = Tiers::SCHED;
    for tier in asked {
        match tier {
            cli::Tier::Sched => {}
            cli::Tier::Syscalls => tiers.syscalls = true,
            cli::Tier::Runtime => tiers.runtime = true,
            cli::Tier::Kernel | cli::Tier::Full => {
                return Err(UsageError(format!(
                    "--tier {}: this version has no probes on the kernel's own waits; it has sched, syscalls and runtime",
                    tier.as_str()
                )));
            }
        }
    }
    Ok(tiers)
}

fn options(args: &ReportArgs, verbose: u8) -> Result<Options, UsageError> {
    let tiers = tiers(&args.tier)?;
    if args.max_hits.is_some() && !tiers.runtime {
        return Err(UsageError(
            "--max-hits is for the probes of --tier runtime, which was not asked for".to_owned(),
        ));
    }
    if args.no_delays && !tiers.runtime {
        return Err(UsageError(
            "--no-delays is for the probes of --tier runtime, which was not asked for".to_owned(),
        ));
    }
    let transport = match std::env::var(TRANSPORT_VARIABLE).as_deref() {
        Ok("perf") => Transport::Perf,
        Ok("ring") | Err(_) => Transport::Ring,
        Ok(other) => {
            return Err(UsageError(format!(
                "{TRANSPORT_VARIABLE}={other}: use ring or perf"
            )));
        }
    };
    let excluded = std::env::var(EXCLUDE_VARIABLE)
        .map(|list| list.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    Ok(Options {
        duration: Some(args.duration),
        interval: args.interval,
        min_ns: args.min_us * 1000,
        kernel_stacks: !args.user_stacks,
        tiers,
        max_hits: args.max_hits.unwrap_or(rate_guard::DEFAULT_BUDGET),
        delays: !args.no_delays,
        transport,
        excluded,
        cpu_hz: if args.no_cpu { 0 } else { args.cpu_hz },
        kernel_log: if verbose >= 2 { 4 } else { 0 },
    })
}

/// Prints a result. A reader that leaves early has what it wanted.
fn show(text: &str) -> anyhow::Result<Exit> {
    match Sink::Stdout.write(text)? {
        Written::Whole | Written::ReaderLeft => Ok(Exit::Ok),
    }
}

/// Symbols of languages that bring their own tables.
fn plugins() -> Vec<ModuleSymbolsFactory> {
    vec![Box::new(go_symbols)]
}

fn report(args: &ReportArgs, verbose: u8) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let options = options(args, verbose)?;
    let tiers = options.tiers;
    if !usage::in_initial_pid_namespace() {
        anyhow::bail!(
            "observer runs in a pid namespace of its own, where the kernel's process ids are not the ones it sees: run it in the host's (docker run --pid=host, Kubernetes hostPID: true)"
        );
    }
    let sink = Sink::new(args.output.as_deref());
    sink.check()?;
    let format = report::format(args.format)
        .ok_or_else(|| UsageError(format!("-f {}: not a format", args.format)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the event loop could not be started")?;
    // The kernel's type information takes some ten milliseconds to read: beside the targets.
    let facts = std::thread::spawn(KernelFacts::read);
    let launched = launch::Launched::start(&args.cmd)?;
    let pids: Vec<Pid> = args
        .pids
        .iter()
        .copied()
        .map(Pid)
        .chain(launched.as_ref().map(|l| l.pid))
        .collect();
    let exes: Vec<String> = args
        .exe
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let processes = processes::select(&pids, &args.comm, &exes)?;
    let own = launched.as_ref().map(|launched| launched.pid);
    let targets: Vec<Target> = processes
        .into_iter()
        .map(|process| {
            if Some(process.id.pid) == own {
                Target::before_exec(process)
            } else {
                Target::inspect(process)
            }
        })
        .collect();
    tracing::debug!(ms = started.elapsed().as_millis(), "targets inspected");
    let facts = facts
        .join()
        .map_err(|_| anyhow::anyhow!("reading the kernel's facts failed"))?;
    tracing::debug!(ms = started.elapsed().as_millis(), "kernel facts read");
    let config = SymbolizerConfig {
        plugins: plugins(),
        ..SymbolizerConfig::default()
    };
    let symbolizer = Symbolizer::spawn(config).context("the symbolizer could not be started")?;
    let view = runtime.block_on(async {
        let stop = stop_signal()?;
        let names: Vec<String> = targets
            .iter()
            .map(|t| t.process.id.pid.to_string())
            .collect();
        let session = Session::start(targets, own, &facts, options, symbolizer)?;
        if let Some(launched) = launched {
            launched.release()?;
        }
        tracing::info!(
            "observing pid {} after {} ms",
            names.join(","),
            started.elapsed().as_millis()
        );
        let observed = session.run(stop).await?;
        anyhow::Ok(view::view(observed, &facts, &tiers.to_string()))
    })?;
    // What was observed, the view of it and the report are three forms of the same: not all at once.
    usage::release_freed_memory();
    let report = Report::from(&view);
    drop(view);
    usage::release_freed_memory();
    let text = (format.render)(&report, &args.text_options(verbose))
        .context("the report could not be rendered")?;
    match sink.write(&text)? {
        Written::Whole | Written::ReaderLeft => Ok(Exit::Ok),
    }
}

/// Completes when the user asks to stop: Ctrl-C or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
