//! The verdict says what is worst, and nothing that the session did not find.

use crate::report_samples::go::{degraded, go, idle, unfinished};
use crate::report_samples::other::{native, run_queue};
use crate::report_samples::tokio::{allowed, healthy, tokio};
use crate::report_samples::{MS, S, empty};
use observer::export::dto::Report;
use observer::model::task::Legality;
use observer::model::view::{Scheduler, Unfinished, View};
use observer::model::{Cause, Known, Resource};

pub(crate) fn check(view: &View, expected: &[&str], absent: &[&str]) {
    let verdict = Report::from(view).verdict;
    for text in expected {
        assert!(verdict.contains(text), "{text:?} is not in: {verdict}");
    }
    for text in absent {
        assert!(!verdict.contains(text), "{text:?} is in: {verdict}");
    }
    assert!(
        verdict.ends_with('.') && !verdict.contains("  "),
        "{verdict}"
    );
}

#[test]
fn blocking_in_a_poll_comes_before_larger_sums_of_anything_else() {
    check(
        &tokio(),
        &[
            "75 % of the time blocked inside async polls: 212 tokio tasks block in fsync",
            "on file /data/clicks.log (fd 17), 1 832 waits, 9.10 s in 10.0 s, p99 8.20 ms, worst 31.0 ms",
            "inside an async poll: until such a wait ends, its thread runs no other task",
            "Next: 25 %, futex",
        ],
        &["rd_kafka", "write_archive"],
    );
}

#[test]
fn tasks_that_are_ready_behind_a_blocked_worker_are_counted() {
    let mut view = tokio();
    let scheduler = |runnable_mean| {
        Some(Scheduler {
            runnable_mean,
            runnable_max: 95,
            ..Scheduler::default()
        })
    };
    view.targets[0].scheduler = scheduler(58.8);
    let text = "Meanwhile 59 tasks on average were ready and waited for their turn, 95 at most.";
    check(&view, &[text], &[]);
    view.targets[0].scheduler = scheduler(0.4);
    check(&view, &[], &["Meanwhile"]);
}

#[test]
fn short_waits_in_a_poll_do_not_hide_a_real_one_elsewhere() {
    let mut view = tokio();
    for entry in &mut view.blocking {
        if entry.legality == Legality::InPoll {
            (entry.total_ns, entry.max_ns) = (50_000, 20_000);
        }
        if entry.cause == Cause::Epoll {
            entry.cause = Cause::Fsync;
        }
    }
    check(&view, &["thread 71 (rdk:broker1)"], &["async poll: until"]);
}

#[test]
fn allowed_blocking_is_said_to_be_allowed_and_only_when_there_is_nothing_else() {
    check(
        &allowed(),
        &["only where blocking is allowed", "not a fault by itself"],
        &["async poll"],
    );
    check(&tokio(), &[], &["allowed"]);
}

#[test]
fn idle_is_not_blocked() {
    check(
        &idle(),
        &["Nothing was blocked in 10.0 s", "idle for 71.2 s"],
        &["% of"],
    );
    check(&empty(), &["Nothing was blocked in 10.0 s"], &["idle"]);
    let mut filtered = empty();
    filtered.completeness.seen = 3;
    check(&filtered, &["threads left the CPU 3 times"], &[]);
}

#[test]
fn an_unfinished_wait_shows_its_age_and_no_percentiles() {
    check(
        &unfinished(),
        &["None of them had ended after at least 3 h 25 min, the age of the oldest"],
        &["p99", "worst"],
    );
    let mut exact = unfinished();
    exact.blocking[0].unfinished.lower_bound = false;
    check(
        &exact,
        &["None of them had ended after 3 h 25 min"],
        &["at least"],
    );
}

#[test]
fn a_hang_elsewhere_is_not_forgotten() {
    let mut view = go();
    view.blocking[3].unfinished = Unfinished {
        count: 1,
        oldest_ns: 10 * S,
        lower_bound: true,
    };
    check(
        &view,
        &[
            "Also still waiting: 1 wait in recvfrom at main.(*legacyClient).call",
            "at least 10.0 s",
        ],
        &[],
    );
}

#[test]
fn a_goroutine_that_blocks_is_no_fault_by_itself_but_one_that_keeps_its_p_is_noted() {
    check(&go(), &["A goroutine may block there"], &["NOT", "async"]);
    let mut raw = go();
    raw.blocking[0].legality_evidence = Some("the goroutine was still `running`".to_owned());
    check(
        &raw,
        &["For most of that time the goroutine was still `running`."],
        &["may block there"],
    );
}

#[test]
fn threads_that_wait_for_work_are_left_out_or_said_to() {
    check(
        &native(),
        &["waits for work left out", "4 threads block in futex"],
        &["epoll"],
    );
    let mut events = native();
    events.blocking.retain(|entry| entry.cause == Cause::Epoll);
    let mut a_little = native();
    a_little.blocking[0].total_ns = 300 * MS;
    check(
        &a_little,
        &[
            "Nothing was blocked to speak of but threads that slept or waited for work. All else: ",
            "4 threads block in futex at worker_loop (/src/pool.c:61)",
            "3 % of the window (220 waits, 300 ms in 10.0 s, worst 564 ms).",
        ],
        &["% of the blocked time", "epoll", "fault"],
    );
    a_little.blocking.truncate(1);
    check(
        &a_little,
        &["Nothing was blocked to speak of. All else: 4 threads"],
        &[],
    );
    check(
        &events,
        &[
            "Nothing was blocked but threads that slept or waited for work.",
            "epoll_wait",
        ],
        &["fault only if"],
    );
}

#[test]
fn what_is_for_no_lock_and_no_message_is_said_beside_a_pool_that_may_be_idle() {
    let mut view = native();
    let mut write = view.blocking[0].clone();
    (write.cause, write.total_ns) = (Cause::Fsync, 1_200 * MS);
    write.syscall = Some("fsync".to_owned());
    write.tasks.truncate(1);
    write.tasks_total = 1;
    view.blocking.push(write);
    let said = "The largest that is for neither a lock nor a message: thread 4243 (pool-worker) blocks in fsync at worker_loop";
    let worst = "96 % of the blocked time of threads (sleeps and waits for work left out): 4 threads block in futex";
    check(&view, &[worst, said, "12 % of the window"], &["Next"]);
    // Not of a trifle, and not when the worst is such a thing itself.
    view.blocking[2].total_ns = 900 * MS;
    check(&view, &["4 threads block in futex"], &["neither"]);
    // A call for files is not always for one.
    view.blocking[2].total_ns = 1_200 * MS;
    view.blocking[2].cause = Cause::FileIo;
    for (syscall, kind, said) in [
        ("read", "file", true),
        ("read", "eventfd", false),
        ("flock", "file", false),
    ] {
        view.blocking[2].syscall = Some(syscall.to_owned());
        view.blocking[2].resource = Some(Resource {
            kind,
            ..Resource::default()
        });
        let absent: &[&str] = if said { &[] } else { &["neither"] };
        let expected: &[&str] = if said { &["neither"] } else { &[] };
        check(&view, expected, absent);
    }
    (view.blocking[2].cause, view.blocking[2].total_ns) = (Cause::Fsync, 40 * S);
    view.blocking.sort_by_key(|e| std::cmp::Reverse(e.total_ns));
    check(&view, &["Next: 44 %, futex"], &["neither"]);
}

#[test]
fn a_healthy_service_under_load_gets_no_share_of_a_trifle() {
    check(
        &healthy(),
        &[
            "Nothing was blocked to speak of but threads that slept or waited for work. All else: 52 \
             tokio tasks wait for a CPU, 5 % of the window (2 577 waits, 186 ms in 4.00 s, worst 566 µs).",
            "Beside the runtime, 6 threads block in futex at cnd_timedwait_ms",
            "a fault only if that should be working",
        ],
        &[">99 %", "async poll", "Not enough CPU"],
    );
}

#[test]
fn the_same_waits_for_a_cpu_are_a_shortage_from_a_tenth_of_the_window_on() {
    let mut view = healthy();
    let ready = view
        .blocking
        .iter_mut()
        .find(|e| e.cause == Cause::RunQueue);
    let ready = ready.expect("the sample has such waits");
    (ready.total_ns, ready.run_queue_ns) = (500 * MS, 500 * MS);
    check(
        &view,
        &[
            "Not enough CPU: 100 % of blocked time",
            "The largest part: 52 tokio tasks wait for a CPU, 12 % of the window",
        ],
        &["to speak of", "async polls"],
    );
}

#[test]
fn a_real_fault_stays_the_verdict_at_any_load() {
    let fsync = |count: u64, each: u64| {
        let mut view = healthy();
        let mut fsync = tokio().blocking.remove(1);
        assert_eq!(
            (fsync.cause, fsync.legality),
            (Cause::Fsync, Legality::InPoll)
        );
        (fsync.count, fsync.total_ns) = (count, count * each);
        (fsync.p50_ns, fsync.p99_ns, fsync.max_ns) = (each, each, each);
        view.blocking.insert(0, fsync);
        view
    };
    let named = "fsync at demo_app::clicks::append_click_log";
    // One request in the whole window, and one of many whose waits are short but fill it.
    check(
        &fsync(1, 5 * MS),
        &[
            named,
            "Long one by one, not in sum: that is <1 % of the window.",
        ],
        &["to speak of"],
    );
    check(
        &fsync(400, 5 * MS),
        &[named],
        &["to speak of", "one by one"],
    );
    check(&fsync(4_000, MS / 10), &[named], &["to speak of"]);
    check(&fsync(40, MS / 10), &["to speak of"], &[named]);
    // It comes back late from its own wait: that is no want of CPU.
    let mut late = fsync(20, 5 * MS);
    late.blocking[0].run_queue_ns = 60 * MS;
    check(&late, &[named], &["to speak of"]);
    // What blocks on one file after the other has many small entries.
    let mut files = fsync(1, MS / 2);
    files.blocking = (0..900).map(|_| files.blocking[0].clone()).collect();
    check(&files, &[named], &["to speak of"]);
}

#[test]
fn locks_of_healthy_programs_are_no_fault_and_held_ones_are() {
    let lock = |count: u64, usual: u64, worst: u64| {
        let mut view = healthy();
        let mut lock = tokio().blocking.remove(3);
        assert_eq!(
            (lock.cause, lock.legality),
            (Cause::Futex, Legality::InPoll)
        );
        (lock.count, lock.total_ns) = (count, count * usual + worst);
        (lock.p50_ns, lock.max_ns) = (usual, worst);
        view.blocking.insert(0, lock);
        view
    };
    let named = "futex at demo_app::links::LinkTable::insert";
    check(
        &lock(26, MS / 10, 2 * MS),
        &["All else comes to 5 % of the window, the largest: 52 tokio tasks wait for a CPU"],
        &[named],
    );
    check(&lock(3, 2 * MS, 3 * MS), &[named], &["to speak of"]);
    check(&lock(26, MS / 10, 12 * MS), &[named], &["to speak of"]);
    // A single one of these is chance, be it the only one.
    check(&lock(1, 2 * MS, 2 * MS), &["to speak of"], &[]);
}

#[test]
fn a_library_thread_that_does_more_than_wait_is_spoken_of() {
    let mut view = healthy();
    let pool = view.blocking.iter_mut().find(|e| e.cause == Cause::Futex);
    let pool = pool.expect("the sample has such threads");
    pool.cause = Cause::Fsync;
    pool.syscall = Some("fsync".to_owned());
    check(
        &view,
        &["6 threads block in fsync at cnd_timedwait_ms"],
        &["to speak of"],
    );
}

#[test]
fn a_goroutine_that_hangs_for_long_once_is_spoken_of() {
    let mut view = go();
    view.blocking.truncate(1);
    (view.blocking[0].total_ns, view.blocking[0].count) = (400 * MS, 4);
    view.blocking[0].max_ns = 90 * MS;
    check(&view, &["to speak of"], &["one by one"]);
    view.blocking[0].max_ns = 110 * MS;
    check(&view, &["Long one by one, not in sum"], &["to speak of"]);
}

#[test]
fn want_of_cpu_is_not_called_blocking() {
    check(&run_queue(), &["Not enough CPU: 80 % of blocked time"], &[]);
    // A task that is ready while its poll is under way broke no rule.
    let mut preempted = tokio();
    preempted
        .blocking
        .retain(|entry| entry.cause == Cause::Fsync);
    preempted.blocking[0].cause = Cause::RunQueue;
    preempted.blocking[0].syscall = None;
    check(
        &preempted,
        &["Not enough CPU: 100 %", "wait for a CPU"],
        &["inside an async poll"],
    );
}

#[test]
fn what_was_not_seen_is_said() {
    check(
        &degraded(),
        &[
            "Only threads, not tasks, are told apart in server (pid 4242)",
            "8 % of the waits were lost",
        ],
        &[],
    );
    let mut nothing_seen = idle();
    nothing_seen.completeness.lost = [("end_not_seen", 1)].into();
    nothing_seen.completeness.seen = 3;
    check(&nothing_seen, &["33 % of the waits were lost"], &[]);
}

#[test]
fn a_target_that_was_gone_at_once_is_no_target_without_waits() {
    let mut view = empty();
    view.targets[0].ended = Some("the process exited during the observation".to_owned());
    check(
        &view,
        &["No wait was seen: what was observed ended within 10.0 s."],
        &["Nothing was blocked"],
    );
}

#[test]
fn a_total_above_the_window_says_whose_it_is() {
    check(&go(), &["21.4 s (all tasks together) in 10.0 s"], &[]);
    let mut short = go();
    short.blocking[0].total_ns = 9_900 * MS;
    check(&short, &["9.90 s in 10.0 s"], &["together"]);
}

#[test]
fn the_same_wait_without_a_stack_is_counted_beside_the_verdict() {
    let mut view = tokio();
    let mut unplaced = view.blocking[1].clone();
    unplaced.site = Known::unknown("no user stack could be taken");
    unplaced.total_ns = 6_000 * MS;
    view.blocking.push(unplaced);
    check(
        &view,
        &[
            "50 % of the time",
            "Another 33 % (6.00 s) is fsync on the same file, at places that are not known.",
        ],
        &["Next"],
    );
}
