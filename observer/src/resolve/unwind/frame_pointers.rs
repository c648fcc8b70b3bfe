//! Questions to the unwind tables of one file: is there a rule for an address, and do its functions
//! keep frame pointers?

use std::sync::Arc;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr,
    RegisterRule, UnwindContext, UnwindSection as _, UnwindTable, X86_64,
};

use super::tables::Tables;
use crate::model::Known;
use crate::sys::elf::ElfImage;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Functions asked, spread evenly over the file.
const SAMPLE: usize = 600;
/// Rows of one function looked at.
const MAX_ROWS: usize = 64;
/// The share of functions with a frame that must keep a frame pointer, in percent. Rust's own library
/// is built with frame pointers, so a program without them still has some 30 to 60 %; a program with
/// them may link C code without.
const MIN_SHARE: usize = 90;
/// Fewer functions with a frame than this say nothing.
const MIN_JUDGED: usize = 8;

struct View<'a> {
    bases: BaseAddresses,
    header: ParsedEhFrameHdr<Slice<'a>>,
    frames: EhFrame<Slice<'a>>,
}

fn view(tables: &Tables) -> Option<View<'_>> {
    let bases = BaseAddresses::default()
        .set_eh_frame_hdr(tables.header.0)
        .set_eh_frame(tables.frames.0);
    let header = EhFrameHdr::new(&tables.header.1, LittleEndian)
        .parse(&bases, 8)
        .ok()?;
    let frames = EhFrame::new(&tables.frames.1, LittleEndian);
    Some(View {
        bases,
        header,
        frames,
    })
}

/// How the caller's frame is found from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameRule {
    /// No table covers the address.
    Missing,
    /// The tables say that nothing called this code: the stack's end.
    End,
    /// From the frame pointer register.
    ByFramePointer,
    /// From the stack pointer, or an expression.
    Other,
}

/// The rule for `address` (as in the file).
pub(super) fn frame_rule(tables: &Tables, address: u64) -> FrameRule {
    let Some(View {
        bases,
        header,
        frames,
    }) = view(tables)
    else {
        return FrameRule::Missing;
    };
    let Some(table) = header.table() else {
        return FrameRule::Missing;
    };
    let mut context = UnwindContext::new();
    let row = table.unwind_info_for_address(
        &frames,
        &bases,
        &mut context,
        address,
        EhFrame::cie_from_offset,
    );
    let Ok(row) = row else {
        return FrameRule::Missing;
    };
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return FrameRule::End;
    }
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, .. } if *register == X86_64::RBP => {
            FrameRule::ByFramePointer
        }
        _ => FrameRule::Other,
    }
}

/// Which code of a file its unwind tables cover.
#[derive(Debug)]
pub struct Coverage(Tables);

impl Coverage {
    /// Reads the tables' places; `None` when the file has none.
    pub fn read(image: Arc<ElfImage>) -> Option<Self> {
        Tables::read(image).ok().map(Self)
    }

    /// Whether there is a rule for `address` (as in the file). Compilers write one for all their code; musl
    /// and hand-written assembly have none.
    pub fn has(&self, address: u64) -> bool {
        frame_rule(&self.0, address) != FrameRule::Missing
    }
}

/// Whether the functions of an executable keep frame pointers: then the kernel can walk its stacks.
/// Judged on at most 600 functions: in one with a frame, does the frame's address come from `rbp`?
pub fn has_frame_pointers(image: &Arc<ElfImage>) -> Known<bool> {
    let judged = Tables::read(Arc::clone(image)).map(|tables| count(&tables));
    match judged {
        Err(reason) => Known::Unknown(reason),
        Ok((with, without)) if with + without < MIN_JUDGED => {
            Known::unknown("too few functions with a frame to judge frame pointers")
        }
        Ok((with, without)) => Known::Known(with * 100 >= (with + without) * MIN_SHARE),
    }
}

/// Functions whose frame address comes from `rbp`, and those with a frame but without that.
fn count(tables: &Tables) -> (usize, usize) {
    let (mut with, mut without) = (0, 0);
    let Some(View {
        bases,
        header,
        frames,
    }) = view(tables)
    else {
        return (0, 0);
    };
    let Some(table) = header.table() else {
        return (0, 0);
    };
    let mut context = UnwindContext::new();
    let mut cies = std::collections::HashMap::new();
    // The number of entries is in the header, 8 bytes in (see `tables::locate`).
    let total = tables
        .header
        .1
        .get(8..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u32::from_le_bytes(*b) as usize)
        .min(tables.header.1.len() / 8);
    let step = (total / SAMPLE).max(1);
    let mut entries = table.iter(&bases);
    for index in (0..total).step_by(step) {
        let Ok(Some((_, pointer))) = entries.nth(if index == 0 { 0 } else { step - 1 }) else {
            break;
        };
        let Ok(offset) = table.pointer_to_offset(pointer) else {
            continue;
        };
        let fde = frames.fde_from_offset(&bases, offset, |section, bases, offset| {
            if let Some(known) = cies.get(&offset) {
                return Ok::<gimli::CommonInformationEntry<Slice<'_>>, gimli::Error>(Clone::clone(
                    known,
                ));
            }
            let cie = section.cie_from_offset(bases, offset)?;
            if cies.len() < 64 {
                cies.insert(offset, cie.clone());
            }
            Ok(cie)
        });
        let Ok(fde) = fde else {
            continue;
        };
        let Ok(rows) = fde.rows(&frames, &bases, &mut context) else {
            continue;
        };
        match judge(rows) {
            Some(true) => with += 1,
            Some(false) => without += 1,
            None => {}
        }
    }
    (with, without)
}

/// `Some(true)`: the frame is found by `rbp`; `Some(false)`: by `rsp`; `None`: there is no frame.
fn judge(mut rows: UnwindTable<'_, '_, Slice<'_>>) -> Option<bool> {
    let mut has_frame = false;
    for _ in 0..MAX_ROWS {
        let Ok(Some(row)) = rows.next_row() else {
            break;
        };
        if let CfaRule::RegisterAndOffset { register, offset } = row.cfa() {
            if *register == X86_64::RBP {
                return Some(true);
            }
            // 8 is the return address alone; one push more happens before a frame pointer is set.
            has_frame |= *offset > 16;
        }
    }
    has_frame.then_some(false)
}
