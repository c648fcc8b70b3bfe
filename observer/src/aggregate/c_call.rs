//! Which C function a goroutine called, told from its stack. Names are those that cgo makes (Go 1.18
//! to 1.27, `src/cmd/cgo/out.go`): `main._Cfunc_usleep` in Go, `_cgo_0123_Cfunc_usleep` in C.

use crate::model::view::CCall;
use crate::model::{Frame, FrameKind};

/// The C call that a stack is in, nearest frame first; `None` when it is in none.
pub fn of(frames: &[Frame]) -> Option<CCall> {
    let named = |frame: &Frame, start: &str| {
        frame
            .function
            .as_deref()
            .is_some_and(|name| name.starts_with(start))
    };
    // Where Go begins. C that called Go back is not on this stack.
    let border = frames.iter().position(|frame| {
        named(frame, "runtime.asmcgocall")
            || named(frame, "runtime.cgocall")
            || wrapped(frame).is_some_and(|_| !named(frame, "_cgo_"))
    })?;
    let is_c = |frame: &&Frame| frame.kind != FrameKind::Kernel && !named(frame, "runtime.");
    let (c, go) = frames.split_at(border);
    if !c.iter().any(|frame| is_c(&frame)) {
        return None;
    }
    let function = go.iter().find_map(wrapped)?;
    // The wrapper may jump into it, and it into another: then its own frame is not there.
    let library = c
        .iter()
        .rev()
        .filter(is_c)
        .find(|frame| frame.function.as_deref().map(plain) == Some(plain(function)))
        .and_then(|frame| frame.module.as_deref().map(ToOwned::to_owned));
    Some(CCall {
        function: function.to_owned(),
        library,
        called_by: go
            .iter()
            .find(|frame| frame.kind == FrameKind::User && frame.function.is_some())
            .cloned(),
    })
}

/// The C function that a wrapper calls.
fn wrapped(frame: &Frame) -> Option<&str> {
    let name = frame.function.as_deref()?;
    let (_, function) = name
        .split_once("_Cfunc_")
        .or_else(|| name.split_once("_C2func_"))?;
    (!function.is_empty()).then_some(function)
}

/// A C function's name without what libraries and compilers add: `__GI___read`, `flush.isra.0`,
/// `read@@GLIBC_2.2.5`.
fn plain(name: &str) -> &str {
    let name = name.split(['.', '@']).next().unwrap_or(name);
    let name = name.trim_start_matches('_');
    let name = name.strip_prefix("GI_").unwrap_or(name);
    let name = name.trim_start_matches('_');
    name.strip_prefix("libc_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(list: &[(&str, &str, FrameKind)]) -> Vec<Frame> {
        let frame = |(function, module, kind): &(&str, &str, FrameKind)| Frame {
            address: 1,
            function: (!function.is_empty()).then(|| (*function).into()),
            file: None,
            line: None,
            module: Some((*module).into()),
            module_offset: None,
            kind: *kind,
            unknown_reason: None,
        };
        list.iter().map(frame).collect()
    }

    const R: FrameKind = FrameKind::Runtime;
    const U: FrameKind = FrameKind::User;

    #[test]
    fn function_library_and_caller_are_told() {
        let stack = frames(&[
            ("ep_poll", "kernel", FrameKind::Kernel),
            ("__GI___nanosleep", "libc.so.6", R),
            ("usleep", "libc.so.6", R),
            ("_cgo_53_Cfunc_usleep", "app", R),
            ("runtime.asmcgocall.abi0", "app", R),
            ("runtime.cgocall", "app", R),
            ("main._Cfunc_usleep", "app", R),
            ("main.wait", "app", U),
            ("main.main", "app", U),
        ]);
        let call = of(&stack).unwrap();
        assert_eq!(
            (&*call.function, call.library.as_deref()),
            ("usleep", Some("libc.so.6"))
        );
        assert_eq!(
            call.called_by.unwrap().function.as_deref(),
            Some("main.wait")
        );
    }

    #[test]
    fn a_function_that_jumped_on_has_no_library() {
        let stack = frames(&[
            ("___pthread_mutex_lock", "libc.so.6", R),
            ("runtime.asmcgocall", "app", R),
            ("runtime.cgocall", "app", R),
            ("main._C2func_lock_store", "app", R),
            ("main.put", "app", U),
        ]);
        let call = of(&stack).unwrap();
        assert_eq!((&*call.function, call.library), ("lock_store", None));
    }

    #[test]
    fn frames_that_are_missing_do_no_harm() {
        let stack = frames(&[
            ("read", "libc.so.6", R),
            ("", "", U),
            ("main._Cfunc_drain", "app", R),
            ("main.work", "app", U),
        ]);
        let call = of(&stack).unwrap();
        assert_eq!((&*call.function, call.library), ("drain", None));
        assert_eq!(
            call.called_by.unwrap().function.as_deref(),
            Some("main.work")
        );
    }

    #[test]
    fn stacks_of_go_alone_are_in_no_c_call() {
        let go = frames(&[
            ("runtime.futex", "app", R),
            ("runtime.cgocall", "app", R),
            ("main._Cfunc_x", "app", R),
        ]);
        assert_eq!(of(&go), None);
        assert_eq!(
            of(&frames(&[("read", "libc.so.6", R), ("work", "app", U)])),
            None
        );
        assert_eq!(of(&[]), None);
        assert_eq!(plain("__GI___libc_read"), plain("read"));
        assert_eq!(plain("flush_page.isra.0"), "flush_page");
        assert_eq!(plain("read@@GLIBC_2.2.5"), "read");
    }
}
