//! Made-up rows for `ps` and `doctor`.

use observer::model::doctor::{Check, Diagnosis, Status};
use observer::model::ps::{ProcessRow, Sees};
use observer::model::{Known, Reason};

pub fn processes() -> Vec<ProcessRow> {
    let row = |pid, comm: &str, runtime, version: Known<String>, stripped, sees| ProcessRow {
        pid,
        start_time: 8_000 + u64::from(pid),
        comm: comm.to_owned(),
        exe: Known::Known(format!("/usr/bin/{comm}")),
        runtime: Known::Known(runtime),
        version,
        stripped: Known::Known(stripped),
        threads: 14,
        sees,
        limits: Vec::new(),
    };
    let frames = Reason::new("no frame pointers: stacks are cut after the first library frame");
    let mut tokio = row(
        5151,
        "demo-app",
        "tokio",
        Known::Known("1.54.1".to_owned()),
        true,
        Sees::TokioTasks,
    );
    tokio.limits = vec![frames.clone()];
    let mut unknown_go = row(
        6001,
        "new-server",
        "go",
        Known::Known("1.31.0".to_owned()),
        false,
        Sees::Threads,
    );
    unknown_go.limits = vec![Reason::new(
        "Go 1.31 is not in the tables and the self-check of the offsets failed: threads only",
    )];
    let mut native = row(
        7001,
        "postgres\u{1b}[31m with a very long name",
        "native",
        Known::unknown("a native program"),
        true,
        Sees::Threads,
    );
    native.limits = vec![frames];
    let denied = "no permission to read /proc/1/exe: run as root or grant CAP_SYS_PTRACE";
    vec![
        ProcessRow {
            pid: 1,
            start_time: 3,
            comm: "systemd".to_owned(),
            exe: Known::unknown(denied),
            runtime: Known::unknown(denied),
            version: Known::unknown(denied),
            stripped: Known::unknown(denied),
            threads: 1,
            sees: Sees::Nothing,
            limits: vec![Reason::new(denied)],
        },
        row(
            4242,
            "server",
            "go",
            Known::Known("1.26.2".to_owned()),
            false,
            Sees::Goroutines,
        ),
        tokio,
        unknown_go,
        native,
    ]
}

fn check(group: &'static str, name: &str, found: &str) -> Check {
    Check {
        group,
        name: name.to_owned(),
        status: Status::Ok,
        needed: true,
        found: Some(found.to_owned()),
        why: None,
        cure: None,
    }
}

fn failed(group: &'static str, name: &str, status: Status, why: &'static str, cure: &str) -> Check {
    Check {
        group,
        name: name.to_owned(),
        status,
        needed: false,
        found: None,
        why: Some(Reason::new(why)),
        cure: Some(cure.to_owned()),
    }
}

pub fn diagnosis() -> Diagnosis {
    let host = super::empty().host;
    let mut fallback = failed(
        "probe",
        "sched_switch",
        Status::Degraded,
        "the kernel has no BTF tracepoints; the raw tracepoint is used instead",
        "nothing: only the seeding of waits that began before is coarser",
    );
    fallback.found = Some("raw tracepoint".to_owned());
    Diagnosis {
        host,
        version: "0.1.0".to_owned(),
        pid: Some(4242),
        checks: vec![
            check("kernel", "BTF", "/sys/kernel/btf/vmlinux, 5.2 MB"),
            check("kernel", "lockdown", "none"),
            check("permission", "CAP_BPF", "effective"),
            check("permission", "CAP_PERFMON", "effective"),
            fallback,
            check("probe", "sched_wakeup", "tp_btf"),
            failed(
                "tier",
                "kernel",
                Status::Missing,
                "this kernel has no kprobes (CONFIG_KPROBES is off) and refuses fentry with EPERM, so \
                 the kernel's own waits can not be timed one by one",
                "use a kernel with CONFIG_KPROBES=y, or do without: the default tier does not need it",
            ),
            check("target", "runtime", "go 1.26.2, offsets self-checked"),
        ],
    }
}

pub fn unusable() -> Diagnosis {
    let mut diagnosis = diagnosis();
    let mut bpf = failed(
        "permission",
        "CAP_BPF",
        Status::Missing,
        "the process has no capabilities",
        "run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep /usr/local/bin/observer",
    );
    bpf.needed = true;
    diagnosis.checks[2] = bpf;
    diagnosis.pid = None;
    diagnosis
}
