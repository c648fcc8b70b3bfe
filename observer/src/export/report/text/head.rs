//! What was observed: when, where, which processes.

use super::scheduler;
use crate::export::dto::{Report, Target};
use crate::export::report::TextOptions;
use crate::export::text::clean::{clean, fit};
use crate::export::text::units::{NBSP, count, counted, duration};
use crate::export::text::wrap::paragraph;

/// The first lines.
pub(super) fn window(report: &Report) -> String {
    let start = report.window.start.replacen('T', "\u{a0}", 1);
    let start = start.split('.').next().unwrap_or_default();
    paragraph(
        &format!(
            "observer {}: {} from {} UTC, tier {}; Linux {} {}, {}",
            clean(&report.observer.version),
            duration(report.window.duration_ns),
            start,
            clean(&report.observer.tier),
            fit(&report.host.kernel, 40),
            clean(&report.host.arch),
            counted(u64::from(report.host.cpus), "CPU", "CPUs"),
        ),
        "",
        "  ",
    )
}

/// One paragraph per process.
pub(super) fn targets(report: &Report, options: TextOptions) -> String {
    let mut out = String::new();
    for target in &report.targets {
        out += &paragraph(&line(target), "  ", "      ");
        if let Some(reason) = &target.runtime.degraded {
            let text = format!("threads only: {}", fit(reason, 300));
            out += &paragraph(&text, "      ", "      ");
        }
        if let Some(scheduler) = &target.scheduler {
            out += &scheduler::lines(scheduler, &target.runtime.kind);
        }
        if let Some(ended) = &target.ended {
            out += &paragraph(&format!("ended: {}", fit(ended, 200)), "      ", "      ");
        }
        if options.verbose {
            for evidence in &target.runtime.evidence {
                out += &paragraph(
                    &format!("seen: {}", fit(evidence, 300)),
                    "      ",
                    "        ",
                );
            }
        }
    }
    out
}

fn line(target: &Target) -> String {
    let runtime = match (target.runtime.kind.as_str(), &target.runtime.version) {
        ("native", _) => "native threads".to_owned(),
        (kind, Some(version)) => format!("{kind}{NBSP}{}", fit(version, 40)),
        (kind, None) => {
            let why = target
                .runtime
                .version_unknown_reason
                .as_deref()
                .unwrap_or("no reason given");
            format!("{kind}, version unknown ({})", fit(why, 100))
        }
    };
    let mut text = format!(
        "pid{NBSP}{} {}  {runtime}, {}",
        target.pid,
        fit(&target.comm, 30),
        counted(u64::from(target.threads), "thread", "threads"),
    );
    // Threads that come and go are every program's; those that pile up are blocked somewhere.
    if target.threads_max > target.threads_at_start.saturating_mul(3) / 2 {
        text += &format!(
            " (grew: {} when observation began, {} at most)",
            count(target.threads_at_start.into()),
            count(target.threads_max.into())
        );
    }
    let tasks = &target.tasks;
    if target.runtime.kind != "native" {
        let one = if target.runtime.kind == "go" {
            "goroutine"
        } else {
            "task"
        };
        text += &format!(", {} seen", counted(tasks.seen, one, &format!("{one}s")));
    }
    let states = [
        (tasks.running, "running"),
        (tasks.runnable, "runnable"),
        (tasks.waiting, "waiting"),
        (tasks.in_syscall, "in syscalls"),
    ];
    let states: Vec<_> = states
        .into_iter()
        .filter_map(|(n, state)| n.map(|n| counted(n, state, state)))
        .collect();
    if !states.is_empty() {
        text += &format!(" ({})", states.join(", "));
    }
    text + &format!("; {}", fit(&target.exe, 92))
}
