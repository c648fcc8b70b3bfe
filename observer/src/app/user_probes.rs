//! Probes in targets' own code: put in, counted, taken out when they are hit too often, and the
//! times for which each target was observed exactly.

use std::path::PathBuf;
use std::time::Duration;

use observer_common::user_probes::cookie;

use super::rate_guard::RateGuard;
use crate::model::{Known, Mono, Pid, Reason};
use crate::probes::attach::Kernel;
use crate::probes::spec::{CodeProbe, Need};
use crate::probes::user_maps::UserMaps;
use crate::probes::user_probe::{UserLink, UserProbe};

/// Why a target was not observed exactly any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyEnded {
    /// The observation ended.
    Session,
    /// Its probes were hit more often than they may be: hits per second seen, and allowed.
    TooOften {
        /// Seen.
        rate: u64,
        /// Allowed.
        budget: u64,
    },
    /// The process called exec.
    Exec,
    /// The process ended.
    Exited,
}

/// The probes that go first were taken out, and the others left in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lighter {
    /// When.
    pub at: Mono,
    /// Hits per second of all probes that were seen then.
    pub rate: u64,
    /// Hits per second that are allowed.
    pub budget: u64,
}

/// What the guard has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All probes are out.
    All(ExactWindow),
    /// Only those of a process that go first.
    First(Pid, Lighter),
}

/// A time for which every hit of a target's probes was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactWindow {
    /// The process.
    pub pid: Pid,
    /// The attachment: what the kernel side's tables are kept by.
    pub slot: u32,
    /// When the last probe was in.
    pub from: Mono,
    /// When the first was taken out.
    pub to: Mono,
    /// Hits.
    pub hits: u64,
    /// Why it ended.
    pub why: WhyEnded,
    /// From when on the probes that go first were missing.
    pub lighter: Option<Lighter>,
}

/// One attachment.
#[derive(Debug)]
struct Attached {
    pid: Pid,
    slot: u32,
    from: Mono,
    links: Vec<UserLink>,
    /// Of the probes that go first.
    first_out: Vec<UserLink>,
    lighter: Option<Lighter>,
    guard: RateGuard,
}

/// The probes of all targets.
#[derive(Debug)]
pub struct UserProbes {
    maps: UserMaps,
    budget: u64,
    attached: Vec<Attached>,
    windows: Vec<ExactWindow>,
}

impl UserProbes {
    /// None yet. `budget`: hits per second above which those of a target are taken out.
    pub fn new(maps: UserMaps, budget: u64) -> Self {
        Self {
            maps,
            budget,
            attached: Vec::new(),
            windows: Vec::new(),
        }
    }

    /// Hits per second that a target's probes may have.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Puts probes into a process: all that are required, and those of the others that can be had.
    /// `prepare` fills what the programs need to know of the slot, before the first hit. What is
    /// lost for want of an optional probe is added to `notes`.
    ///
    /// # Errors
    /// When a required probe has no place or the kernel refuses it: then none is left in.
    pub fn attach(
        &mut self,
        kernel: &mut Kernel,
        pid: Pid,
        probes: &[CodeProbe],
        prepare: impl FnOnce(u32) -> Result<(), Reason>,
        notes: &mut Vec<String>,
    ) -> Result<u32, Reason> {
        let slot = self.maps.open(pid)?;
        let mut links = Vec::new();
        let mut first_out = Vec::new();
        let attach_all = || {
            prepare(slot)?;
            for probe in probes {
                match place(kernel, pid, slot, probe) {
                    Ok(link) if probe.first_out => first_out.push(link),
                    Ok(link) => links.push(link),
                    Err(reason) => {
                        let why = format!("no probe in {}: {reason}", probe.name);
                        match probe.need {
                            Need::Required => return Err(Reason::with(why)),
                            Need::Optional(lost) => {
                                notes.push(format!("pid {pid}: {lost} ({why})"));
                            }
                        }
                    }
                }
            }
            Ok(())
        };
        let result = attach_all();
        let now = now();
        if let Err(reason) = result {
            take_out(kernel, links);
            take_out(kernel, first_out);
            self.maps.close(pid, slot);
            return Err(reason);
        }
        self.attached.push(Attached {
            pid,
            slot,
            from: now,
            links,
            first_out,
            lighter: None,
            guard: RateGuard::new(self.budget, Duration::from_nanos(now.0)),
        });
        Ok(slot)
    }

    /// Looks at the rates: probes that are hit too often are taken out. Returns what was.
    pub fn check(&mut self, kernel: &mut Kernel) -> Vec<Taken> {
        let mut taken = Vec::new();
        let mut at = 0;
        while at < self.attached.len() {
            let one = &mut self.attached[at];
            let hits = self.maps.hits(one.slot);
            match one.guard.check(Duration::from_nanos(now().0), hits) {
                Ok(()) => at += 1,
                // What goes first is hit at most as often as the others: without it half may be left.
                Err(exceeded)
                    if !one.first_out.is_empty() && exceeded.rate / 2 <= exceeded.budget =>
                {
                    let lighter = Lighter {
                        at: now(),
                        rate: exceeded.rate,
                        budget: exceeded.budget,
                    };
                    one.lighter = Some(lighter);
                    take_out(kernel, std::mem::take(&mut one.first_out));
                    one.guard
                        .restart(Duration::from_nanos(now().0), self.maps.hits(one.slot));
                    taken.push(Taken::First(one.pid, lighter));
                    at += 1;
                }
                Err(exceeded) => {
                    let why = WhyEnded::TooOften {
                        rate: exceeded.rate,
                        budget: exceeded.budget,
                    };
                    taken.push(Taken::All(self.end(kernel, at, why)));
                }
            }
        }
        taken
    }

    /// Takes the probes of a process out, if it has any.
    pub fn end_of(&mut self, kernel: &mut Kernel, pid: Pid, why: WhyEnded) {
        while let Some(at) = self.attached.iter().position(|one| one.pid == pid) {
            self.end(kernel, at, why);
        }
    }

    /// Takes all probes out.
    pub fn end_all(&mut self, kernel: &mut Kernel) {
        while !self.attached.is_empty() {
            self.end(kernel, 0, WhyEnded::Session);
        }
    }

    fn end(&mut self, kernel: &mut Kernel, at: usize, why: WhyEnded) -> ExactWindow {
        let one = self.attached.swap_remove(at);
        let to = now();
        self.maps.close(one.pid, one.slot);
        take_out(kernel, one.links);
        take_out(kernel, one.first_out);
        let window = ExactWindow {
            pid: one.pid,
            slot: one.slot,
            from: one.from,
            to,
            hits: self.maps.hits(one.slot),
            why,
            lighter: one.lighter,
        };
        self.windows.push(window);
        window
    }

    /// The times that have ended, in that order.
    pub fn windows(&self) -> &[ExactWindow] {
        &self.windows
    }
}

fn now() -> Mono {
    Mono(crate::sys::usage::monotonic_ns())
}

fn place(kernel: &mut Kernel, pid: Pid, slot: u32, probe: &CodeProbe) -> Result<UserLink, Reason> {
    let site = match &probe.site {
        Known::Known(site) => site.clone(),
        Known::Unknown(reason) => return Err(reason.clone()),
    };
    kernel.attach_user(&UserProbe {
        program: probe.program,
        pid,
        file: PathBuf::from(format!("/proc/{pid}/exe")),
        site,
        cookie: cookie(slot, probe.data),
    })
}

fn take_out(kernel: &mut Kernel, links: Vec<UserLink>) {
    for link in links {
        if let Err(error) = kernel.detach_user(link) {
            tracing::warn!(%error, "a probe could not be taken out; it goes when observer ends");
        }
    }
}
