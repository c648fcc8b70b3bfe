//! Goroutines that wait inside C calls: named with the Go function that called, the C function and its
//! library, and the system call; static C functions and code without frame pointers included.

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{Share, check_completeness, functions, list, number, shares};
use crate::support::require::{Need, require};
use crate::support::truth::{Program, Truth, WATCHED, check_time};

/// What the fixture says of each goroutine besides its time.
struct Call {
    truth: Truth,
    /// The C function that Go calls, the one that waits, and where that lies.
    called: String,
    c_function: String,
    library: String,
}

fn calls(lines: Vec<(Truth, Value)>) -> Vec<Call> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines
        .into_iter()
        .map(|(truth, line)| Call {
            called: text(&line, "called"),
            c_function: text(&line, "c_function"),
            library: text(&line, "library"),
            truth,
        })
        .collect()
}

/// The shares that make up nearly all of a goroutine's time in its syscall.
fn large<'a>(report: &'a Value, truth: &Truth) -> Vec<Share<'a>> {
    let mut all = shares(report, "goroutine", truth.id);
    all.retain(|share| share.syscall() == truth.syscall);
    let sum: u64 = all.iter().map(Share::total_ns).sum();
    all.retain(|share| share.total_ns() * 20 > sum);
    all
}

fn check_call(report: &Value, call: &Call, named: bool) {
    let truth = &call.truth;
    check_time(report, "goroutine", truth);
    let shares = large(report, truth);
    assert!(!shares.is_empty(), "{truth:?}");
    for share in shares {
        let entry = share.entry;
        let stack = functions(entry);
        let context = format!("{truth:?}: {entry:#}");
        assert!(stack.contains(&&*truth.function), "{context}");
        assert!(
            stack.contains(&"runtime.goexit"),
            "the stack is whole: {context}"
        );
        let c_call = &entry["c_call"];
        if call.called.is_empty() {
            assert!(c_call.is_null(), "{context}");
            continue;
        }
        assert_eq!(c_call["function"], *call.called, "{context}");
        assert_eq!(
            c_call["called_by"]["function"], *truth.function,
            "{context}"
        );
        // Libraries keep the names of what they export when they are stripped, programs none.
        if named || call.library.contains(".so") {
            let holds = |frame: &Value| {
                let text = |key: &str| frame[key].as_str().unwrap_or_default();
                text("function").starts_with(&call.c_function)
                    && text("module").starts_with(&call.library)
            };
            assert!(list(entry, "stack").iter().any(holds), "{context}");
        }
        if call.called == call.c_function && named {
            let library = c_call["library"].as_str().unwrap_or_default();
            assert!(library.starts_with(&call.library), "{context}");
        }
    }
}

fn check(fixture: &str, named: bool) {
    let program = Program::start(fixture, &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let calls = calls(program.finish_with_lines());
    let (blocking, computing): (Vec<_>, Vec<_>) = calls
        .iter()
        .partition(|call| !call.truth.syscall.is_empty());
    assert_eq!((blocking.len(), computing.len()), (5, 1));
    for call in blocking {
        check_call(&report, call, named);
    }
    // In C, but in no system call: the runtime's list knows it.
    let id = computing[0].truth.id;
    let in_c: Vec<u64> = list(&report["census"][0], "groups")
        .iter()
        .filter(|group| group["cause"] == "cgo_call")
        .flat_map(|group| list(group, "sample_ids"))
        .filter_map(Value::as_u64)
        .collect();
    assert!(
        in_c.contains(&id),
        "{id} is not in {in_c:?}: {:#}",
        report["census"]
    );
    check_completeness(&report);
}

#[test]
fn goroutines_in_c_are_named_with_both_their_stacks() {
    require!(Need::Privilege, Need::Fixture("go/cgo_blocking"));
    check("go/cgo_blocking", true);
}

#[test]
fn a_stripped_cgo_program_names_what_it_can() {
    require!(Need::Privilege, Need::Fixture("go/cgo_blocking-stripped"));
    check("go/cgo_blocking-stripped", false);
}

#[test]
fn a_position_independent_cgo_program_tells_the_same() {
    require!(Need::Privilege, Need::Fixture("go/cgo_blocking-pie"));
    check("go/cgo_blocking-pie", true);
}

#[test]
fn threads_that_c_calls_pile_up_are_counted() {
    require!(Need::Privilege, Need::Fixture("go/cgo_blocking"));
    let program = Program::start("go/cgo_blocking", &["-crowd", "40"]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let target = &report["targets"][0];
    let (start, max) = (
        number(target, "threads_at_start"),
        number(target, "threads_max"),
    );
    assert!(start < 40 && max >= start + 25, "{start} {max}: {target:#}");
}
