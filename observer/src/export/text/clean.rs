//! Names come from the observed process and from file names: they may hold anything. Here they
//! lose the power to move the cursor, colour the terminal, or reverse the line, and get shorter.

use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar;

/// Columns of a text. What has no width counts as one column: an upper bound is what fitting needs.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Columns of a character, at least one.
pub(super) fn char_width(c: char) -> usize {
    c.width().unwrap_or(1).max(1)
}

/// Control characters, line breaks, and marks that change direction or do not show, as `\u{..}`.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{a0}' => out.push(' '),
            c if c.is_control() => hex(&mut out, c),
            '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => hex(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

fn hex(out: &mut String, c: char) {
    // Writing to a String does not fail.
    if write!(out, "\\u{{{:x}}}", u32::from(c)).is_err() {
        out.push('?');
    }
}

/// Cleans, then cuts the middle out of what is wider than `max`: both ends of a path or a function
/// name tell more than its middle, and the end a little more than the start.
pub fn fit(text: &str, max: usize) -> String {
    const GAP: &str = "...";
    let text = clean(text);
    if width(&text) <= max {
        return text;
    }
    let room = max.saturating_sub(GAP.len());
    let tail_room = room - room * 2 / 5;
    let head = take(text.chars(), room - tail_room);
    let mut tail = take(text.chars().rev(), tail_room);
    tail.reverse();
    let mut out: String = head.into_iter().collect();
    out.push_str(GAP.get(..GAP.len().min(max)).unwrap_or_default());
    out.extend(tail);
    out
}

fn take(chars: impl Iterator<Item = char>, room: usize) -> Vec<char> {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += char_width(*c);
            used <= room
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_lose_their_power() {
        assert_eq!(
            clean("\u{1b}[31mred\u{7}\r\n"),
            "\\u{1b}[31mred\\u{7}\\u{d}\\n"
        );
        assert_eq!(clean("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(clean("plain — ünïcode"), "plain — ünïcode");
    }

    #[test]
    fn the_middle_goes_and_the_ends_stay() {
        let check = |text: &str, max, expected: &str| {
            let fitted = fit(text, max);
            assert_eq!(fitted, expected);
            assert!(width(&fitted) <= max.max(width(expected)));
        };
        check("short", 10, "short");
        check(
            "demo_app::handlers::clicks::append",
            20,
            "demo_a...cks::append",
        );
        check("abcdef", 3, "...");
        check("abcdef", 1, ".");
        check("漢字漢字漢字漢字", 10, "漢...漢字");
    }
}
