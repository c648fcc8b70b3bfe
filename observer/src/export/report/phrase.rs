//! Words for the parts of a blocking entry, shared by the verdict and the sections.

use super::types;
use crate::export::dto::{
    Blocking, CCall, Frame, LongPoll, Report, Resource, Site, TaskShare, Victim,
};
use crate::export::text::clean::{clean, fit};
use crate::export::text::units::{NBSP, counted, duration};

/// The kind of tasks of an entry: all its tasks are of one kind.
pub fn kind(entry: &Blocking) -> &str {
    entry.tasks.first().map_or("", |task| task.kind.as_str())
}

/// A kind of tasks, as a noun for `n` of them.
pub fn noun(kind: &str, n: u64) -> &'static str {
    match (kind, n) {
        ("goroutine", 1) => "goroutine",
        ("goroutine", _) => "goroutines",
        ("tokio_task", 1) => "tokio task",
        ("tokio_task", _) => "tokio tasks",
        ("thread", 1) => "thread",
        ("thread", _) => "threads",
        (_, 1) => "task",
        _ => "tasks",
    }
}

/// `212 tokio tasks`, or the one task by its name.
pub fn who(entry: &Blocking) -> String {
    match (entry.tasks.as_slice(), entry.tasks_total) {
        ([task], 0 | 1) => one_task(task, 60),
        ([], 0) => "tasks of unknown identity".to_owned(),
        (tasks, total) => {
            let total = total.max(tasks.len() as u64);
            counted(total, noun(kind(entry), 1), noun(kind(entry), total))
        }
    }
}

/// `thread 812 (kworker)`.
pub fn one_task(task: &TaskShare, max: usize) -> String {
    let id = format!("{}{NBSP}{}", noun(&task.kind, 1), task_id(task));
    match task_name(task, max) {
        Some(name) => format!("{id} ({name})"),
        None => id,
    }
}

/// `3 polls`: what an entry counts.
pub fn counted_waits(entry: &Blocking, n: u64) -> String {
    match entry.cause.as_str() {
        "long_poll" => counted(n, "poll", "polls"),
        _ => counted(n, "wait", "waits"),
    }
}

/// `at least 41.2 ms, at most 60.1 ms`: the longest poll of an entry.
pub fn longest_poll(poll: &LongPoll) -> String {
    let least = format!("at least {}", duration(poll.longest_at_least_ns));
    match poll.longest_at_most_ns {
        Some(most) => format!("{least}, at most {}", duration(most)),
        None => least,
    }
}

/// A task's id; with the number of its runtime's copy, when there are several.
pub fn task_id(task: &TaskShare) -> String {
    match task.copy {
        Some(copy) => format!("{}{NBSP}of{NBSP}copy{NBSP}{copy}", task.id),
        None => task.id.to_string(),
    }
}

/// A task's name, or its type's.
pub fn task_name(task: &TaskShare, max: usize) -> Option<String> {
    let name = task.name.as_ref()?;
    Some(if task.kind == "tokio_task" {
        types::short(name, max)
    } else {
        fit(name, max)
    })
}

/// What the wait is in: the system call, else the runtime's reason, else the cause.
pub fn what(entry: &Blocking) -> String {
    if entry.cause == "long_poll" {
        return "computing in a poll".to_owned();
    }
    let name = entry
        .syscall
        .as_ref()
        .or(entry.wait_reason.as_ref())
        .unwrap_or(&entry.cause);
    fit(name, 40)
}

/// `block in fsync`; `one`: for a single task.
pub fn verb(entry: &Blocking, one: bool) -> String {
    let s = if one { "s" } else { "" };
    match entry.cause.as_str() {
        "run_queue" => format!("wait{s} for a CPU"),
        "long_poll" => format!("compute{s} in polls that hold the worker,"),
        "page_fault" => format!("wait{s} for a memory page to be read in"),
        "sleep" => format!("sleep{s} in {}", what(entry)),
        _ if entry.syscall.is_none() => format!("wait{s} in {}", what(entry)),
        _ => format!("block{s} in {}", what(entry)),
    }
}

/// `demo_app::append (src/clicks.rs:42)`.
pub fn site(site: &Site, function_max: usize, file_max: usize) -> String {
    let Some(function) = &site.function else {
        let reason = site
            .unknown_reason
            .as_deref()
            .map(|reason| fit(reason, 160));
        if let (Some(module), Some(offset)) = (&site.module, &site.module_offset) {
            let place = in_module(module, offset, file_max);
            return reason.map_or_else(|| place.clone(), |reason| format!("{place} ({reason})"));
        }
        return match (&site.address, &site.module, reason) {
            (Some(address), Some(module), Some(reason)) => {
                format!("{address} in {} ({reason})", fit(module, file_max))
            }
            (Some(address), Some(module), None) => {
                format!("{address} in {}", fit(module, file_max))
            }
            (Some(address), None, Some(reason)) => format!("{address} ({reason})"),
            (_, _, Some(reason)) => format!("an unknown place ({reason})"),
            (_, _, None) => "an unknown place".to_owned(),
        };
    };
    let function = fit(function, function_max);
    match source(site.file.as_deref(), site.line, file_max) {
        Some(source) => format!("{function} ({source})"),
        None => function,
    }
}

/// `src/clicks.rs:42`.
pub fn source(file: Option<&str>, line: Option<u32>, max: usize) -> Option<String> {
    let file = fit(file?, max);
    Some(match line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    })
}

/// `libz.so.1+0x4f20`: code without a name.
fn in_module(module: &str, offset: &str, max: usize) -> String {
    format!("{}+{offset}", fit(module, max))
}

/// A frame's name, or its place in its module, or its address and why there is no more.
pub fn function(frame: &Frame, max: usize) -> String {
    if let Some(name) = &frame.function {
        return fit(name, max);
    }
    if let (Some(module), Some(offset)) = (&frame.module, &frame.module_offset) {
        return in_module(module, offset, max.saturating_sub(offset.len() + 1));
    }
    let reason = frame.unknown_reason.as_deref().unwrap_or("no name");
    let address = &frame.address;
    // The reason is said whole before the module is: half of it would mislead.
    let left = max.saturating_sub(address.len() + reason.chars().count() + " in  ()".len());
    match &frame.module {
        Some(module) if left >= 12 => format!("{address} in {} ({reason})", fit(module, left)),
        _ => fit(&format!("{address} ({reason})"), max),
    }
}

/// `in the C function usleep of libc.so.6, called by main.wait (main.go:12)`; who called is left out
/// when that is the site.
pub fn c_call(call: &CCall, site: &Site) -> String {
    let mut text = format!("in the C function {}", fit(&call.function, 60));
    if let Some(library) = &call.library {
        text += &format!(" of {}", fit(library, 40));
    }
    let is_site = |by: &&Frame| Some(&by.address) == site.address.as_ref();
    if let Some(by) = call.called_by.as_ref().filter(|by| !is_site(by)) {
        text += &format!(", called by {}", function(by, 60));
        if let Some(source) = source(by.file.as_deref(), by.line, 50) {
            text += &format!(" ({source})");
        }
    }
    text
}

/// The same in short: without the reason why a place is not known.
pub fn place(of: &Site, function_max: usize, file_max: usize) -> String {
    if of.function.is_some() || of.unknown_reason.is_none() {
        return site(of, function_max, file_max);
    }
    site(
        &Site {
            unknown_reason: None,
            ..of.clone()
        },
        function_max,
        file_max,
    )
}

/// ` on file /data/clicks.log (fd 17)`; nothing when that would only say the cause again.
pub fn on(entry: &Blocking, max: usize) -> String {
    match &entry.resource {
        Some(resource) => {
            let text = self::resource(resource, max);
            if text == entry.cause {
                String::new()
            } else {
                format!(" on {text}")
            }
        }
        None => String::new(),
    }
}

/// `file /data/clicks.log (fd 17)`, `socket 10.0.0.1:80 -> 10.0.0.2:999 (fd 3, established)`.
pub fn resource(resource: &Resource, max: usize) -> String {
    let kind = clean(&resource.kind);
    let name = match (
        &resource.path,
        &resource.local,
        &resource.peer,
        &resource.address,
    ) {
        (Some(path), ..) => Some(fit(path, max)),
        (_, Some(local), Some(peer), _) => {
            Some(format!("{} -> {}", fit(local, max / 2), fit(peer, max / 2)))
        }
        (_, None, Some(peer), _) => Some(format!("to {}", fit(peer, max))),
        (_, Some(local), None, _) => Some(format!("at {}", fit(local, max))),
        (_, _, _, Some(address)) => Some(clean(address)),
        _ => None,
    };
    let mut details = Vec::new();
    if let Some(fd) = resource.fd {
        details.push(format!("fd{NBSP}{fd}"));
    }
    if let Some(state) = &resource.state {
        details.push(fit(state, 40));
    }
    let mut out = kind;
    if let Some(name) = name {
        out.push(' ');
        out.push_str(&name);
    }
    if !details.is_empty() {
        out.push_str(" (");
        out.push_str(&details.join(", "));
        out.push(')');
    }
    out
}

/// `demo-app (pid 4242)`.
pub fn target(report: &Report, index: usize) -> String {
    match report.targets.get(index) {
        Some(target) => format!("{} (pid{NBSP}{})", fit(&target.comm, 30), target.pid),
        None => "an unlisted process".to_owned(),
    }
}

/// Tasks that waited for their turn behind polls of an entry's tasks.
pub fn victims(report: &Report, entry: &Blocking) -> Option<String> {
    let behind = |victim: &&Victim| {
        let by = victim.culprit.as_ref();
        victim.target == entry.target
            && by.is_some_and(|by| {
                by.id != victim.task.id && entry.tasks.iter().any(|task| task.id == by.id)
            })
    };
    let mut tasks: Vec<u64> = Vec::new();
    let (mut times, mut total, mut worst) = (0, 0, 0);
    for victim in report.victims.iter().filter(behind) {
        tasks.push(victim.task.id);
        times += victim.delays.count;
        total += victim.delays.total_ns;
        worst = worst.max(victim.delays.max_ns);
    }
    tasks.sort_unstable();
    tasks.dedup();
    (times > 0).then(|| {
        format!(
            "{} waited for their turn meanwhile: {}, up to {}, {} in all.",
            counted(tasks.len() as u64, "other task", "other tasks"),
            counted(times, "time", "times"),
            duration(worst),
            duration(total)
        )
    })
}

/// Who probably held the lock that was waited for.
pub fn holder(entry: &Blocking) -> Option<String> {
    let holder = entry.probable_holder.as_ref()?;
    let at = holder
        .site
        .as_deref()
        .map(|site| format!(" at {}", fit(site, 50)));
    Some(format!(
        "Probably held by {}{} (it ended {} of the {}).",
        fit(&holder.task, 50),
        at.unwrap_or_default(),
        holder.wake_ups,
        counted(holder.of, "wait", "waits")
    ))
}
