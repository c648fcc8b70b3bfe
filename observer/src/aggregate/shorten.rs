//! Stacks of places that hardly count: both ends, and how many frames lie between.

use crate::model::{Frame, FrameKind, Reason};

/// Frames kept at the near end.
const NEAREST: usize = 6;
/// Application frames kept at the far end: beyond them is only what runs any task.
const OUTERMOST: usize = 3;

/// The nearest frames of a stack, its site, and the outermost frames of the application; in place of
/// those that are left out between them one says how many these are. Also their number in all.
pub fn shorten(stack: &[Frame], site: Option<&Frame>) -> (Vec<Frame>, u64) {
    let outermost: Vec<usize> = stack
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, frame)| frame.kind == FrameKind::User)
        .take(OUTERMOST)
        .map(|(at, _)| at)
        .collect();
    let kept = |at: usize| at < NEAREST || outermost.contains(&at) || Some(&stack[at]) == site;
    let mut out = Vec::new();
    let mut left_out = 0;
    let mut at = 0;
    while at < stack.len() {
        let gap = (at..stack.len()).take_while(|at| !kept(*at)).count();
        match gap {
            // One frame takes no more room than what would stand for it.
            0 | 1 => out.push(stack[at].clone()),
            _ => {
                let reason = Reason::with(format!("{gap} frames are left out here"));
                out.push(Frame::missing(reason));
                left_out += gap as u64;
            }
        }
        at += gap.max(1);
    }
    (out, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(kinds: &str) -> Vec<Frame> {
        let frame = |(at, kind)| Frame {
            address: at as u64 + 1,
            function: Some(format!("f{at}").into()),
            file: None,
            line: None,
            module: Some("app".into()),
            module_offset: None,
            kind: match kind {
                'u' => FrameKind::User,
                _ => FrameKind::Runtime,
            },
            unknown_reason: None,
        };
        kinds.chars().enumerate().map(frame).collect()
    }

    fn shown(stack: &[Frame], site: Option<&Frame>) -> (Vec<String>, u64) {
        let (frames, left_out) = shorten(stack, site);
        let text = |frame: &Frame| match (&frame.function, &frame.unknown_reason) {
            (Some(name), None) => name.to_string(),
            (None, Some(reason)) => reason.to_string(),
            _ => panic!("{frame:?}"),
        };
        (frames.iter().map(text).collect(), left_out)
    }

    #[test]
    fn both_ends_and_the_site_stay_and_what_is_left_out_is_counted() {
        let long = stack("rrrrrrrrrruuuuuuuurrrruuurrrrrrrr");
        let (names, left_out) = shown(&long, Some(&long[10]));
        let expected = [
            "f0",
            "f1",
            "f2",
            "f3",
            "f4",
            "f5",
            "4 frames are left out here",
            "f10",
            "11 frames are left out here",
            "f22",
            "f23",
            "f24",
            "8 frames are left out here",
        ];
        assert_eq!(names, expected);
        let kept = names.iter().filter(|name| name.starts_with('f')).count();
        assert_eq!((left_out, kept as u64 + left_out), (23, long.len() as u64));
    }

    #[test]
    fn a_single_frame_and_short_stacks_are_not_left_out() {
        for kinds in ["", "r", "rrrrrr", "rrrrrrr", "uuuuuurr", "rrrrrrruuu"] {
            let whole = stack(kinds);
            let short = shorten(&whole, None);
            // Two frames of the runtime beyond the last application frame go.
            let gone = if kinds == "uuuuuurr" { 2 } else { 0 };
            assert_eq!(short.1, gone, "{kinds}");
            if gone == 0 {
                assert_eq!(short.0, whole);
            }
        }
    }
}
