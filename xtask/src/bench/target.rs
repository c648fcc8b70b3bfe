//! What an observed service pays per request.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Args;
use super::observers::{conditions, detach};
use super::stats::Row;
use crate::project::Project;
use crate::service::{self, Language, Programs, Service};
use crate::ui::{self, Step};

const CONNECTIONS: u16 = 50;
/// Requests per second: the same work under every condition, well below what the machine can do.
const RATE: &str = "2000";
const LIMIT: Duration = Duration::from_mins(1);

/// Measures CPU time per request of one service process under every condition, in turn.
pub fn run(project: &Project, args: &Args, language: Language) -> Result<Vec<Row>> {
    let programs = service::build(project, language)?;
    let service = Service::start(&programs, &["--scenario", "none"])?;
    let conditions = conditions(&["sched", "syscalls", "runtime"], args.alternatives);
    let mut rows: Vec<Row> = conditions
        .iter()
        .map(|condition| Row {
            case: "request".to_owned(),
            condition: condition.name.to_owned(),
            unit: "us CPU/request",
            values: Vec::new(),
        })
        .collect();
    let length = Duration::from_secs(args.seconds.into());
    measure(&programs, &service, length).context("warming up")?;
    for round in 1..=args.rounds {
        let step = Step::start(format!("round {round} of {}", args.rounds));
        for (condition, row) in conditions.iter().zip(&mut rows) {
            let attached = condition.attach(&programs.observer, service.process.pid())?;
            let value = measure(&programs, &service, length)?;
            detach(attached)?;
            ui::note(format!("{}: {value:.1} {}", row.condition, row.unit));
            row.values.push(value);
        }
        step.done();
    }
    Ok(rows)
}

/// One stretch of fixed load; gives microseconds of the service's CPU time per answered request.
fn measure(programs: &Programs, service: &Service, length: Duration) -> Result<f64> {
    let before = cpu_seconds(service.process.pid())?;
    let mut load = service::load(programs, service, CONNECTIONS, length, &["--rate", RATE])?;
    let summary = load.line("{", length + LIMIT)?;
    ensure!(load.wait(LIMIT)?.success(), "the load generator failed");
    let spent = cpu_seconds(service.process.pid())? - before;
    let summary: Value =
        serde_json::from_str(&summary.text).context("the load's summary is no JSON")?;
    let requests = summary["requests"]
        .as_u64()
        .with_context(|| format!("the load's summary has no number of requests: {summary}"))?;
    ensure!(requests > 0, "no request was answered: {summary}");
    Ok(spent * 1e6 / requests as f64)
}

/// CPU time of a process with all its threads, ended ones included.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the service is gone")?;
    let ticks = ticks(&stat).context("/proc/PID/stat has not the known form")?;
    // SAFETY: sysconf has no memory preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / per_second as f64)
}

/// utime + stime: fields 14 and 15, counted from after the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 1 0 5";
        assert_eq!(super::ticks(stat), Some(42));
        assert_eq!(super::ticks("7 (a"), None);
    }
}
