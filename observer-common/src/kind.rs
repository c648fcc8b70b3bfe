//! Record kinds: explicit numbers with gaps, so that families can grow.

/// What a record is.
#[repr(u16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::events::wait::WaitRecord`]: a wait that ended and was longer than the threshold.
    Wait = 1,
    /// [`crate::events::user_stack::UserStackRecord`]: registers and a piece of a user stack.
    UserStack = 2,
    /// [`crate::events::user_stack::UserStackHead`]: a thread of a target was on a CPU at a tick of
    /// the sampling clock.
    CpuSample = 3,
    /// [`crate::events::user_stack::UserStackRecord`]: the same with a piece of its stack.
    CpuStack = 4,
    /// [`crate::events::hold::HoldRecord`]: a poll kept its worker on a CPU for long.
    Hold = 5,
    /// [`crate::events::process::ProcessRecord`]: a target called exec.
    Exec = 20,
    /// [`crate::events::process::ProcessRecord`]: a target's main thread exited.
    Exit = 21,
    /// [`crate::events::process::ProcessRecord`]: a target made a child process.
    Fork = 22,
    /// [`crate::events::poll::PollRecord`]: a long poll of a tokio task.
    Poll = 50,
    /// [`crate::events::poll::DelayRecord`]: a long delay from wake-up to poll.
    Delay = 51,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        match raw {
            1 => Some(Self::Wait),
            2 => Some(Self::UserStack),
            3 => Some(Self::CpuSample),
            4 => Some(Self::CpuStack),
            5 => Some(Self::Hold),
            20 => Some(Self::Exec),
            21 => Some(Self::Exit),
            22 => Some(Self::Fork),
            50 => Some(Self::Poll),
            51 => Some(Self::Delay),
            _ => None,
        }
    }
}
