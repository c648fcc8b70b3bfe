//! A stack: the application's frames first, the runtime's folded, the kernel's on one line.

use crate::export::dto::{Blocking, Frame};
use crate::export::report::{Stacks, TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::units::count;
use crate::export::text::wrap::paragraph;

/// Frames shown without `--full`.
const LIMIT: usize = 12;
/// Kernel frames shown without `--full`: the nearest ones say what it waits in.
const KERNEL_LIMIT: usize = 5;
/// Before a frame, and before the lines it continues on.
const INDENT: &str = "       ";

/// The stack of an entry.
pub(super) fn lines(entry: &Blocking, options: TextOptions) -> String {
    let (kernel, user): (Vec<&Frame>, Vec<&Frame>) =
        entry.stack.iter().partition(|frame| frame.kind == "kernel");
    let mut out = String::new();
    // A stack that is the site and nothing else has been said by the heading.
    if let [only] = user.as_slice()
        && kernel.is_empty()
        && entry.site.address.as_ref() == Some(&only.address)
    {
        return out;
    }
    if options.stacks != Stacks::Kernel {
        let mut shown = if options.full {
            user.iter().map(|f| frame(f, entry)).collect()
        } else {
            folded(&user, entry)
        };
        if shown.len() > LIMIT && !options.full {
            let hidden = shown.len() - (LIMIT - 1);
            shown.truncate(LIMIT - 1);
            shown.push(format!("  ... {} more frames", count(hidden as u64)));
        }
        for line in shown {
            out += &paragraph_keeping_mark(&line);
        }
    }
    if options.stacks != Stacks::User && !kernel.is_empty() {
        let kernel = if options.full {
            kernel.as_slice()
        } else {
            below_scheduler(&kernel)
        };
        let limit = if options.full {
            kernel.len()
        } else {
            KERNEL_LIMIT
        };
        let name = |frame: &&Frame| {
            frame
                .function
                .as_ref()
                .map_or_else(|| frame.address.clone(), |name| fit(name, 60))
        };
        let mut names: Vec<String> = kernel.iter().take(limit).map(name).collect();
        if kernel.len() > limit {
            names.push(format!("... {} more", count((kernel.len() - limit) as u64)));
        }
        let text = format!("kernel: {}", names.join(" < "));
        out += &paragraph(
            &text,
            &format!("{INDENT}  "),
            &format!("{INDENT}          "),
        );
    }
    out
}

/// Every blocked thread is inside the scheduler, and the probe that looks is on its stack too: what
/// matters is who called the scheduler.
fn below_scheduler<'a, 'f>(kernel: &'a [&'f Frame]) -> &'a [&'f Frame] {
    let is_scheduler = |frame: &&Frame| {
        matches!(
            frame.function.as_deref(),
            Some("__schedule" | "schedule" | "schedule_preempt_disabled")
        )
    };
    let nearest = kernel.get(..kernel.len().min(12)).unwrap_or_default();
    let start = nearest
        .iter()
        .rposition(is_scheduler)
        .map_or(0, |last| last + 1);
    kernel
        .get(start..)
        .filter(|rest| !rest.is_empty())
        .unwrap_or(kernel)
}

/// The first two columns of a frame line hold its mark.
fn paragraph_keeping_mark(line: &str) -> String {
    let (mark, text) = line.split_at(2);
    paragraph(text, &format!("{INDENT}{mark}"), &format!("{INDENT}    "))
}

/// Runs of runtime frames become one line, but the one that the application called stays: it is
/// the call to change (`std::fs::File::sync_all`).
fn folded(frames: &[&Frame], entry: &Blocking) -> Vec<String> {
    let mut out = Vec::new();
    let has_user = frames.iter().any(|frame| frame.kind == "user");
    for run in frames.chunk_by(|a, b| a.kind == b.kind) {
        let Some(last) = run.last() else { continue };
        let is_runtime = last.kind == "runtime";
        if !is_runtime || !has_user {
            out.extend(run.iter().map(|f| frame(f, entry)));
        } else if let Some(c) = c_frames(run) {
            fold_inner(&run[..c], entry, &mut out);
            out.push("  ... called by Go, whose stack this is from here on".to_owned());
        } else if run.len() == 1 {
            out.push(frame(last, entry));
        } else if out.is_empty() {
            fold_inner(run, entry, &mut out);
        } else {
            out.push(format!("  ... {} outer runtime frames", run.len()));
        }
    }
    out
}

/// The run's last frame is shown, those before it are counted.
fn fold_inner(run: &[&Frame], entry: &Blocking, out: &mut Vec<String>) {
    let Some((last, before)) = run.split_last() else {
        return;
    };
    if !before.is_empty() {
        out.push(format!(
            "  ... {} inner runtime frame{}",
            before.len(),
            if before.len() == 1 { "" } else { "s" }
        ));
    }
    out.push(frame(last, entry));
}

/// Where Go calls C: how many frames of C the run begins with, cgo's own left out.
fn c_frames(run: &[&Frame]) -> Option<usize> {
    let starts = |frame: &&Frame, with: &str| {
        let name = frame.function.as_deref();
        name.is_some_and(|name| name.starts_with(with))
    };
    let border = run
        .iter()
        .position(|f| starts(f, "runtime.asmcgocall") || starts(f, "runtime.cgocall"))?;
    let own = run.iter().position(|frame| starts(frame, "_cgo_"));
    Some(own.map_or(border, |own| own.min(border)))
}

fn frame(frame: &Frame, entry: &Blocking) -> String {
    // Frames that are missing have no address.
    if frame.function.is_none() && frame.address == "0x0" {
        let reason = frame.unknown_reason.as_deref().unwrap_or("no reason");
        return fit(&format!("  ... frames missing: {reason}"), 88);
    }
    let site = &entry.site;
    // Functions that were inlined have the address of the one that they are in.
    let is_site = site.address.as_ref() == Some(&frame.address)
        && (&site.function, &site.file, site.line) == (&frame.function, &frame.file, frame.line);
    let mark = if is_site { "> " } else { "  " };
    let function = phrase::function(frame, 86);
    match phrase::source(frame.file.as_deref(), frame.line, 60) {
        Some(source) => format!("{mark}{function} ({source})"),
        None => match &frame.module {
            Some(module) if frame.function.is_some() && module.contains(".so") => {
                format!("{mark}{function} ({})", fit(module, 40))
            }
            _ => format!("{mark}{function}"),
        },
    }
}
