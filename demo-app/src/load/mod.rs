//! The `load` command: a bounded number of connections, each with one request under way.

mod client;
mod pace;
mod push;
mod stats;
mod target;

pub use stats::Summary;

use crate::cli::LoadArgs;
use crate::output;
use crate::signals::StopSignals;
use anyhow::{Context, Result, bail};
use client::{Plan, Worker};
use pace::Pace;
use stats::Stats;
use std::sync::Arc;
use std::time::Duration;
use target::Target;
use tokio::task::JoinSet;
use tokio::time::Instant;

const PUSH_EVERY: Duration = Duration::from_secs(1);

/// Sends the load and prints the summary.
pub fn run(args: &LoadArgs) -> Result<()> {
    let target = Target::parse(&args.url)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the tokio runtime")?;
    let (summary, first_error) = runtime.block_on(send(args, target))?;
    if args.json {
        output::json_line(&summary).context("cannot print the summary")?;
    } else {
        output::text_line(&summary.to_string()).context("cannot print the summary")?;
    }
    if summary.requests == 0 {
        let why = first_error.as_deref().unwrap_or("none was sent");
        bail!(
            "no request to {} succeeded ({why}); is the service there, and the link?",
            args.url
        );
    }
    Ok(())
}

async fn send(args: &LoadArgs, target: Target) -> Result<(Summary, Option<String>)> {
    let mut signals = StopSignals::install().context("cannot handle signals")?;
    let stats = Arc::new(Stats::new(args.connections)?);
    let start = Instant::now();
    let plan = Arc::new(Plan {
        target,
        deadline: start + args.duration,
        timeout: args.timeout,
    });
    let mut workers = JoinSet::new();
    for index in 0..args.connections {
        let pace = args
            .rate
            .map(|rate| Pace::new(start, index, args.connections, rate));
        let worker = Worker::new(Arc::clone(&plan), Arc::clone(&stats), index, pace);
        workers.spawn(worker.run());
    }
    let mut pushes = tokio::time::interval_at(start + PUSH_EVERY, PUSH_EVERY);
    loop {
        tokio::select! {
            done = workers.join_next() => if done.is_none() { break },
            // Ending early still gives a summary of what was sent.
            () = signals.received() => { workers.abort_all(); break }
            _ = pushes.tick(), if args.push => {
                let running = stats.summary(args.connections, start.elapsed());
                push::best_effort(&plan.target, &running, PUSH_EVERY).await;
            }
        }
    }
    let summary = stats.summary(args.connections, start.elapsed());
    if args.push {
        push::push(&plan.target, &summary, args.timeout)
            .await
            .context(
                "cannot push the load result; is this a demo service? leave out --push otherwise",
            )?;
    }
    Ok((summary, stats.first_error()))
}
