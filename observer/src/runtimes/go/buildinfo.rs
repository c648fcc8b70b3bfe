//! `.go.buildinfo`: which Go built the executable, and which modules are in it.
//!
//! Source of the format: Go 1.27.3, `src/debug/buildinfo/buildinfo.go` (inline strings: Go 1.18 and later).

use object::{Object, ObjectSegment};

use crate::model::{Known, Reason};
use crate::sys::elf::{self, Elf};

/// The 14 bytes that open the record.
const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
/// The record starts at a multiple of this.
const ALIGN: usize = 16;
/// How much of the first writable segment is searched when the section is missing.
const SEARCH_LIMIT: usize = 64 << 10;
/// The inline strings start here, counted from the record.
const STRINGS_AT: usize = 32;
/// Flag: big-endian pointers.
const FLAG_BIG_ENDIAN: u8 = 1;
/// Flag: strings follow inline.
const FLAG_INLINE: u8 = 2;
/// A version text longer than this is garbage.
const MAX_VERSION: u64 = 256;
/// Module information longer than this is garbage.
const MAX_MODULE_INFO: u64 = 4 << 20;
/// `modinfo` is framed by 16 bytes on either side (`cmd/go/internal/modload/build.go`).
const MODULE_FRAME: usize = 16;

/// A Go version as far as layouts depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoVersion {
    /// As shown: `1.26.8`, `1.22rc1`, `1.28-devel_ab12`.
    pub text: String,
    /// The 26 of 1.26.8.
    pub minor: u32,
    /// Built from a development tree: layouts may differ from any release.
    pub devel: bool,
}

impl GoVersion {
    /// Reads `go1.26.8`, `go1.26.8 X:nodwarf5`, `devel go1.28-ab12 Mon ...`, `go1.28-devel_ab12`.
    pub fn parse(text: &str) -> Option<Self> {
        let start = text.find("go1.")?;
        let rest = &text[start + 2..];
        let word = rest.split_ascii_whitespace().next()?;
        let digits: String = word[2..]
            .chars()
            .take_while(char::is_ascii_digit)
            .take(4)
            .collect();
        Some(Self {
            text: word.to_owned(),
            minor: digits.parse().ok()?,
            devel: text.starts_with("devel") || word.contains("devel"),
        })
    }
}

/// What the record says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version text, such as `go1.26.8`. Empty when the record holds pointers (before 1.18).
    pub version: String,
    /// Path of the main module, when built with modules.
    pub main_module: Option<String>,
    /// Paths of the modules it depends on.
    pub dependencies: Vec<String>,
}

impl BuildInfo {
    /// The parsed version.
    pub fn go_version(&self) -> Known<GoVersion> {
        if self.version.is_empty() {
            return Known::unknown("built with a Go older than 1.18");
        }
        match GoVersion::parse(&self.version) {
            Some(version) => Known::Known(version),
            None => Known::Unknown(Reason::with(format!(
                "Go version {:?} is not understood",
                self.version
            ))),
        }
    }
}

/// Finds and reads the record of an executable; `None` when it has none: not a Go program.
pub fn find(elf: &Elf<'_>) -> Option<BuildInfo> {
    if let Some((_, data)) = elf::section(elf, ".go.buildinfo")
        && let Some(info) = search(&data)
    {
        return Some(info);
    }
    // Section headers may be stripped: the linker puts the record at the start of the data segment.
    elf.segments()
        .filter(|segment| segment.permissions().writable())
        .filter_map(|segment| segment.data().ok())
        .find_map(|data| search(&data[..data.len().min(SEARCH_LIMIT)]))
}

/// Searches `data`, whose start is aligned in the file, for a record.
pub fn search(data: &[u8]) -> Option<BuildInfo> {
    (0..data.len())
        .step_by(ALIGN)
        .filter(|&at| data[at..].starts_with(MAGIC))
        .find_map(|at| parse(&data[at..]))
}

/// Reads a record that starts at `data[0]`.
pub fn parse(data: &[u8]) -> Option<BuildInfo> {
    if !data.starts_with(MAGIC) {
        return None;
    }
    let flags = *data.get(15)?;
    if flags & FLAG_INLINE == 0 {
        // Pointers instead of strings: Go before 1.18, whose layouts are not known here.
        return (flags & !FLAG_BIG_ENDIAN == 0).then(BuildInfo::default);
    }
    let mut rest = data.get(STRINGS_AT..)?;
    let version = take_string(&mut rest, MAX_VERSION)?;
    let version = std::str::from_utf8(version).ok()?;
    if version.is_empty() || !version.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return None;
    }
    let mut info = BuildInfo {
        version: version.to_owned(),
        ..BuildInfo::default()
    };
    if let Some(modules) = take_string(&mut rest, MAX_MODULE_INFO)
        && modules.len() > 2 * MODULE_FRAME
    {
        let text = String::from_utf8_lossy(&modules[MODULE_FRAME..modules.len() - MODULE_FRAME]);
        read_modules(&text, &mut info);
    }
    Some(info)
}

fn read_modules(text: &str, info: &mut BuildInfo) {
    for line in text.lines() {
        let mut fields = line.split('\t');
        match (fields.next(), fields.next()) {
            (Some("mod"), Some(path)) => info.main_module = Some(path.to_owned()),
            (Some("dep"), Some(path)) => info.dependencies.push(path.to_owned()),
            _ => {}
        }
    }
}

fn take_string<'a>(rest: &mut &'a [u8], max: u64) -> Option<&'a [u8]> {
    let (len, used) = uvarint(rest)?;
    if len > max {
        return None;
    }
    let end = used.checked_add(usize::try_from(len).ok()?)?;
    let text = rest.get(used..end)?;
    *rest = &rest[end..];
    Some(text)
}

/// An unsigned LEB128 number and its length in bytes.
fn uvarint(data: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (i, byte) in data.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: &str, modules: &str) -> Vec<u8> {
        let mut data = MAGIC.to_vec();
        data.extend([8, FLAG_INLINE]);
        data.resize(STRINGS_AT, 0);
        let framed = if modules.is_empty() {
            String::new()
        } else {
            format!("{0}{modules}{0}", "0123456789abcdef")
        };
        for text in [version, &framed] {
            let mut n = text.len();
            while n > 0x7f {
                data.push(n as u8 | 0x80);
                n >>= 7;
            }
            data.push(n as u8);
            data.extend(text.as_bytes());
        }
        data
    }

    #[test]
    fn a_record_gives_version_and_modules() {
        let modules = format!(
            "path\tx\nmod\tshop/app\tv1\ndep\tgithub.com/a/b\tv2\nbuild\t-s={}\n",
            "x".repeat(99)
        );
        let mut data = vec![0; 48];
        data.extend(record("go1.26.8", &modules));
        let info = search(&data).unwrap();
        assert_eq!(info.version, "go1.26.8");
        assert_eq!(info.main_module.as_deref(), Some("shop/app"));
        assert_eq!(info.dependencies, ["github.com/a/b"]);
    }

    #[test]
    fn versions_are_read_in_every_form() {
        let check = |text: &str, expected: Option<(&str, u32, bool)>| {
            let got = GoVersion::parse(text);
            let got = got.as_ref().map(|v| (v.text.as_str(), v.minor, v.devel));
            assert_eq!(got, expected, "{text}");
        };
        check("go1.26.8", Some(("1.26.8", 26, false)));
        check("go1.22rc1", Some(("1.22rc1", 22, false)));
        check("go1.18", Some(("1.18", 18, false)));
        check("go1.27.3 X:nodwarf5", Some(("1.27.3", 27, false)));
        check("devel go1.28-ab12 Mon Jan 1", Some(("1.28-ab12", 28, true)));
        check("go1.28-devel_ab12", Some(("1.28-devel_ab12", 28, true)));
        check("gccgo", None);
        check("go1.", None);
        check("go1.x", None);
    }

    #[test]
    fn damaged_records_are_refused_quietly() {
        let good = record("go1.26.8", "mod\tm\tv1\n");
        for end in 0..good.len() {
            let _ = search(&good[..end]);
        }
        let mut huge = good.clone();
        huge.truncate(STRINGS_AT);
        huge.extend([0xff; 9]);
        assert_eq!(parse(&huge), None);
        let mut pointers = good;
        pointers[15] = 0;
        assert!(parse(&pointers).unwrap().go_version().reason().is_some());
    }
}
