//! The kernel side's own diagnostics (aya-log), silent unless asked for.

/// Logs at level debug. Without a ring buffer there is nothing to log to.
#[cfg(feature = "ring")]
macro_rules! debug {
    ($ctx:expr, $($text:tt)+) => {
        aya_log_ebpf::debug!($ctx, $($text)+)
    };
}

#[cfg(feature = "perf")]
macro_rules! debug {
    ($ctx:expr, $format:literal $(, $value:expr)* $(,)?) => {{
        let _ = ($ctx, $($value),*);
    }};
}
