//! Field offsets of classic tracepoints, from tracefs.

use std::fs;
use std::path::Path;

use crate::model::Reason;

/// Where tracefs is mounted.
const ROOTS: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The offsets that kernel programs on classic tracepoints need, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracepointFormats {
    /// `sched_switch.next_pid`.
    pub switch_next_pid: Option<u32>,
    /// `sched_switch.prev_state`.
    pub switch_prev_state: Option<u32>,
    /// `sched_waking.pid`.
    pub wakeup_pid: Option<u32>,
}

impl TracepointFormats {
    /// Reads them.
    ///
    /// # Errors
    /// When tracefs is not mounted or may not be read: classic tracepoints can not be used then.
    pub fn read() -> Result<Self, Reason> {
        let root = ROOTS
            .iter()
            .map(Path::new)
            .find(|root| root.join("events/sched").is_dir())
            .ok_or(Reason::new(
                "tracefs is not mounted or not readable (mount -t tracefs none /sys/kernel/tracing)",
            ))?;
        let format = |event: &str| {
            fs::read_to_string(root.join("events/sched").join(event).join("format"))
                .map_err(|e| Reason::with(format!("tracefs: {event}: {e}")))
        };
        let switch = format("sched_switch")?;
        let waking = format("sched_waking")?;
        let formats = Self {
            switch_next_pid: field(&switch, "next_pid"),
            switch_prev_state: field(&switch, "prev_state"),
            wakeup_pid: field(&waking, "pid"),
        };
        if formats.switch_next_pid.is_none() || formats.switch_prev_state.is_none() {
            return Err(Reason::new(
                "the format of tracepoint sched_switch is not understood",
            ));
        }
        Ok(formats)
    }
}

/// The offset of a field in a format file: `field:pid_t next_pid;\toffset:56;\tsize:4;...`.
fn field(format: &str, name: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';');
        let declared = parts.next()?.strip_prefix("field:")?;
        if declared.split_whitespace().last()? != name {
            return None;
        }
        parts.next()?.trim().strip_prefix("offset:")?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_from_a_format_file() {
        let text = "name: sched_switch\nID: 1\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\tfield:pid_t next_pid;\toffset:56;\tsize:4;\tsigned:1;\n";
        assert_eq!(field(text, "next_pid"), Some(56));
        assert_eq!(field(text, "pid"), None);
        assert_eq!(field("rubbish;;offset", "x"), None);
    }
}
