//! What an observed service pays per request.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Args;
use super::observers::{Condition, conditions, detach};
use super::stats::Row;
use crate::project::Project;
use crate::service::{self, Language, Programs, Service};
use crate::ui::{self, Step};

const CONNECTIONS: u16 = 50;
const LIMIT: Duration = Duration::from_mins(1);

/// How much the service has to do. A wait costs the same however many requests come in before the
/// next one, so that what a request pays depends on how busy the service is.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// So many requests per second.
    Rate(u32),
    /// As many as are answered.
    Full,
}

/// Well below what the machine can do, so that workers sleep between requests; and all it can do.
const LOADS: [Load; 2] = [Load::Rate(2000), Load::Full];

impl Load {
    fn case(self) -> String {
        match self {
            Self::Rate(rate) => format!("request, {rate}/s"),
            Self::Full => "request, full load".to_owned(),
        }
    }
}

/// Measures CPU time per request of one service process under every condition, in turn, and in the
/// other order in the next round.
pub fn run(project: &Project, args: &Args, language: Language) -> Result<Vec<Row>> {
    let programs = service::build(project, language)?;
    let service = Service::start(&programs, &["--scenario", "none"])?;
    let conditions = conditions(&["elsewhere", "sched", "syscalls", "runtime"], args)?;
    let loads = args
        .rate
        .map_or_else(|| LOADS.to_vec(), |rate| vec![Load::Rate(rate)]);
    let cases: Vec<(Load, Condition)> = loads
        .iter()
        .flat_map(|load| conditions.iter().map(|condition| (*load, *condition)))
        .collect();
    let mut rows: Vec<Row> = cases
        .iter()
        .map(|(load, condition)| Row {
            case: load.case(),
            condition: condition.name.to_owned(),
            unit: "us CPU/request",
            values: Vec::new(),
        })
        .collect();
    let length = Duration::from_secs(args.seconds.into());
    measure(&programs, &service, loads[0], length).context("warming up")?;
    for round in 1..=args.rounds {
        let step = Step::start(format!("round {round} of {}", args.rounds));
        let mut order: Vec<usize> = (0..cases.len()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for at in order {
            let (load, condition) = cases[at];
            let attached = condition.attach(&programs.observer, service.process.pid())?;
            let value = measure(&programs, &service, load, length)?;
            detach(attached)?;
            let row = &mut rows[at];
            ui::note(format!(
                "{}, {}: {value:.1} {}",
                row.case, row.condition, row.unit
            ));
            row.values.push(value);
        }
        step.done();
    }
    Ok(rows)
}

/// One stretch of load; gives microseconds of the service's CPU time per answered request.
fn measure(programs: &Programs, service: &Service, load: Load, length: Duration) -> Result<f64> {
    let before = cpu_time(service.process.pid())?;
    let rate = match load {
        Load::Rate(rate) => vec!["--rate".to_owned(), rate.to_string()],
        Load::Full => Vec::new(),
    };
    let rate: Vec<&str> = rate.iter().map(String::as_str).collect();
    let mut load = service::load(programs, service, CONNECTIONS, length, &rate)?;
    let summary = load.line("{", length + LIMIT)?;
    ensure!(load.wait(LIMIT)?.success(), "the load generator failed");
    let spent = cpu_time(service.process.pid())?.saturating_sub(before);
    let summary: Value =
        serde_json::from_str(&summary.text).context("the load's summary is no JSON")?;
    let requests = summary["requests"]
        .as_u64()
        .with_context(|| format!("the load's summary has no number of requests: {summary}"))?;
    ensure!(requests > 0, "no request was answered: {summary}");
    Ok(spent.as_secs_f64() * 1e6 / requests as f64)
}

/// CPU time of a process with all its threads, ended ones included: its CPU clock, which counts
/// nanoseconds, where /proc/PID/stat counts hundredths of a second.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for the result.
    let error = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    ensure!(error == 0, "the service is gone");
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(done == 0, "the service is gone");
    Ok(Duration::new(
        time.tv_sec.cast_unsigned(),
        time.tv_nsec as u32,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_takes_time_and_one_that_is_gone_has_none() {
        let own = std::process::id();
        let before = cpu_time(own).unwrap();
        let mut sum = 0_u64;
        while cpu_time(own).unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 1);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(cpu_time(child.id()).is_err());
    }
}
