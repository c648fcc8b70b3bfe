//! The verdict on tasks that wait at one channel or lock, and on circles.

use crate::report_samples::empty;
use crate::report_samples::go::pile_up;
use crate::report_verdict::check;
use observer::export::dto::Report;
use observer::export::report::{TextOptions, text};
use observer::model::census::{Direction, WaitKind};

#[test]
fn a_pile_up_is_the_headline_with_what_it_waits_for() {
    check(
        &pile_up(),
        &[
            "4 987 of 5 214 goroutines wait to send on channel 0xc000123400 (unbuffered), at \
             main.resolve (/src/server/http.go:131)",
            "the longest for at least 9.80 s",
            "Its receiver, goroutine 18 (main.consume), spends 83 % of the time in fsync at \
             main.(*clickLog).Append (/src/server/clicks.go:42) on file /data/clicks.log (fd 17).",
            "Known by its stack: the channel's address, in a function that receives, in 99 of 99 samples.",
        ],
        &["% of the blocked time", "Inside the runtime", "Apart"],
    );
}

#[test]
fn what_a_pile_up_does_not_explain_is_said_beside_it() {
    let mut elsewhere = pile_up();
    elsewhere.meetings[0].users[0].doing[0].what = "read".to_owned();
    check(
        &elsewhere,
        &["Apart from that, 66 % of the blocked time of goroutines: 212 goroutines block in fsync"],
        &[],
    );
    let mut nobody = pile_up();
    nobody.meetings[0].users.clear();
    check(
        &nobody,
        &["Who should take from it is not known"],
        &["Its receiver"],
    );
}

#[test]
fn a_lock_names_who_may_hold_it_and_no_more() {
    let mut lock = pile_up();
    let meeting = &mut lock.meetings[0];
    meeting.kind = WaitKind::Mutex;
    (meeting.len, meeting.capacity) = (None, None);
    (meeting.sides[0].direction, meeting.users[0].direction) = (None, None);
    check(
        &lock,
        &[
            "wait for mutex 0xc000123400, at main.resolve",
            "Its holder, as far as stacks tell, is goroutine 18 (main.consume), then in fsync at",
            "Go does not record who holds a lock",
        ],
        &["receiver"],
    );
}

#[test]
fn a_deadlock_is_said_first_and_as_what_it_is() {
    let mut view = empty();
    view.wait_graph.deadlock_candidates = vec!["goroutine 7 waits for mutex 0xa".to_owned()];
    check(
        &view,
        &["Deadlock candidate: goroutine 7 waits for mutex 0xa."],
        &["Nothing was blocked"],
    );
}

#[test]
fn further_circles_are_shown_with_the_waits() {
    let mut view = empty();
    view.wait_graph.deadlock_candidates = vec![
        "task 1 waits for task 2".to_owned(),
        "task 3 waits for task 4".to_owned(),
    ];
    let report = Report::from(&view);
    assert!(
        report
            .verdict
            .contains("1 more such circle: under WHO WAITS FOR WHOM."),
        "{}",
        report.verdict
    );
    let text = text::render(&report, TextOptions::default());
    let (_, waits) = text
        .split_once("WHO WAITS FOR WHOM\n")
        .expect("the section");
    assert!(
        waits.contains("deadlock candidate: task 3 waits for task 4"),
        "{text}"
    );
    assert!(!waits.contains("task 1 waits"), "{text}");
}

#[test]
fn workers_without_work_are_no_pile_up() {
    let mut idle = pile_up();
    idle.meetings[0].sides[0].direction = Some(Direction::Receive);
    check(
        &idle,
        &["66 % of the blocked time of goroutines"],
        &["wait to send", "receiver"],
    );
}

#[test]
fn tasks_that_wait_in_the_runtime_are_named_without_a_meeting_point() {
    let mut view = pile_up();
    view.meetings.clear();
    check(
        &view,
        &["5 000 goroutines (96 % of them) wait in 'chan send' at main.resolve"],
        &[],
    );
    let mut parked_connections = view;
    parked_connections.census.remove(0);
    parked_connections.census[0].share = 0.9;
    check(&parked_connections, &[], &["Inside the runtime"]);
}
