//! Lists of tasks in made-up memory.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::local_sets::{LocalSet, on_stack};
use super::owned::{NOTIFIED, Owned, look};
use super::walk::Walk;
use super::*;

const VTABLE: u64 = 0x5555_0000_0000;
const TRAILER: u64 = 0x100;
const ID: u64 = 0x28;
const HANDLE: u64 = 0x7000_0000_1000;
const LISTS: u64 = 0x7000_0000_9000;

/// Words by address. What is on the same page as a word reads as 0, what is not is not mapped.
#[derive(Debug, Default)]
struct Heap {
    words: RefCell<HashMap<u64, u64>>,
    reads: Cell<usize>,
    /// Changes the memory before a read.
    meddle: Option<fn(&Heap, usize)>,
}

impl Heap {
    fn set(&self, at: u64, word: u64) {
        self.words.borrow_mut().insert(at, word);
    }

    /// A task between two others.
    fn task(&self, at: u64, id: u64, state: u64, (previous, next): (u64, u64)) {
        self.set(at, state);
        self.set(at + 16, VTABLE);
        self.set(at + 24, 1);
        self.set(at + ID, id);
        self.set(at + TRAILER, previous);
        self.set(at + TRAILER + 8, next);
    }

    /// A list of tasks with these ids and states; gives head and tail.
    fn list(&self, tasks: &[(u64, u64)]) -> (u64, u64) {
        let at = |id: u64| 0x7100_0000_0000 + id * 0x1000;
        for (n, &(id, state)) in tasks.iter().enumerate() {
            let near = |n: Option<usize>| n.and_then(|n| tasks.get(n)).map_or(0, |t| at(t.0));
            let links = (near(n.checked_sub(1)), near(Some(n + 1)));
            self.task(at(id), id, state, links);
        }
        let end = |task: Option<&(u64, u64)>| task.map_or(0, |t| at(t.0));
        (end(tasks.first()), end(tasks.last()))
    }

    /// A handle with four lists; task `n` is in list `n % 4`.
    fn sharded(&self, ids: std::ops::Range<u64>, state: u64) {
        self.set(HANDLE, 5);
        self.set(HANDLE + 0x138, LISTS);
        self.set(HANDLE + 0x140, 4);
        self.set(HANDLE + 0x150, 3);
        for number in 0..4 {
            let of: Vec<(u64, u64)> = ids
                .clone()
                .filter(|id| id % 4 == number)
                .map(|id| (id, state))
                .collect();
            let (head, tail) = self.list(&of);
            // The rest of the lock's word is padding, which may hold anything.
            self.set(LISTS + number * 24, 0xdead_be00);
            self.set(LISTS + number * 24 + 8, head);
            self.set(LISTS + number * 24 + 16, tail);
        }
    }

    fn walked(&self, owned: Owned) -> Walk {
        let mut walk = Walk::default();
        walk.run(owned, &forms(), self).unwrap();
        walk
    }
}

impl Memory for Heap {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.set(self.reads.get() + 1);
        if let Some(meddle) = self.meddle {
            meddle(self, self.reads.get());
        }
        let words = self.words.borrow();
        for (at, byte) in (addr..).zip(buf) {
            if !words.keys().any(|word| word & !0xfff == at & !0xfff) {
                return Err(ReadError::Unmapped(at));
            }
            let word = words.get(&(at & !7)).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }
}

fn forms() -> Forms {
    let offsets = TaskOffsets {
        trailer: TRAILER,
        scheduler: 0x20,
        id: ID,
        spawn_location: None,
    };
    Forms(HashMap::from([(VTABLE, (0, offsets))]))
}

fn ids(walk: &Walk) -> Vec<u64> {
    let mut ids: Vec<u64> = walk.tasks.iter().map(|task| task.id).collect();
    ids.sort_unstable();
    ids
}

const SHARDED: Owned = Owned::Sharded {
    lists: LISTS,
    count: 4,
};

#[test]
fn tasks_of_all_lists_are_found_with_their_states() {
    let heap = Heap::default();
    heap.sharded(1..10, 0xc0);
    assert_eq!(look(HANDLE, &forms(), &heap), Ok(Some(SHARDED)));
    let walk = heap.walked(SHARDED);
    assert_eq!(ids(&walk), (1..=9).collect::<Vec<u64>>());
    assert!(walk.tasks.iter().all(|task| task.header.state == 0xc0));
    assert_eq!((walk.ended, walk.torn, walk.strange), (0, 0, 0));
}

#[test]
fn a_task_that_has_ended_is_counted_apart() {
    let heap = Heap::default();
    heap.sharded(1..5, 0xc0);
    heap.set(0x7100_0000_0000 + 3 * 0x1000, 0b10);
    let walk = heap.walked(SHARDED);
    assert_eq!((ids(&walk), walk.ended), (vec![1, 2, 4], 1));
}

#[test]
fn lists_are_not_recognised_by_a_pointer_and_a_power_of_two_alone() {
    let broken: [fn(&Heap); 4] = [
        |heap| heap.set(HANDLE + 0x150, 4),
        // In the wrong list.
        |heap| heap.set(0x7100_0000_0000 + 5 * 0x1000 + ID, 6),
        // Another vtable.
        |heap| heap.set(0x7100_0000_0000 + 5 * 0x1000 + 16, VTABLE + 8),
        // A head without a tail.
        |heap| heap.set(LISTS + 16, 0),
    ];
    for break_it in broken {
        let heap = Heap::default();
        heap.sharded(4..8, 0xc0);
        assert!(look(HANDLE, &forms(), &heap).unwrap().is_some());
        break_it(&heap);
        assert_eq!(look(HANDLE, &forms(), &heap), Ok(None));
    }
    // Without any task nothing tells that these are lists.
    let heap = Heap::default();
    heap.sharded(0..0, 0);
    assert_eq!(look(HANDLE, &forms(), &heap), Ok(None));
    assert!(ids(&heap.walked(SHARDED)).is_empty());
}

#[test]
fn a_single_list_is_told_from_the_queue_of_ready_tasks() {
    let heap = Heap::default();
    let (head, tail) = heap.list(&[(1, NOTIFIED), (2, 0xc0), (3, 0xc0)]);
    heap.set(HANDLE, 5);
    // The queue: a task that is ready, both head and tail; it happens to be alone.
    heap.task(0x7200_0000_0000, 9, NOTIFIED, (0, 0));
    heap.set(HANDLE + 0x30, 0x7200_0000_0000);
    heap.set(HANDLE + 0x38, 0x7200_0000_0000);
    heap.set(HANDLE + 0x58, head);
    heap.set(HANDLE + 0x60, tail);
    let single = Owned::Single { at: HANDLE + 0x58 };
    assert_eq!(look(HANDLE, &forms(), &heap), Ok(Some(single)));
    assert_eq!(ids(&heap.walked(single)), [1, 2, 3]);
    // What lies farther behind belongs to others.
    heap.set(HANDLE + 0x58, 0);
    heap.set(HANDLE + 0x800, head);
    heap.set(HANDLE + 0x808, tail);
    assert_eq!(look(HANDLE, &forms(), &heap), Ok(None));
}

#[test]
fn a_list_that_changes_is_begun_anew_and_no_task_is_counted_twice() {
    // The second task of list 1 (5) is taken out once: its pointers are cleared.
    let heap = Heap {
        meddle: Some(|heap, read| {
            if read == 12 {
                let at = |id: u64| 0x7100_0000_0000 + id * 0x1000;
                heap.set(at(5) + TRAILER, 0);
                heap.set(at(5) + TRAILER + 8, 0);
                heap.set(at(1) + TRAILER + 8, at(9));
                heap.set(at(9) + TRAILER, at(1));
            }
        }),
        ..Heap::default()
    };
    heap.sharded(1..10, 0xc0);
    let walk = heap.walked(SHARDED);
    assert_eq!(ids(&walk), [1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((walk.torn, walk.strange), (0, 0));
}

#[test]
fn a_list_that_never_holds_still_is_given_up_and_said() {
    let heap = Heap::default();
    heap.sharded(1..10, 0xc0);
    // A task that does not point back.
    heap.set(0x7100_0000_0000 + 5 * 0x1000 + TRAILER, 0x7200_0000_0000);
    let walk = heap.walked(SHARDED);
    assert_eq!(ids(&walk), [1, 2, 3, 4, 6, 7, 8]);
    assert_eq!((walk.torn, walk.strange), (1, 0));
    // Something else lies where the lists were.
    heap.set(LISTS + 8, 0x7200_0000_0000);
    let walk = heap.walked(SHARDED);
    assert_eq!((walk.torn, walk.strange), (2, 1));
    let gone = Owned::Sharded {
        lists: 0x10,
        count: 4,
    };
    assert_eq!(heap.walked(gone).strange, 1);
}

#[test]
fn a_list_without_end_has_an_end() {
    // Task 1 leads to itself, and its pointer back changes with each read: it always fits.
    let heap = Heap {
        meddle: Some(|heap, _| {
            let at = 0x7100_0000_0000 + 0x1000;
            let back = heap.words.borrow().get(&(at + TRAILER)).copied();
            let fits = if back.is_none() { 0 } else { at };
            if heap.reads.get() > 12 {
                heap.set(at + TRAILER, fits);
            }
            heap.set(at + TRAILER + 8, at);
        }),
        ..Heap::default()
    };
    heap.set(LISTS, 0);
    heap.task(0x7100_0000_1000, 1, 0xc0, (0, 0x7100_0000_1000));
    heap.set(HANDLE + 0x58, 0x7100_0000_1000);
    heap.set(HANDLE + 0x60, 0x7100_0000_1000);
    let mut walk = Walk::default();
    walk.run(Owned::Single { at: HANDLE + 0x58 }, &forms(), &heap)
        .unwrap();
    assert_eq!((ids(&walk), walk.torn), (vec![1], 1));
}

#[test]
fn random_links_never_end_in_a_panic_or_without_end() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let heap = Heap::default();
        heap.sharded(1..30, 0xc0);
        let mut words: Vec<u64> = heap.words.borrow().keys().copied().collect();
        words.sort_unstable();
        for _ in 0..random.usize(1..12) {
            let from = words[random.usize(..words.len())];
            let to = words[random.usize(..words.len())];
            let word = match random.u8(..4) {
                0 => to,
                1 => to & !0xfff,
                2 => random.u64(..),
                _ => random.u64(..64),
            };
            heap.set(from, word);
        }
        let found = look(HANDLE, &forms(), &heap);
        assert!(found.is_ok());
        let walk = heap.walked(SHARDED);
        assert!(walk.tasks.len() < 40, "{}", walk.tasks.len());
    }
}

#[test]
fn a_process_that_is_gone_is_an_error() {
    #[derive(Debug)]
    struct Gone;
    impl Memory for Gone {
        fn read(&self, _addr: u64, _buf: &mut [u8]) -> Result<(), ReadError> {
            Err(ReadError::Gone)
        }
    }
    assert_eq!(look(HANDLE, &forms(), &Gone), Err(ReadError::Gone));
    let mut walk = Walk::default();
    assert_eq!(walk.run(SHARDED, &forms(), &Gone), Err(ReadError::Gone));
}

const CONTEXT: u64 = 0x7000_0001_0000;
const SHARED: u64 = 0x7000_0002_0000;

/// A `LocalSet` with three tasks, whose `Context` is at `CONTEXT`.
fn local_set() -> Heap {
    let heap = Heap::default();
    let tasks = [(1, NOTIFIED), (2, 0xc0), (3, NOTIFIED)];
    let (head, tail) = heap.list(&tasks);
    for (id, _) in tasks {
        heap.set(0x7100_0000_0000 + id * 0x1000 + 0x20, SHARED);
    }
    for (word, value) in [1, 1, SHARED].into_iter().enumerate() {
        heap.set(CONTEXT + word as u64 * 8, value);
    }
    heap.set(SHARED, 4);
    heap.set(SHARED + 8, 1);
    heap.set(SHARED + 0x40, head);
    heap.set(SHARED + 0x48, tail);
    heap
}

fn local_sets_of(stack: &[u64], heap: &Heap) -> Vec<LocalSet> {
    let is_data = |address: u64| address >= 0x7000_0000_0000;
    on_stack(stack, &is_data, &forms(), heap).unwrap()
}

#[test]
fn a_local_set_is_found_through_the_stack_of_its_thread() {
    let heap = local_set();
    let owned = Owned::Single { at: SHARED + 0x40 };
    let found = LocalSet {
        shared: SHARED,
        owned,
    };
    // It is on the stack itself.
    assert_eq!(local_sets_of(&[7, CONTEXT, 0, CONTEXT], &heap), [found]);
    // Something on the heap has it.
    heap.set(HANDLE, 5);
    heap.set(HANDLE + 0x38, CONTEXT);
    assert_eq!(local_sets_of(&[HANDLE], &heap), [found]);
    assert_eq!(local_sets_of(&[HANDLE, CONTEXT], &heap), [found]);
    assert_eq!(ids(&heap.walked(owned)), [1, 2, 3]);
}

#[test]
fn only_what_its_tasks_point_back_at_is_a_local_set() {
    let broken: [fn(&Heap); 5] = [
        // A task of another scheduler.
        |heap| heap.set(0x7100_0000_1000 + 0x20, HANDLE),
        // The first task is not the first.
        |heap| heap.set(0x7100_0000_1000 + TRAILER, 0x7100_0000_2000),
        // No references.
        |heap| heap.set(SHARED, 0),
        |heap| heap.set(CONTEXT + 8, u64::MAX),
        // No tasks.
        |heap| heap.set(SHARED + 0x40, 0),
    ];
    for break_it in broken {
        let heap = local_set();
        break_it(&heap);
        assert_eq!(local_sets_of(&[CONTEXT], &heap), []);
    }
    assert_eq!(local_sets_of(&[], &local_set()), []);
}
