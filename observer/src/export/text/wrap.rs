//! Paragraphs: words on lines of at most [`super::WIDTH`] columns.

use super::WIDTH;
use super::clean::{char_width, width};
use super::units::NBSP;

/// `text` on lines that start with `first` and then `rest` (both cleaned already).
pub fn paragraph(text: &str, first: &str, rest: &str) -> String {
    let mut out = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let joint = usize::from(!empty);
        if !empty && width(&line) + joint + width(word) > WIDTH {
            push_line(&mut out, &line);
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        for c in word.chars() {
            // Only a word that is wider than a whole line is broken.
            if width(&line) + char_width(c) > WIDTH {
                push_line(&mut out, &line);
                rest.clone_into(&mut line);
            }
            line.push(c);
        }
        empty = false;
    }
    push_line(&mut out, &line);
    out
}

/// One line, without trailing space, its no-break spaces made plain.
pub(super) fn push_line(out: &mut String, line: &str) {
    out.push_str(
        line.trim_end_matches([' ', NBSP])
            .replace(NBSP, " ")
            .as_str(),
    );
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_with_their_units() {
        let text = format!("{} 1{NBSP}832{NBSP}waits", "x".repeat(90));
        assert_eq!(
            paragraph(&text, "  ", "  "),
            format!("  {}\n  1 832 waits\n", "x".repeat(90))
        );
    }

    #[test]
    fn a_word_wider_than_the_line_is_broken() {
        let text = "y".repeat(250);
        let lines = paragraph(&text, "- ", "  ");
        assert!(lines.lines().all(|line| line.len() <= WIDTH), "{lines}");
        assert_eq!(lines.matches('y').count(), 250);
    }

    #[test]
    fn nothing_is_an_empty_line() {
        assert_eq!(paragraph("", "  ", "  "), "\n");
    }
}
