//! What kind of code a frame is, and which frame of a stack to name as its site.
//!
//! Contract: the site is the nearest user frame that is neither runtime nor standard library.
//! Executor plumbing, lock primitives and syscall wrappers count as runtime: they are where every
//! wait ends up, so that they tell nothing about whose wait it is.

use std::path::Path;

use crate::model::{Frame, FrameKind, Known, Reason};

/// Crates whose functions are runtime: Rust's own, executors, their combinators, and the locks and
/// syscall wrappers that stand between them and the application.
const RUNTIME_CRATES: &[&str] = &[
    "alloc",
    "backtrace",
    "compiler_builtins",
    "core",
    "crossbeam_utils",
    "futures",
    "futures_channel",
    "futures_core",
    "futures_executor",
    "futures_task",
    "futures_util",
    "gimli",
    "hashbrown",
    "libc",
    "lock_api",
    "mio",
    "nix",
    "panic_unwind",
    "parking_lot",
    "parking_lot_core",
    "polling",
    "proc_macro",
    "rustix",
    "socket2",
    "std",
    "std_detect",
    "test",
    "tokio",
    "tokio_util",
    "tracing_core",
];

/// Libraries that are the C runtime, by the start of their file names.
const RUNTIME_LIBRARIES: &[&str] = &[
    "[vdso]",
    "ld-",
    "ld.so",
    "libanl.so",
    "libc-2",
    "libc.musl",
    "libc.so",
    "libc++",
    "libdl-2",
    "libdl.so",
    "libgcc_s.so",
    "libm-2",
    "libm.so",
    "libnss_",
    "libpthread-2",
    "libpthread.so",
    "libresolv",
    "librt-2",
    "librt.so",
    "libstdc++.so",
];

/// C functions of a statically linked libc, or of its start-up code in every executable. Names
/// that begin with two underscores are the implementation's anyway (C11 7.1.3). musl's are told by their
/// lack of unwind tables (`symbols::modules`).
const RUNTIME_FUNCTIONS: &[&str] = &[
    "_start",
    "accept",
    "accept4",
    "clock_nanosleep",
    "clone",
    "clone3",
    "connect",
    "epoll_pwait",
    "epoll_wait",
    "fdatasync",
    "flock",
    "fsync",
    "futex_wait",
    "lll_lock_wait",
    "mtx_lock",
    "nanosleep",
    "open",
    "openat",
    "poll",
    "ppoll",
    "pread",
    "pread64",
    "preadv",
    "pselect",
    "pwrite",
    "pwrite64",
    "pwritev",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmsg",
    "rust_begin_unwind",
    "rust_eh_personality",
    "rust_panic",
    "select",
    "sem_wait",
    "send",
    "sendmsg",
    "sendto",
    "sleep",
    "start_thread",
    "syscall",
    "usleep",
    "write",
    "writev",
];

/// Functions at which a thread or goroutine begins: a stack that ends in one is whole.
const ROOTS: &[&str] = &[
    "_start",
    "__clone",
    "__clone3",
    "__libc_start_call_main",
    "__libc_start_main",
    "clone",
    "clone3",
    "main",
    "runtime.goexit",
    "runtime.mstart",
    "runtime.rt0_go",
    "start_thread",
];

/// The kind of a function that no runtime has classified. `file` and `module` may be empty.
pub fn kind(function: &str, file: Option<&str>, module: &str) -> FrameKind {
    if is_runtime_library(module) || file.is_some_and(is_runtime_source) {
        return FrameKind::Runtime;
    }
    let runtime = match root(function) {
        // Go without its own symbol table (see `symbols::ModuleSymbols`, which knows better).
        _ if file.is_some_and(is_go_source) => {
            function.starts_with("runtime.") || function.starts_with("internal/runtime/")
        }
        Some(name) => RUNTIME_CRATES.contains(&name),
        // An application's own `read` has a source file; that of a static libc has none.
        None => {
            function.starts_with("__")
                || function.starts_with("_cgo_")
                || function.starts_with("x_cgo_")
                || function.starts_with("pthread_")
                || (file.is_none() && RUNTIME_FUNCTIONS.contains(&function))
        }
    };
    if runtime {
        FrameKind::Runtime
    } else {
        FrameKind::User
    }
}

/// The kind of code whose function is not known, by its module.
pub fn nameless(module: &str) -> FrameKind {
    if is_runtime_library(module) {
        FrameKind::Runtime
    } else {
        FrameKind::User
    }
}

fn is_runtime_library(module: &str) -> bool {
    RUNTIME_LIBRARIES
        .iter()
        .any(|start| module.starts_with(start))
}

/// Sources of Rust's standard library (`/rustc/HASH/library/...`, or a rust-src component), and of
/// tokio in a cargo registry: generic code inlined elsewhere carries bare names such as `poll`.
fn is_runtime_source(file: &str) -> bool {
    if file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/rust/library/") {
        return true;
    }
    file.split_once("/registry/src/")
        .and_then(|(_, rest)| rest.split('/').nth(1))
        .is_some_and(|package| {
            let name = package.rsplit_once('-').map_or(package, |(name, _)| name);
            RUNTIME_CRATES.contains(&name.replace('-', "_").as_str())
        })
}

fn is_go_source(file: &str) -> bool {
    let extension = Path::new(file).extension().and_then(|e| e.to_str());
    match extension {
        Some("go") => true,
        Some("s") => file.contains("/src/runtime/"),
        _ => false,
    }
}

/// The crate (or namespace) that a Rust or C++ path begins with; `None` for a plain C name.
/// Of `<T as Trait>::method` it is T's, unless T is only a type parameter: then the trait's.
fn root(function: &str) -> Option<&str> {
    let mut name = function;
    // A trait implementation's self type, behind references and the like.
    if let Some(inner) = name.strip_prefix('<') {
        let (own, of_trait) = match split_as(inner) {
            Some((own, of_trait)) => (own, Some(of_trait)),
            None => (inner, None),
        };
        let own = strip_sigils(own);
        name = match of_trait {
            Some(of_trait) if !own.contains("::") => strip_sigils(of_trait),
            _ => own,
        };
    }
    let end = name.find("::")?;
    let root = name.get(..end)?;
    // v0 names carry a crate disambiguator: `std[abc]::...`.
    Some(root.split('[').next().unwrap_or(root))
}

/// Splits `A as B>...` at the `as` that belongs to the outermost brackets.
fn split_as(inner: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    for (at, c) in inner.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // Not the arrow of `fn() -> T`.
            '>' if !inner[..at].ends_with('-') => depth -= 1,
            ')' | ']' => depth -= 1,
            ' ' if depth == 0 && inner[at..].starts_with(" as ") => {
                return Some((&inner[..at], &inner[at + 4..]));
            }
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

fn strip_sigils(mut name: &str) -> &str {
    loop {
        let before = name;
        for prefix in ["&", "*const ", "*mut ", "mut ", "dyn ", "(", "[", "<", " "] {
            name = name.strip_prefix(prefix).unwrap_or(name);
        }
        if name == before {
            return name;
        }
    }
}

/// A function's name without the hash of Rust's legacy mangling (`::h0123456789abcdef`).
pub fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            rest
        }
        _ => name,
    }
}

/// A function's name for people: `app::handle::{{closure}}` becomes `app::handle (closure)`, and
/// the poll function of an async block or function looks the same. The raw name stays in the frame.
pub fn display_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut closure = false;
    for part in without_hash(name).split("::") {
        if part == "{{closure}}" || part.starts_with("{closure#") {
            closure = true;
            continue;
        }
        // v0's number of an impl block says nothing to a reader.
        if part.starts_with("{impl#") {
            continue;
        }
        if !out.is_empty() {
            out.push_str("::");
        }
        out.push_str(part);
    }
    if out.is_empty() {
        return name.to_owned();
    }
    if closure {
        out.push_str(" (closure)");
    }
    out
}

/// The nearest user frame with a name: where the application waits. When no user frame has one (a
/// stripped program), the nearest nameless one in a known module: its `unknown_reason` says why,
/// and module and address still point at it.
pub fn site(frames: &[Frame]) -> Known<&Frame> {
    // A user address in no module at all is what a broken stack looks like, not a place.
    let user = |frame: &&Frame| frame.kind == FrameKind::User && frame.module.is_some();
    let named = |frame: &&Frame| user(frame) && frame.function.is_some();
    if let Some(frame) = frames
        .iter()
        .find(named)
        .or_else(|| frames.iter().find(user))
    {
        return Known::Known(frame);
    }
    Known::Unknown(if frames.iter().all(|f| f.kind == FrameKind::Kernel) {
        Reason::new("no user stack was taken")
    } else if frames.iter().rev().find_map(|f| f.function.as_deref()) == Some("runtime.goexit") {
        // Go keeps frame pointers, and that is where goroutines begin: nothing is missing.
        Reason::new("only Go's runtime and standard library are on the stack")
    } else if is_whole(frames) {
        Reason::new(
            "no application code on the stack: a thread of the runtime or of a library, or frames are missing",
        )
    } else {
        Reason::new(
            "the stack ends in the C library: code without frame pointers and unwind tables",
        )
    })
}

/// Whether the stack reaches the function at which its thread or goroutine began. When it does
/// not, frames are missing at the far end.
pub fn is_whole(frames: &[Frame]) -> bool {
    frames
        .iter()
        .rev()
        .find(|frame| frame.kind != FrameKind::Kernel)
        .and_then(|frame| frame.function.as_deref())
        .is_some_and(|name| {
            let plain = name.split(['@', '.']).next().unwrap_or(name);
            ROOTS.contains(&name) || ROOTS.contains(&plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(function: &str) -> FrameKind {
        kind(function, None, "app")
    }

    #[test]
    fn standard_library_and_executor_frames_are_runtime() {
        for name in [
            "std::thread::sleep",
            "core::ptr::drop_in_place<app::Big>",
            "<std::net::TcpStream as std::io::Read>::read",
            "<alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once",
            "<&mut F as core::future::future::Future>::poll",
            "<core::pin::Pin<&mut app::Fut> as core::future::Future>::poll",
            "<futures_util::future::Map<Fut, F> as core::future::Future>::poll",
            "tokio::runtime::park::Inner::park",
            "mio::poll::Poll::poll",
            "parking_lot::raw_mutex::RawMutex::lock_slow",
            "std[1a2b]::rt::lang_start",
            "<T as alloc::string::ToString>::to_string",
            "__poll",
            "pthread_cond_wait",
            "start_thread",
            "__rust_begin_short_backtrace",
        ] {
            assert_eq!(of(name), FrameKind::Runtime, "{name}");
        }
        assert_eq!(kind("poll_it", None, "libc.so.6"), FrameKind::Runtime);
        assert_eq!(kind("x", None, "ld-linux-x86-64.so.2"), FrameKind::Runtime);
        assert_eq!(
            kind("poll", Some("/rustc/abc/library/core/src/x.rs"), "app"),
            FrameKind::Runtime
        );
        assert_eq!(
            kind(
                "poll",
                Some("/h/.cargo/registry/src/i-1/tokio-1.4.0/src/a.rs"),
                "app"
            ),
            FrameKind::Runtime
        );
    }

    #[test]
    fn application_and_third_party_frames_are_user() {
        for name in [
            "app::handler::{{closure}}",
            "<app::Wait as core::future::future::Future>::poll",
            "<app::Handler<std::string::String> as app::Serve>::serve",
            "hyper::proto::h1::dispatch::Dispatcher::poll",
            "rd_kafka_poll",
            "main",
            "worker",
            "tokio_postgres::client::query",
            "stdlike::thing",
            "boost::asio::run",
            "<fn(app::X) -> app::Y as app::Z>::go",
        ] {
            assert_eq!(of(name), FrameKind::User, "{name}");
        }
        let go = |name| {
            kind(
                name,
                Some("/usr/local/go/src/runtime/sys_linux_amd64.s"),
                "app",
            )
        };
        assert_eq!(go("runtime.futex"), FrameKind::Runtime);
        assert_eq!(
            kind("main.read", Some("/a/main.go"), "app"),
            FrameKind::User
        );
        assert_eq!(
            kind(
                "poll",
                Some("/h/.cargo/registry/src/i-1/hyper-1.4.0/src/a.rs"),
                "app"
            ),
            FrameKind::User
        );
    }

    #[test]
    fn odd_names_do_no_harm() {
        for name in [
            "",
            "<",
            "<<<",
            "::",
            "<as>",
            "< as >::",
            "<é as é>::é",
            "->>",
            "<(&",
        ] {
            let _kind = of(name);
            let _text = display_name(name);
        }
    }

    #[test]
    fn names_are_shown_without_compiler_noise() {
        assert_eq!(
            display_name("app::handle::{{closure}}::{{closure}}::h0123456789abcdef"),
            "app::handle (closure)"
        );
        assert_eq!(display_name("app::go::{closure#0}"), "app::go (closure)");
        assert_eq!(display_name("app::{impl#3}::go"), "app::go");
        assert_eq!(display_name("main.worker"), "main.worker");
        assert_eq!(without_hash("app::hash"), "app::hash");
    }

    fn frame(function: Option<&str>, module: Option<&str>, kind: FrameKind) -> Frame {
        Frame {
            address: 1,
            function: function.map(Into::into),
            file: None,
            line: None,
            module: module.map(Into::into),
            module_offset: None,
            kind,
            unknown_reason: None,
        }
    }

    #[test]
    fn the_site_is_the_nearest_user_frame_or_says_why_there_is_none() {
        let kernel = frame(Some("do_futex"), Some("kernel"), FrameKind::Kernel);
        let libc = frame(Some("read"), Some("libc.so.6"), FrameKind::Runtime);
        let user = frame(Some("app::load"), Some("app"), FrameKind::User);
        let root = frame(Some("start_thread"), Some("libc.so.6"), FrameKind::Runtime);
        let broken = frame(None, None, FrameKind::User);
        let stack = [kernel.clone(), libc.clone(), broken.clone(), user.clone()];
        assert_eq!(site(&stack), Known::Known(&user));
        let nameless = frame(None, Some("lib.so"), FrameKind::User);
        let stack = [nameless.clone(), user.clone()];
        assert_eq!(site(&stack), Known::Known(&user));
        assert_eq!(site(&stack[..1]), Known::Known(&nameless));
        let why = |stack: &[Frame]| site(stack).reason().unwrap().0.clone();
        assert!(why(&[kernel]).contains("no user stack"));
        assert!(why(&[libc.clone(), root]).contains("thread of the runtime"));
        assert!(why(&[libc, broken]).contains("frame pointers"));
        assert!(why(&[]).contains("no user stack"));
    }

    #[test]
    fn a_goroutine_of_the_standard_library_lacks_no_frames() {
        let frame = |name: &str| Frame {
            address: 1,
            function: Some(name.into()),
            file: None,
            line: None,
            module: Some("app".into()),
            module_offset: None,
            kind: FrameKind::Runtime,
            unknown_reason: None,
        };
        let reason = |names: &[&str]| {
            let frames: Vec<Frame> = names.iter().map(|name| frame(name)).collect();
            site(&frames).reason().map(ToString::to_string).unwrap()
        };
        let go = reason(&["net/http.(*connReader).backgroundRead", "runtime.goexit"]);
        assert!(!go.contains("missing"), "{go}");
        let c = reason(&["__poll", "start_thread"]);
        assert!(c.contains("or frames are missing"), "{c}");
    }
}
