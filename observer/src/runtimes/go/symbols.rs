//! Names, files and lines of Go code, from the function table that even stripped programs keep.

use std::path::Path;
use std::sync::Arc;

use super::buildinfo;
use super::tables::Tables;
use crate::model::Reason;
use crate::sys::elf::{self, ElfImage};

/// Levels of inlining that are followed at one instruction.
const MAX_INLINED: usize = 32;

/// First path elements of the standard library, Go 1.18 to 1.27 (`ls GOROOT/src`).
const STANDARD: &[&str] = &[
    "archive",
    "arena",
    "bufio",
    "builtin",
    "bytes",
    "cmd",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "simd",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "unicode",
    "unique",
    "unsafe",
    "uuid",
    "vendor",
    "weak",
];

/// Where one instruction comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoFrame {
    /// The function in whose machine code the instruction lies.
    pub function: String,
    /// Source file of the instruction, or of the call when something is inlined there.
    pub file: Option<String>,
    /// Line in `file`.
    pub line: Option<u32>,
    /// Line of the function's `func` keyword (Go 1.20 and later).
    pub start_line: Option<u32>,
    /// First instruction of the function (file virtual address).
    pub entry: u64,
    /// Calls inlined at the instruction, innermost first: they come before `function` in a stack.
    pub inlined: Vec<GoInlined>,
}

/// A call that the compiler replaced by the callee's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoInlined {
    /// The callee.
    pub function: String,
    /// Source file of the position inside the callee.
    pub file: Option<String>,
    /// Line in `file`.
    pub line: Option<u32>,
    /// Line of the callee's `func` keyword.
    pub start_line: Option<u32>,
}

/// The Go functions of one executable. Cheap to clone; holds the mapped file.
#[derive(Debug, Clone)]
pub struct GoSymbols {
    image: Arc<ElfImage>,
    tables: Tables,
    modules: Arc<Modules>,
}

/// Which import paths are the program's own although they look like the standard library's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    own: Vec<String>,
}

impl GoSymbols {
    /// Reads the tables of an executable.
    ///
    /// # Errors
    /// The reason when it is no Go program or its function table can not be used.
    pub fn new(image: Arc<ElfImage>) -> Result<Self, Reason> {
        let elf = image.parse().map_err(|e| Reason::with(e.to_string()))?;
        let info = buildinfo::find(&elf);
        let minor = info
            .as_ref()
            .and_then(|i| i.go_version().known().map(|v| v.minor));
        let tables = Tables::find(&elf, image.bytes(), minor)?;
        let modules = Arc::new(info.as_ref().map(Modules::new).unwrap_or_default());
        Ok(Self {
            image,
            tables,
            modules,
        })
    }

    /// Opens an executable by its path.
    ///
    /// # Errors
    /// As [`GoSymbols::new`], or when it can not be opened.
    pub fn open(path: &Path) -> Result<Self, Reason> {
        let image = ElfImage::open(path).map_err(|e| Reason::with(e.to_string()))?;
        Self::new(Arc::new(image))
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The executable.
    pub fn image(&self) -> &Arc<ElfImage> {
        &self.image
    }

    /// The modules of the program.
    pub fn modules(&self) -> &Arc<Modules> {
        &self.modules
    }

    /// The function table.
    pub fn pclntab(&self) -> Option<super::pclntab::Pclntab<'_>> {
        self.tables.pclntab(self.image.bytes())
    }

    /// What the instruction at `pc` belongs to. `pc` is a file virtual address (the address in the
    /// process less the load bias); for a return address pass one less, so that it lies in the call.
    pub fn lookup(&self, pc: u64) -> Option<GoFrame> {
        let function = self.pclntab()?.find(pc)?;
        let mut inlined = Vec::new();
        let mut at = pc;
        if let Some(offset) = function.inline_tree()
            && let Some(base) = self.tables.gofunc
            && let Ok(elf) = self.image.parse()
            && let Some(tree) = elf::bytes_at(&elf, base.checked_add(u64::from(offset))?)
        {
            while inlined.len() < MAX_INLINED
                && let Some(call) = function.inlined_at(tree, at)
            {
                inlined.push(GoInlined {
                    function: call.name.to_owned(),
                    file: function.file(at).map(str::to_owned),
                    line: function.line(at),
                    start_line: call.start_line,
                });
                at = call.caller_pc;
            }
        }
        Some(GoFrame {
            function: function.name()?.to_owned(),
            file: function.file(at).map(str::to_owned),
            line: function.line(at),
            start_line: function.start_line(),
            entry: function.entry,
            inlined,
        })
    }

    /// Just the name of the function whose machine code holds `pc` (file virtual address).
    pub fn function_name(&self, pc: u64) -> Option<&str> {
        self.pclntab()?.find(pc)?.name()
    }

    /// Whether a function belongs to the runtime or the standard library rather than to the program.
    pub fn is_runtime_function(&self, name: &str) -> bool {
        self.modules.is_runtime_function(name)
    }
}

impl Modules {
    /// The modules that a build record lists.
    pub fn new(info: &buildinfo::BuildInfo) -> Self {
        let own = info
            .main_module
            .iter()
            .chain(&info.dependencies)
            .filter(|path| is_standard(path))
            .cloned()
            .collect();
        Self { own }
    }

    /// Whether a function belongs to the runtime or the standard library. Everything in package
    /// `main`, in the program's modules and in its dependencies does not.
    pub fn is_runtime_function(&self, name: &str) -> bool {
        let Some(package) = package_of(name) else {
            // No package: C and assembly helpers (`crosscall2`, `_cgo_...`), generated code.
            return true;
        };
        let own = |path: &String| {
            package
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_c_wrapper(name, package) || is_standard(package) && !self.own.iter().any(own)
    }
}

/// The wrapper of a C function that cgo makes in the package that calls it: `main._Cfunc_usleep`,
/// with errno `main._C2func_usleep` (Go 1.18 to 1.27, `src/cmd/cgo/out.go`).
fn is_c_wrapper(name: &str, package: &str) -> bool {
    name.get(package.len() + 1..)
        .is_some_and(|own| own.starts_with("_Cfunc_") || own.starts_with("_C2func_"))
}

/// The import path in a function's name, as the linker writes it (dots after the last slash are
/// escaped as `%2e`): `net/http.(*conn).serve` -> `net/http`.
pub fn package_of(name: &str) -> Option<&str> {
    // Type arguments and receivers may hold slashes of their own.
    let head = &name[..name.find(['[', '(']).unwrap_or(name.len())];
    if head.starts_with("type:") || head.starts_with("go:") {
        return None;
    }
    let last = head.rfind('/').map_or(0, |i| i + 1);
    let dot = head[last..].find('.')?;
    let package = &head[..last + dot];
    (!package.is_empty()).then_some(package)
}

fn is_standard(package: &str) -> bool {
    let first = package.split('/').next().unwrap_or(package);
    STANDARD.binary_search(&first).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_from_names() {
        let check = |name: &str, expected: Option<&str>| assert_eq!(package_of(name), expected);
        check("net/http.(*conn).serve", Some("net/http"));
        check("main.main.func1", Some("main"));
        check(
            "github.com/a/b%2ev2.(*T[go.shape.int]).M",
            Some("github.com/a/b%2ev2"),
        );
        check(
            "slices.SortFunc[go.shape.struct { a/b.X int }]",
            Some("slices"),
        );
        check("crosscall2", None);
        check("type:.eq.main.T", None);
        check("", None);
    }

    #[test]
    fn the_standard_library_is_told_from_the_program() {
        let info = buildinfo::BuildInfo {
            main_module: Some("log/shop".into()),
            dependencies: vec!["github.com/a/b".into()],
            ..Default::default()
        };
        let modules = Modules::new(&info);
        let check =
            |name, expected| assert_eq!(modules.is_runtime_function(name), expected, "{name}");
        check("runtime.gopark", true);
        check("internal/poll.(*FD).Read", true);
        check("net/http.(*conn).serve", true);
        check("vendor/golang.org/x/net/http2.f", true);
        check("crosscall2", true);
        check("log.Printf", true);
        check("log/shop/store.Put", false);
        check("log/shop.Run", false);
        check("log/shopping.Run", true);
        check("main.main", false);
        check("main._Cfunc_usleep", true);
        check("shop/db._C2func_open", true);
        check("main.open_Cfunc_", false);
        check("shop/db.Query", false);
        check("github.com/a/b.(*T).M", false);
        check("golang.org/x/net/http2.f", false);
    }

    #[test]
    fn the_list_of_standard_packages_is_sorted() {
        assert!(STANDARD.is_sorted());
    }
}
