//! What a function's code does with channels and mutexes, by the runtime functions that it calls.

use super::super::pclntab::{Function, Pclntab};
use super::super::symbols::GoSymbols;
use crate::model::census::Uses;
use crate::sys::elf;

/// Code of one function that is looked at.
const MAX_CODE: usize = 256 << 10;
/// `call rel32`: the only way in which compiled Go code calls a named function on x86-64.
const CALL: u8 = 0xe8;

/// Addresses of the functions whose callers are of interest (file virtual addresses), sorted.
#[derive(Debug, Clone, Default)]
pub struct UseTable {
    targets: Vec<(u64, Uses)>,
}

impl UseTable {
    /// Finds the functions in a program's table.
    pub fn new(symbols: &GoSymbols) -> Self {
        let Some(table) = symbols.pclntab() else {
            return Self::default();
        };
        Self::in_table(&table)
    }

    fn in_table(table: &Pclntab<'_>) -> Self {
        let mut targets: Vec<(u64, Uses)> = (0..table.len())
            .filter_map(|i| table.function(i))
            .filter_map(|function| Some((function.entry, meaning(function.name()?)?)))
            .collect();
        targets.sort_unstable();
        Self { targets }
    }

    /// What a function's code calls. The runtime's own functions use nothing: what they do with
    /// channels is done for their callers.
    pub fn of(&self, symbols: &GoSymbols, function: &Function<'_>) -> Uses {
        let plain = |name: &str| {
            !["runtime.", "sync.", "internal/sync.", "internal/runtime/"]
                .iter()
                .any(|own| name.starts_with(own))
        };
        if self.targets.is_empty() || !function.name().is_some_and(plain) {
            return Uses::default();
        }
        let code = || {
            let elf = symbols.image().parse().ok()?;
            let size = usize::try_from(function.end.checked_sub(function.entry)?).ok()?;
            let bytes = elf::bytes_at(&elf, function.entry)?;
            Some(self.calls(
                &bytes[..bytes.len().min(size).min(MAX_CODE)],
                function.entry,
            ))
        };
        code().unwrap_or_default()
    }

    /// A byte that looks like a call inside another instruction would have to hit the entry of one of
    /// a dozen functions exactly: no need to decode what lies between.
    fn calls(&self, code: &[u8], address: u64) -> Uses {
        let mut found = Uses::default();
        for at in memchr::memchr_iter(CALL, code) {
            let Some(rel) = code.get(at + 1..at + 5).and_then(|b| b.try_into().ok()) else {
                break;
            };
            let next = address.wrapping_add(at as u64 + 5);
            let target = next.wrapping_add_signed(i64::from(i32::from_le_bytes(rel)));
            if let Ok(index) = self.targets.binary_search_by_key(&target, |t| t.0) {
                found = found.or(self.targets[index].1);
            }
        }
        found
    }
}

/// By name; the names are those of Go 1.18 to 1.27. `Lock` and `RLock` are inlined into their callers
/// in most builds, which then call the slow path themselves. A function that only unlocks counts too.
fn meaning(name: &str) -> Option<Uses> {
    let mut uses = Uses::default();
    match name {
        "runtime.chanrecv1" | "runtime.chanrecv2" | "runtime.selectnbrecv" => uses.receives = true,
        "runtime.chansend1" | "runtime.selectnbsend" => uses.sends = true,
        "runtime.selectgo" => uses.selects = true,
        "sync.(*Mutex).Lock"
        | "sync.(*Mutex).lockSlow"
        | "internal/sync.(*Mutex).Lock"
        | "internal/sync.(*Mutex).lockSlow"
        | "sync.(*Mutex).Unlock"
        | "sync.(*Mutex).unlockSlow"
        | "internal/sync.(*Mutex).Unlock"
        | "internal/sync.(*Mutex).unlockSlow"
        | "sync.(*RWMutex).Lock"
        | "sync.(*RWMutex).Unlock"
        | "sync.(*RWMutex).RUnlock"
        | "sync.(*RWMutex).RLock" => uses.locks = true,
        _ => return None,
    }
    Some(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_by_where_they_lead() {
        let uses = |name| meaning(name).unwrap();
        let table = UseTable {
            targets: vec![
                (0x1000, uses("runtime.chanrecv2")),
                (0x2000, uses("runtime.chansend1")),
            ],
        };
        let call = |from: u64, to: u64| {
            let rel = to.wrapping_sub(from + 5) as u32;
            [&[CALL][..], &rel.to_le_bytes()].concat()
        };
        let mut code = vec![0x90, CALL];
        code.extend([0xcc; 8]);
        assert!(!table.calls(&code, 0x5000).any());
        let at = 0x5000 + code.len() as u64;
        code.extend(call(at, 0x1000));
        let found = table.calls(&code, 0x5000);
        assert!(found.receives && !found.sends, "{found:?}");
        code.push(CALL);
        assert_eq!(table.calls(&code, 0x5000), found, "cut in a call");
        assert_eq!(meaning("runtime.gopark"), None);
    }
}
