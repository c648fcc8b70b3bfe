//! Interned stacks: a stack is kept once, however often it was seen.

use std::collections::HashMap;
use std::rc::Rc;

use super::ids::Pid;
use super::known::Reason;

/// A stack in a [`StackTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

/// Addresses of one stack and whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawStack {
    /// The process; `None` for kernel stacks.
    pub pid: Option<Pid>,
    /// Instruction pointer first, then return addresses.
    pub addresses: Rc<[u64]>,
    /// Why the stack ends early, when it does.
    pub cut: Option<Reason>,
    /// Before which address frames are missing, and why, when some are.
    pub gap: Option<(u32, Reason)>,
}

/// All stacks of a session.
#[derive(Debug, Default)]
pub struct StackTable {
    stacks: Vec<RawStack>,
    ids: HashMap<RawStack, StackId>,
}

impl StackTable {
    /// Interns a stack. Allocates only when it was not seen before.
    pub fn intern(&mut self, stack: RawStack) -> StackId {
        if let Some(id) = self.ids.get(&stack) {
            return *id;
        }
        let id = StackId(self.stacks.len() as u32);
        self.stacks.push(stack.clone());
        self.ids.insert(stack, id);
        id
    }

    /// A stack that was interned here.
    pub fn get(&self, id: StackId) -> Option<&RawStack> {
        self.stacks.get(id.0 as usize)
    }

    /// The ids of all stacks.
    pub fn ids(&self) -> impl Iterator<Item = StackId> + use<> {
        (0..self.stacks.len() as u32).map(StackId)
    }

    /// How many different stacks there are.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }
}
