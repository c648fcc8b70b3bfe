//! Ways from a word on a stack to a connection, and words that only look like one.

use super::super::fake::{Bytes, record};
use super::*;

const FD: i32 = 7;
const NET_FD: u64 = 0xc0_0000_1000;
const CONN: u64 = 0xc0_0000_2000;
const OBJECT_AT: u64 = 0xc0_0000_3000;
const OTHER_FD: u64 = 0xc0_0000_4000;
const POLL_DESC: u64 = 0x7f00_0000_1000;

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn padded(first: &[u64]) -> Vec<u8> {
    let mut bytes = words(first);
    bytes.resize(256, 0);
    bytes
}

/// `poll.FD` of Go 1.21 and later, with the descriptor that the runtime's record must name.
fn memory() -> Bytes {
    let fd = FD as u64;
    Bytes::new(&[
        (NET_FD, padded(&[0, 0, fd, 0, POLL_DESC])),
        (CONN, padded(&[NET_FD])),
        (OBJECT_AT, padded(&[1, 2, 0x50_0000, CONN])),
        // The same number where the descriptor would be, and another one in the runtime's record.
        (OTHER_FD, padded(&[0, 0, fd, 0, POLL_DESC + 64])),
        (POLL_DESC, words(&[0, fd])),
        (POLL_DESC + 64, words(&[0, 9])),
    ])
}

fn view(bytes: &[u8], pc: u64, role: Role) -> FrameView<'_> {
    FrameView {
        role,
        pc,
        uses: crate::model::census::Uses::default(),
        bytes,
    }
}

fn found(conns: &mut Conns, frames: &[(u32, u64, u64, Role)], records: &[Record]) -> Vec<Holder> {
    conns.begin();
    conns.clear();
    for (task, word, pc, role) in frames {
        let bytes = words(&[3, *word]);
        conns.visit(*task, &records[*task as usize], &view(&bytes, *pc, *role));
    }
    conns
        .resolve(&memory(), &mut Gather::default(), records)
        .unwrap();
    let mut out = Vec::new();
    conns.emit(records, &mut out);
    out
}

#[test]
fn a_frame_leads_to_a_connection_in_up_to_three_steps() {
    let records = [1, 2, 3, 4, 5].map(record);
    let frames = [
        (0, NET_FD, 0x10, Role::Plain),
        (1, CONN, 0x20, Role::Plain),
        (2, OBJECT_AT, 0x30, Role::Plain),
        (3, OTHER_FD, 0x40, Role::Plain),
        (4, 0xdead_0000, 0x50, Role::Plain),
    ];
    let mut conns = Conns::new(26);
    assert!(found(&mut conns, &frames, &records).is_empty());
    conns.watch(&[FD]);
    let out = found(&mut conns, &frames, &records);
    let known: Vec<_> = out.iter().map(|h| (h.task, h.fd, h.pc, h.how)).collect();
    let expected = [
        (1, FD, 0x10, Reference::Direct),
        (2, FD, 0x20, Reference::Direct),
        (3, FD, 0x30, Reference::Through),
    ];
    assert_eq!(known, expected);
    // Before Go 1.21 the runtime's record is one word earlier: nothing fits.
    let mut conns = Conns::new(20);
    conns.watch(&[FD]);
    assert!(found(&mut conns, &frames, &records).is_empty());
}

#[test]
fn the_outermost_function_names_the_task_and_not_a_wrapper() {
    let records = [record(1)];
    let frames = [
        (0, CONN, 0x10, Role::Plain),
        (0, CONN, 0x20, Role::Plain),
        (0, CONN, 0x30, Role::Wrapper),
        (0, CONN, 0x40, Role::Bottom),
    ];
    let mut conns = Conns::new(26);
    conns.watch(&[FD]);
    let out = found(&mut conns, &frames, &records);
    let pcs: Vec<_> = out.iter().map(|h| h.pc).collect();
    assert_eq!(pcs, [0x20]);
}

#[test]
fn what_was_found_on_a_parked_stack_is_kept_and_a_cut_search_is_done_again() {
    let records = [record(1)];
    let mut conns = Conns::new(26);
    conns.watch(&[FD]);
    let number = conns.watch_number();
    assert_eq!(
        found(&mut conns, &[(0, CONN, 0x10, Role::Plain)], &records).len(),
        1
    );
    assert_eq!(conns.searched(0), Some(number));
    conns.begin();
    conns.clear();
    conns.known(0, records[0].g);
    let mut out = Vec::new();
    conns.emit(&records, &mut out);
    assert_eq!(out.len(), 1);
    conns.begin();
    conns.clear();
    conns.words_left = 0;
    conns.visit(0, &records[0], &view(&words(&[CONN]), 0x10, Role::Plain));
    assert_eq!(conns.searched(0), None);
    conns.watch(&[FD, FD + 1]);
    assert_ne!(conns.watch_number(), number);
}
