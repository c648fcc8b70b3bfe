//! One vocabulary of blocking causes for all runtimes.

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Why a task does not run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause { $($(#[$doc])* $name),+ }

        impl Cause {
            /// Every cause, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name used in reports and as a metric label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

causes! {
    /// A lock or condition in user space, waited for by futex.
    Futex = "futex",
    /// Waiting for readiness (epoll, poll, select).
    Epoll = "epoll",
    /// Waiting for a connection to accept.
    Accept = "accept",
    /// Waiting for a connection to be made.
    Connect = "connect",
    /// Waiting for room in a socket's send buffer.
    Send = "send",
    /// Waiting for data on a socket.
    Recv = "recv",
    /// Reading, writing, opening or locking a file.
    FileIo = "file_io",
    /// Waiting for data to reach the disk.
    Fsync = "fsync",
    /// Reading or writing a pipe.
    Pipe = "pipe",
    /// Sleeping on purpose.
    Sleep = "sleep",
    /// Looking up a name.
    Dns = "dns",
    /// Waiting for a page to be read in.
    PageFault = "page_fault",
    /// Ready, but no CPU.
    RunQueue = "run_queue",
    /// A Go channel.
    Channel = "channel",
    /// A Go or tokio mutex.
    Mutex = "mutex",
    /// A Go select.
    Select = "select",
    /// A Go `sync.WaitGroup`.
    WaitGroup = "wait_group",
    /// A condition variable.
    Condition = "condition",
    /// A goroutine parked on the network poller.
    NetWait = "net_wait",
    /// Garbage collection.
    Gc = "gc",
    /// Inside a C call.
    CgoCall = "cgo_call",
    /// A poll that keeps its worker on CPU.
    LongPoll = "long_poll",
    /// A runtime thread with nothing to do.
    Idle = "idle",
    /// None of these.
    Other = "other",
}
