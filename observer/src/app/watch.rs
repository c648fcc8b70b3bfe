//! Things to wait for beside records: deadlines, the end of processes, the kernel side's own log.

use std::time::Instant;

use crate::model::Pid;
use crate::probes::attach::Kernel;

/// Forwards the kernel side's own diagnostics to our log, as they come.
pub fn forward_kernel_log(kernel: &mut Kernel) {
    let logger = match kernel.logger() {
        Ok(logger) => logger,
        Err(reason) => {
            tracing::warn!(%reason, "the kernel side's log can not be read");
            return;
        }
    };
    tokio::spawn(async move {
        // SAFETY: the logger owns its ring buffer's descriptor, open until both are dropped.
        let watched = unsafe {
            tokio::io::unix::AsyncFd::register_with_interest(logger, tokio::io::Interest::READABLE)
        };
        let Ok(mut watched) = watched else { return };
        while let Ok(mut guard) = watched.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
}

/// Completes at a deadline; never without one.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Reports the exit of a process through the channel, once.
pub fn watch_exit(pid: Pid, sender: tokio::sync::mpsc::UnboundedSender<Pid>) {
    tokio::spawn(async move {
        if let Ok(fd) = crate::sys::pidfd::open(pid) {
            // SAFETY: the descriptor is owned and stays open until both are dropped.
            let watched = unsafe {
                tokio::io::unix::AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE)
            };
            if let Ok(watched) = watched {
                let _ready = watched.readable().await.is_ok();
            }
        }
        // Nobody listens any more when the session is over: then it does not matter.
        let _closed = sender.send(pid).is_err();
    });
}
