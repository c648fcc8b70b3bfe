//! Placeholder until the unwinder is merged.
use crate::model::{Known, Reason};
use crate::sys::elf::ElfImage;
/// Registers.
#[derive(Debug, Clone, Copy)]
pub struct Regs {
    /// ip
    pub ip: u64,
    /// sp
    pub sp: u64,
    /// bp
    pub bp: Option<u64>,
}
/// Result.
#[derive(Debug)]
pub struct Unwound {
    /// frames
    pub frames: Vec<u64>,
    /// why cut
    pub truncated: Option<Reason>,
}
/// Unwinder.
#[derive(Debug)]
pub struct Unwinder;
impl Unwinder {
    /// New.
    pub fn new(_pid: crate::model::Pid) -> Result<Self, Reason> {
        Ok(Self)
    }
    /// Unwinds.
    pub fn unwind(&mut self, regs: Regs, _stack: &[u8], _max: usize) -> Unwound {
        Unwound {
            frames: vec![regs.ip],
            truncated: Some(Reason::new("no unwinder yet")),
        }
    }
}
/// Whether frame pointers are there.
pub fn has_frame_pointers(_elf: &ElfImage) -> Known<bool> {
    Known::unknown("no unwinder yet")
}
