//! System calls one by one, and waits for the network that are seen by them: the tier `syscalls`.

use crate::pod;
use crate::task::Task;

/// The first argument is a descriptor or a futex address.
pub const ROLE_SUBJECT: u8 = 1;
/// Reads from the descriptor in its first argument (accepting counts).
pub const ROLE_READS: u8 = 2;
/// Writes to the descriptor in its first argument.
pub const ROLE_WRITES: u8 = 4;
/// Begins a connection: answered later, with the descriptor becoming writable.
pub const ROLE_CONNECTS: u8 = 8;
/// Asks how a connection went.
pub const ROLE_ASKS: u8 = 16;
/// Closes the descriptor in its first argument.
pub const ROLE_CLOSES: u8 = 32;

/// The first argument is a path.
pub const ROLE_PATH_FIRST: u8 = 64;
/// The second argument is a path.
pub const ROLE_PATH_SECOND: u8 = 128;

/// The last system call of a thread: keyed by thread id, kept while the thread lives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SyscallOpen {
    /// When it was entered; 0: it has returned.
    pub start: u64,
    /// Its first argument.
    pub subject: u64,
    /// Process.
    pub tgid: u32,
    /// Number.
    pub nr: i32,
}

const _: () = assert!(size_of::<SyscallOpen>() == 24);
pod!(SyscallOpen);

/// What system calls are summed by; the sums are [`crate::events::wait::WaitSum`]s.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SyscallKey {
    /// Who called.
    pub task: Task,
    /// Process.
    pub tgid: u32,
    /// Number.
    pub nr: i32,
    /// Generation of the aggregates.
    pub epoch: u32,
    /// The error that was returned, positive; 0: it succeeded.
    pub errno: u32,
}

const _: () = assert!(size_of::<SyscallKey>() == 32);
pod!(SyscallKey);

/// Direction of a wait: for something to read.
pub const NET_READS: u32 = 0;
/// Direction of a wait: for room to write, or for a connection.
pub const NET_WRITES: u32 = 1;

/// A descriptor that was not ready: key of the open waits.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetOpenKey {
    /// Process.
    pub tgid: u32,
    /// Descriptor.
    pub fd: i32,
    /// `NET_*`.
    pub direction: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<NetOpenKey>() == 16);
pod!(NetOpenKey);

/// Who found the descriptor not ready.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct NetOpen {
    /// When.
    pub start: u64,
    /// Who.
    pub task: Task,
    /// In which system call.
    pub nr: i32,
    /// User stack, or `NO_STACK`.
    pub user_stack: i32,
}

const _: () = assert!(size_of::<NetOpen>() == 32);
pod!(NetOpen);

/// What waits for the network are summed by; the sums are [`crate::events::wait::WaitSum`]s.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetKey {
    /// Who waited.
    pub task: Task,
    /// Process.
    pub tgid: u32,
    /// Descriptor.
    pub fd: i32,
    /// In which system call it was found not ready.
    pub nr: i32,
    /// User stack, or `NO_STACK`.
    pub user_stack: i32,
    /// Generation of the aggregates.
    pub epoch: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<NetKey>() == 40);
pod!(NetKey);
