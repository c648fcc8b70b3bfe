//! Tasks followed exactly.

use crate::export::dto::{Delay, Report, Site, StateTime, Transitions};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{NBSP, count, counted, duration};
use crate::export::text::wrap::paragraph;

/// Rows of states shown without `--full`.
const STATES: usize = 10;
/// Places of creation shown without `--full`.
const CREATED: usize = 5;
/// A ready task normally runs within this time, as long as something can run it.
const NORMAL_NS: u64 = 200_000;

/// The section, one block for each stretch of time and target.
pub(super) fn followed(report: &Report, options: TextOptions) -> String {
    let blocks: Vec<String> = report
        .transitions
        .iter()
        .map(|followed| block(report, followed, options))
        .collect();
    blocks.join("\n")
}

fn noun(report: &Report, followed: &Transitions) -> &'static str {
    match report
        .targets
        .get(followed.target)
        .map(|t| t.runtime.kind.as_str())
    {
        Some("go") => "goroutine",
        _ => "task",
    }
}

fn block(report: &Report, followed: &Transitions, options: TextOptions) -> String {
    let one = noun(report, followed);
    let mut out = paragraph(&window(report, followed, one), "  ", "    ");
    out += &paragraph(&delay(followed), "  ", "    ");
    out += &states(followed, one, options);
    out += &created(followed, options);
    out
}

fn window(report: &Report, followed: &Transitions, one: &str) -> String {
    let mut text = String::new();
    if report.targets.len() > 1 {
        text += &format!("{}: ", phrase::target(report, followed.target));
    }
    text += &format!(
        "every change of a {one}'s state, exactly, from {} to {} of the window",
        duration(followed.from_ns),
        duration(followed.to_ns),
    );
    if let Some(detached) = &followed.detached {
        text += &format!(" and NOT to its end: {}", fit(&detached.reason, 120));
    }
    text += &format!(
        "; {}, {} per second",
        counted(followed.hits, "hit", "hits"),
        count(followed.hits_per_s as u64),
    );
    if let Some(ns) = followed.program_ns_per_hit {
        text += &format!(
            "; {} each in the kernel's program, the breakpoint not counted",
            duration(ns)
        );
    }
    if followed.lost.is_empty() {
        text += "; nothing was lost";
    }
    for (reason, n) in &followed.lost {
        text += &format!("; {} of {}", count(*n), lost(reason));
    }
    text
}

/// A loss in words.
fn lost(reason: &str) -> String {
    match reason {
        "goroutine_table_full" => "changes of goroutines for which there was no room".to_owned(),
        "sums_full" => "stretches of time for which there was no room".to_owned(),
        "places_folded" => "stretches without their place, for which there was no room".to_owned(),
        "stacks_full" => "stacks for which there was no room".to_owned(),
        "wakers_full" => "wake-ups for which there was no room".to_owned(),
        "change_not_seen" => {
            "changes that went past the probe (coroutines, stops by the collector)".to_owned()
        }
        "not_listed" => "goroutines followed from their first change on only".to_owned(),
        "memory_unreadable" => "readings of the target's memory that failed".to_owned(),
        other => fit(&other.replace('_', " "), 60),
    }
}

fn spread(delay: &Delay) -> String {
    format!(
        "median {}, 99{NBSP}% below {}, longest {}",
        duration(delay.p50_ns),
        duration(delay.p99_ns),
        duration(delay.max_ns)
    )
}

fn delay(followed: &Transitions) -> String {
    let all = &followed.scheduling_delay;
    if all.count == 0 {
        return "scheduling delay (from ready to running): nothing became ready".to_owned();
    }
    let verdict = if all.p99_ns > NORMAL_NS {
        "; above 200 µs is not normal: too few Ps for the work, or too little CPU"
    } else {
        ""
    };
    let mut text = format!(
        "scheduling delay (from ready to running), {} times: {}{verdict}",
        count(all.count),
        spread(all)
    );
    if followed.scheduling_delay_after.len() > 1 {
        for part in &followed.scheduling_delay_after {
            text += &format!(
                "; {}: {}, 99{NBSP}% below {}",
                fit(&part.after, 40),
                count(part.delay.count),
                duration(part.delay.p99_ns)
            );
        }
    }
    text
}

/// The wait reason, else the state.
fn what(row: &StateTime) -> String {
    fit(row.wait_reason.as_deref().unwrap_or(&row.state), 20)
}

/// `main.work (main.go:17)`: the file without its directories.
fn place(site: &Site) -> String {
    let file = site
        .file
        .as_deref()
        .and_then(|file| file.rsplit('/').next());
    match (&site.function, file) {
        (Some(function), Some(file)) => {
            let line = site.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{} ({}{line})", fit(function, 50), fit(file, 30))
        }
        _ => phrase::site(site, 50, 30),
    }
}

fn states(followed: &Transitions, one: &str, options: TextOptions) -> String {
    let mut table = Table::new(&[
        ("", Column::Text),
        ("state", Column::Text),
        ("at", Column::Text),
        ("times", Column::Number),
        ("total", Column::Number),
        ("p99", Column::Number),
        ("longest", Column::Number),
        ("open", Column::Number),
    ]);
    let rows: Vec<&StateTime> = followed
        .states
        .iter()
        .filter(|row| options.full || !row.resting)
        .collect();
    let limit = if options.full { usize::MAX } else { STATES };
    let time = |row: &StateTime, ns| {
        if row.count == 0 {
            String::new()
        } else {
            duration(ns)
        }
    };
    for (number, row) in (1..).zip(rows.iter().take(limit)) {
        let function = match &row.site {
            Some(site) => site.function.as_deref().unwrap_or("(unknown)"),
            None => "",
        };
        table.row([
            letter(number),
            what(row),
            fit(function, 26),
            count(row.count.saturating_add(row.began_before)),
            duration(row.total_ns),
            time(row, row.p99_ns),
            time(row, row.max_ns),
            match row.unfinished.count {
                0 => String::new(),
                n => count(n),
            },
        ]);
    }
    let mut out = table.render();
    if rows.len() > limit {
        out += &paragraph(
            &format!("... and {} more (--full shows all)", rows.len() - limit),
            "  ",
            "    ",
        );
    }
    if !followed.system_calls_apart && followed.states.iter().any(|row| row.state == "running") {
        out += &paragraph(
            "\"running\" holds the time in system calls too: from Go 1.26 on they do not change the state in a way that the probe sees",
            "  ",
            "    ",
        );
    }
    for (number, row) in (1..).zip(rows.iter().take(limit)) {
        if let Some(line) = details(row, one, options) {
            out += &paragraph(&format!("{} {line}", letter(number)), "  ", "    ");
        }
    }
    out
}

/// What a row of the table is called below it.
fn letter(number: usize) -> String {
    format!("={number}")
}

/// Where exactly, and who ended the waits.
fn details(row: &StateTime, one: &str, options: TextOptions) -> Option<String> {
    let limit = if options.full { usize::MAX } else { 2 };
    let mut text = place(row.site.as_ref()?);
    let by: Vec<String> = row
        .wakers
        .iter()
        .take(limit)
        .map(|waker| {
            let who = match &waker.site {
                Some(site) => format!("at {}", fit(site, 60)),
                None => format!("by {}", fit(&waker.task, 40)),
            };
            format!("{} {who}", counted(waker.count, "time", "times"))
        })
        .collect();
    if let Some(task) = row.max_task {
        text += &format!("; longest by {one} {task}");
    }
    if !by.is_empty() {
        text += &format!("; ended {}", by.join(", "));
    }
    if row.unfinished.count > 0 {
        let at_least = if row.unfinished.lower_bound {
            "at least "
        } else {
            ""
        };
        text += &format!(
            "; {} not ended, oldest {at_least}{}",
            count(row.unfinished.count),
            duration(row.unfinished.oldest_ns)
        );
        if !row.unfinished_ids.is_empty() {
            let ids: Vec<_> = row.unfinished_ids.iter().map(ToString::to_string).collect();
            text += &format!(" (for example {})", ids.join(", "));
        }
    }
    Some(text)
}

fn created(followed: &Transitions, options: TextOptions) -> String {
    let mut out = String::new();
    let seconds = followed.to_ns.saturating_sub(followed.from_ns) as f64 / 1e9;
    let limit = if options.full { usize::MAX } else { CREATED };
    for birth in followed.created.iter().take(limit) {
        let mut text = format!(
            "created at {}: {}",
            place(&birth.site),
            count(birth.created)
        );
        if seconds > 0.0 && birth.created > 0 {
            text += &format!(" ({:.1} per second)", birth.created as f64 / seconds);
        }
        text += &format!("; ended: {}", count(birth.exited));
        if birth.life.count > 0 {
            text += &format!("; lived {}", spread(&birth.life));
        }
        out += &paragraph(&text, "  ", "      ");
    }
    if followed.created.len() > limit {
        out += &paragraph(
            &format!(
                "... and {} more places of creation (--full shows all)",
                followed.created.len() - limit
            ),
            "  ",
            "    ",
        );
    }
    out
}
