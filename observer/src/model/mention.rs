//! References from stacks to channels and locks: who uses them, as far as stacks tell.

/// A frame that refers to something others wait on. It tells who uses a channel although it never
/// waits there. A compiler may leave a word of an earlier call in a frame, so it is evidence and no
/// proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention {
    /// The task.
    pub task: u64,
    /// The channel or mutex.
    pub address: u64,
    /// An instruction in the frame's function.
    pub pc: u64,
    /// What that function's code does with things of that kind.
    pub uses: Uses,
    /// What the frame holds.
    pub how: Reference,
}

/// A frame that refers to a connection: its task may serve it although it does not wait on it now.
/// Evidence as [`Mention`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The task.
    pub task: u64,
    /// The connection's descriptor.
    pub fd: i32,
    /// An instruction in the frame's function.
    pub pc: u64,
    /// What the frame holds: the connection, or an object that holds it.
    pub how: Reference,
}

/// What a frame holds of a thing that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// It is the task itself that is waited for.
    Itself,
    /// A guard of it, among the variables of a parked future: the task holds the lock, unless it gave the
    /// guard back, which leaves its bytes in place.
    Guard,
    /// The other end of the channel, or the connection itself, among the variables of a future: the task has
    /// it, unless it gave it away, which leaves its bytes in place.
    Owned,
    /// Its address.
    Direct,
    /// The address of an object that holds its address.
    Through,
    /// An address shortly before it, which may be that of an object that contains it.
    Near,
}

/// What a function's code calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uses {
    /// It receives from channels.
    pub receives: bool,
    /// It sends to channels.
    pub sends: bool,
    /// It selects among channels: receives, sends, or both.
    pub selects: bool,
    /// It locks or unlocks mutexes.
    pub locks: bool,
}

impl Uses {
    /// Whether it uses anything at all.
    pub fn any(self) -> bool {
        self.receives || self.sends || self.selects || self.locks
    }

    /// Both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            receives: self.receives || other.receives,
            sends: self.sends || other.sends,
            selects: self.selects || other.selects,
            locks: self.locks || other.locks,
        }
    }
}
