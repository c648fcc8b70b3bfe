//! Threads of a program without a runtime that we know are named by tid.

use crate::support::observer;
use crate::support::report::check_completeness;
use crate::support::require::{Need, require};
use crate::support::truth::{Program, WATCHED, check_function, check_time};

#[test]
fn every_blocked_thread_is_named() {
    require!(Need::Privilege, Need::Fixture("native/threads"));
    let program = Program::start("native/threads", &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();

    assert_eq!(
        report["targets"][0]["runtime"]["kind"], "native",
        "{}",
        report["targets"]
    );
    for truth in truths
        .iter()
        .filter(|truth| !matches!(&*truth.syscall, "" | "none"))
    {
        let entry = check_time(&report, "thread", truth);
        check_function(entry, &truth.function);
    }
    check_completeness(&report);
}
