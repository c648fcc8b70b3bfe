//! Samples a target's own list of tasks, on a thread of its own, so that records are never held up.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::session::Session;
use super::target::Target;
use crate::aggregate::census::CensusLedger;
use crate::model::connection::Socket;
use crate::model::{Known, Mono, Pid, Reason};
use crate::runtimes::TaskCensus;
use crate::sys::memory::ProcessMemory;
use crate::sys::usage;

/// Between two samples at least, on average.
const FASTEST: Duration = Duration::from_millis(100);
/// A sample may cost one in so many of the time until the next: 1 % of one CPU.
const BUDGET: u32 = 100;
/// Between the first and the second sample at most: two are needed to know what lasts.
const FIRST: Duration = Duration::from_secs(1);
/// Samples that are taken at once because of new connections; later ones wait until a sample is due.
const PROMPT: u32 = 4;
/// Descriptors that wait to be looked up.
const MAX_WANTED: usize = 256;

/// Samples one target until it is finished or the list can not be read any more.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Box<dyn TaskCensus>>>,
}

#[derive(Debug, Default)]
struct Shared {
    signal: Mutex<Signal>,
    signalled: Condvar,
    found: Mutex<Found>,
    /// Connections whose users are to be looked for.
    connections: Mutex<Vec<Socket>>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Signal {
    stop: bool,
    /// Not to wait until the next sample is due.
    now: bool,
    /// How often it was told so.
    times: u32,
}

#[derive(Debug, Default)]
struct Found {
    ledger: CensusLedger,
    ended: Option<Reason>,
    /// Why the last sample could not be taken, when that may change.
    not_now: Option<Reason>,
    wanted: HashSet<i32>,
}

/// What a sampler has found.
#[derive(Debug, Default)]
pub struct Sampled {
    /// The samples, folded.
    pub ledger: CensusLedger,
    /// Why sampling ended before it was told to, or why there is no sample.
    pub ended: Option<Reason>,
    /// What took the samples: it knows what its own words mean.
    pub census: Option<RefCell<Box<dyn TaskCensus>>>,
}

/// A lock that a panic of the other side left behind is still good: figures may lack one sample.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sampler {
    /// Starts sampling at once.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(pid: Pid, census: Box<dyn TaskCensus>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("census-{pid}"))
            .spawn(move || sample(&theirs, census, ProcessMemory::new(pid)))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Descriptors that tasks wait on, to be looked up while they are open. Each is given once until
    /// it is wanted anew.
    pub fn wanted(&self) -> Vec<i32> {
        // While a sample is folded in, the next call is soon enough.
        match self.shared.found.try_lock() {
            Ok(mut found) => found.wanted.drain().collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Sets the connections whose users the next samples look for.
    pub fn watch_connections(&self, sockets: &[Socket]) {
        let before = std::mem::replace(&mut *lock(&self.shared.connections), sockets.to_vec());
        let mut signal = lock(&self.shared.signal);
        if sockets.iter().any(|socket| !before.contains(socket)) && signal.times < PROMPT {
            signal.times += 1;
            signal.now = true;
            self.shared.signalled.notify_all();
        }
    }

    /// Tells it to take its last sample; does not wait.
    pub fn stop(&self) {
        lock(&self.shared.signal).stop = true;
        self.shared.signalled.notify_all();
    }

    /// Waits for the last sample and hands over what was found.
    pub fn finish(mut self) -> Sampled {
        self.stop();
        let joined = self.thread.take().map(JoinHandle::join);
        let failed = matches!(joined, Some(Err(_)));
        let mut found = lock(&self.shared.found);
        let mut sampled = Sampled {
            ledger: std::mem::take(&mut found.ledger),
            ended: found.ended.take(),
            census: joined.and_then(Result::ok).map(RefCell::new),
        };
        if sampled.ledger.samples() == 0 {
            sampled.ended = sampled.ended.or(found.not_now.take());
        }
        if failed {
            let reason = Reason::new("reading the task list failed in observer itself");
            sampled.ended.get_or_insert(reason);
        }
        sampled
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop();
    }
}

fn sample(
    shared: &Shared,
    mut census: Box<dyn TaskCensus>,
    memory: ProcessMemory,
) -> Box<dyn TaskCensus> {
    let mut number = 0_u32;
    loop {
        // One last sample after the stop, so that what is told last is how things ended.
        let last = lock(&shared.signal).stop;
        look_for_connections(shared, census.as_mut());
        let (started, cpu) = (Instant::now(), usage::thread_cpu());
        match census.take(&memory, Mono(usage::monotonic_ns())) {
            Ok(Known::Known(mut taken)) => {
                let mut found = lock(&shared.found);
                found.ledger.add(&mut taken);
                let room = MAX_WANTED.saturating_sub(found.wanted.len());
                let fds: Vec<i32> = found.ledger.descriptors().take(room).collect();
                found.wanted.extend(fds);
                census.watch(&found.ledger.to_watch());
            }
            Ok(Known::Unknown(reason)) => lock(&shared.found).not_now = Some(reason),
            Err(reason) => {
                lock(&shared.found).ended = Some(reason);
                return census;
            }
        }
        // CPU time, because on a busy machine the clock says more than the sample costs.
        let cost = usage::thread_cpu()
            .zip(cpu)
            .map_or(started.elapsed(), |(now, before)| {
                now.saturating_sub(before)
            });
        lock(&shared.found).ledger.add_cpu(cost.as_nanos() as u64);
        if last {
            return census;
        }
        number += 1;
        let mut pause = FASTEST.max(cost.saturating_mul(BUDGET));
        if number == 1 {
            pause = pause.min(FIRST);
        }
        wait(shared, started + irregular(pause));
    }
}

/// A pause of this length on average: what happens at a fixed pace would else be seen in the same place
/// each time.
fn irregular(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

/// Sets the connections that the next sample looks for.
fn look_for_connections(shared: &Shared, census: &mut dyn TaskCensus) {
    let sockets = lock(&shared.connections).clone();
    let at_most = census.connections_at_most();
    let fds: Vec<i32> = sockets.iter().map(|s| s.fd).take(at_most).collect();
    census.watch_connections(&fds);
    let mut found = lock(&shared.found);
    found.ledger.watch_connections(&sockets, at_most);
}

/// Waits until then, or until it is told to go on.
fn wait(shared: &Shared, until: Instant) {
    let mut signal = lock(&shared.signal);
    while !signal.stop && !std::mem::take(&mut signal.now) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        signal = shared
            .signalled
            .wait_timeout(signal, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

impl Session {
    /// Starts to sample a target's own list of tasks, when its runtime keeps one.
    pub(super) fn start_census(&mut self, index: usize) {
        let Some(target) = self.targets.get(index) else {
            return;
        };
        let pid = target.process.id.pid;
        // One that was started for this session still is a copy of observer.
        if self.samplers.contains_key(&pid)
            || target.ended.is_some()
            || self.state.launched == Some(pid)
        {
            return;
        }
        let census = match target.census() {
            Known::Known(census) => census,
            Known::Unknown(reason) => {
                // Said with the target when it is the reason why no task is told apart.
                tracing::debug!(pid = pid.0, %reason, "no census");
                return;
            }
        };
        match Sampler::start(pid, census) {
            Ok(sampler) => drop(self.samplers.insert(pid, sampler)),
            Err(error) => self.state.notes.push(format!(
                "the task list of pid {pid} is not read: no thread for it ({error})"
            )),
        }
    }

    /// Another program runs in the process: its addresses mean nothing in the new one.
    pub(super) fn restart_census(&mut self, pid: Pid) {
        if self.samplers.remove(&pid).is_some() {
            self.state.notes.push(format!(
                "the task list of pid {pid} from before it called exec is left out"
            ));
        }
        if let Some(index) = self.targets.iter().position(|t| t.process.id.pid == pid) {
            self.start_census(index);
        }
    }

    /// Waits for the last samples. What ended early or was left out goes to the notes.
    pub(super) fn finish_censuses(&mut self, notes: &mut Vec<String>) -> HashMap<Pid, Sampled> {
        let censuses: HashMap<Pid, Sampled> = std::mem::take(&mut self.samplers)
            .into_iter()
            .map(|(pid, sampler)| (pid, sampler.finish()))
            .collect();
        for (pid, sampled) in &censuses {
            let exited = |t: &Target| t.process.id.pid == *pid && t.ended.is_some();
            match &sampled.ended {
                Some(reason) if !self.targets.iter().any(exited) => {
                    notes.push(match sampled.ledger.samples() {
                        0 => format!("the task list of pid {pid} was not read: {reason}"),
                        n => format!("the task list of pid {pid} was read {n} times, and then no more: {reason}"),
                    });
                }
                _ => {}
            }
            let mut left_out = sampled.ledger.left_out();
            if let Some(census) = &sampled.census {
                let census = census.borrow();
                self.state.finders.listed(*pid, &census.entries());
                left_out.extend(census.remarks());
            }
            notes.extend(left_out.iter().map(|text| format!("pid {pid}: {text}")));
        }
        censuses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_at_the_pace_of_the_samples_is_seen_at_all_its_stages() {
        let period = FASTEST;
        let (mut at, mut stages) = (Duration::ZERO, [0_u32; 4]);
        for _ in 0..400 {
            at += irregular(FASTEST);
            let stage = at.as_nanos() % period.as_nanos() * 4 / period.as_nanos();
            stages[stage as usize] += 1;
        }
        assert!(stages.iter().all(|n| (50..150).contains(n)), "{stages:?}");
        let mean = at.as_secs_f64() / 400.0 / FASTEST.as_secs_f64();
        assert!((0.9..1.1).contains(&mean), "{mean}");
    }
}
