//! Addresses of kernel symbols by name, from /proc/kallsyms.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::model::{Known, Reason};

const PATH: &str = "/proc/kallsyms";
/// The list is about 10 MB on a distribution kernel with modules; this only bounds the unexpected.
const MAX_BYTES: u64 = 256 << 20;
/// Lines are `address type name [module]`, names at most 511 bytes (KSYM_NAME_LEN, 6.1).
const MAX_LINE: u64 = 2048;

/// The addresses of `names`, each known or not and why. Reads the list once (tens of milliseconds:
/// the kernel makes it up line by line), so ask for all names together and only when needed.
pub fn addresses<'n>(names: &[&'n str]) -> BTreeMap<&'n str, Known<u64>> {
    match File::open(PATH) {
        Ok(file) => find(
            BufReader::with_capacity(1 << 16, file.take(MAX_BYTES)),
            names,
        ),
        Err(error) => {
            let reason = Reason::with(format!("{PATH}: {error}"));
            names
                .iter()
                .map(|name| (*name, Known::Unknown(reason.clone())))
                .collect()
        }
    }
}

fn find<'n>(mut list: impl BufRead, names: &[&'n str]) -> BTreeMap<&'n str, Known<u64>> {
    let mut found: BTreeMap<&'n str, Known<u64>> = names
        .iter()
        .map(|name| {
            let text = format!("{PATH} does not list {name} (kernel without CONFIG_KALLSYMS_ALL?)");
            (*name, Known::Unknown(Reason::with(text)))
        })
        .collect();
    let mut missing = names.len();
    let mut line = Vec::with_capacity(256);
    while missing > 0 {
        line.clear();
        match list.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let Some((address, name)) = split(&line) else {
            continue;
        };
        // A later one is a module's or a static of the same name: the first is the kernel's own.
        let Some(slot) = names
            .iter()
            .find(|wanted| wanted.as_bytes() == name)
            .and_then(|wanted| found.get_mut(wanted))
            .filter(|slot| slot.known().is_none())
        else {
            continue;
        };
        missing -= 1;
        *slot = if address == 0 {
            Known::unknown(
                "kernel addresses are hidden: needs CAP_SYSLOG and kernel.kptr_restrict < 2",
            )
        } else {
            Known::Known(address)
        };
    }
    found
}

/// `ffffffff81000000 T _text` -> address and name.
fn split(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut parts = line
        .split(u8::is_ascii_whitespace)
        .filter(|part| !part.is_empty());
    let address = u64::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok()?;
    let name = parts.nth(1)?;
    Some((address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_found_hidden_ones_and_missing_ones_say_why() {
        let list = "ffffffff81000000 T _text\n0000000000000000 D jiffies\nrubbish\n\
                    ffffffffc0000000 t schedule\t[mod]\n";
        let found = find(
            list.as_bytes(),
            &["_text", "jiffies", "nowhere", "schedule"],
        );
        assert_eq!(found["_text"], Known::Known(0xffff_ffff_8100_0000));
        assert_eq!(found["schedule"], Known::Known(0xffff_ffff_c000_0000));
        assert!(found["jiffies"].reason().unwrap().0.contains("CAP_SYSLOG"));
        assert!(found["nowhere"].reason().unwrap().0.contains("nowhere"));
    }

    #[test]
    fn a_list_of_rubbish_ends() {
        let mut rubbish = vec![b'f'; 1 << 20];
        rubbish.extend(b"\n \n\0\xff\n");
        let found = find(&rubbish[..], &["x"]);
        assert!(found["x"].known().is_none());
    }
}
