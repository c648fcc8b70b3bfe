//! Numbers as people read them: three significant digits and a unit, thousands apart.
//!
//! A no-break space joins a number and its unit (and its groups of digits), so that wrapping does
//! not part them; [`super::wrap`] prints it as a plain space.

/// Joins what must stay on one line.
pub const NBSP: char = '\u{a0}';

/// A count with its thousands apart: `1 832`.
pub fn count(n: u64) -> String {
    if n >= 1_000_000_000_000 {
        return format!("{:.2e}", n as f64);
    }
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + 4);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(NBSP);
        }
        out.push(digit);
    }
    out
}

/// `1 wait`, `1 832 waits`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{}{NBSP}{}", count(n), if n == 1 { one } else { many })
}

/// A duration: `450 ns`, `12.3 µs`, `8.20 ms`, `9.10 s`, `16 min 40 s`, `3 h 25 min`, `2 d 3 h`.
pub fn duration(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    // The limits are where three digits would round up into the next unit.
    match ns {
        0..1_000 => format!("{ns}{NBSP}ns"),
        1_000..999_500 => three_digits(ns, 1_000, "µs"),
        999_500..999_500_000 => three_digits(ns, 1_000_000, "ms"),
        999_500_000..999_500_000_000 => three_digits(ns, SECOND, "s"),
        _ => {
            let s = ns / SECOND + u64::from(ns % SECOND >= SECOND / 2);
            let (a, unit_a, b, unit_b) = match s {
                0..3_600 => (s / 60, "min", s % 60, "s"),
                3_600..86_400 => (s / 3_600, "h", s % 3_600 / 60, "min"),
                _ => (s / 86_400, "d", s % 86_400 / 3_600, "h"),
            };
            format!("{}{NBSP}{unit_a}{NBSP}{b}{NBSP}{unit_b}", count(a))
        }
    }
}

fn three_digits(value: u64, unit: u64, name: &str) -> String {
    let scaled = value as f64 / unit as f64;
    let decimals = if scaled < 9.995 {
        2
    } else if scaled < 99.95 {
        1
    } else {
        0
    };
    format!("{scaled:.decimals$}{NBSP}{name}")
}

/// A share of one as percent. What is not nothing is not shown as 0 %, and what is not all is not
/// shown as 100 %.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 {
        format!("<1{NBSP}%")
    } else if percent > 99.0 && percent < 100.0 {
        format!(">99{NBSP}%")
    } else {
        format!("{percent:.0}{NBSP}%")
    }
}

/// A size in binary units: `31.0 MiB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n}{NBSP}B"),
        1_024..1_048_576 => three_digits(n, 1 << 10, "KiB"),
        1_048_576..1_073_741_824 => three_digits(n, 1 << 20, "MiB"),
        _ => three_digits(n, 1 << 30, "GiB"),
    }
}

/// A share of one as a bar: at least one mark for what is not nothing.
pub fn bar(share: f64, width: usize) -> String {
    let exact = share.clamp(0.0, 1.0) * width as f64;
    let marks = if share > 0.0 {
        (exact.round() as usize).max(1)
    } else {
        0
    };
    "#".repeat(marks)
}

/// `part` of `whole`; nothing of nothing is nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.replace(NBSP, " ")
    }

    #[test]
    fn durations_have_three_digits_and_never_a_thousand_of_a_unit() {
        let check = |ns, expected: &str| assert_eq!(plain(&duration(ns)), expected);
        check(0, "0 ns");
        check(999, "999 ns");
        check(1_000, "1.00 µs");
        check(12_345, "12.3 µs");
        check(999_499, "999 µs");
        check(999_500, "1.00 ms");
        check(8_200_000, "8.20 ms");
        check(31_000_000, "31.0 ms");
        check(999_499_999, "999 ms");
        check(999_500_000, "1.00 s");
        check(9_996_000_000, "10.0 s");
        check(99_960_000_000, "100 s");
        check(999_499_999_999, "999 s");
        check(999_500_000_000, "16 min 40 s");
        check(12_300_000_000_000, "3 h 25 min");
        check(183_600_000_000_000, "2 d 3 h");
        check(u64::MAX, "213 503 d 23 h");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        let check = |n, expected: &str| assert_eq!(plain(&count(n)), expected);
        check(0, "0");
        check(999, "999");
        check(1_832, "1 832");
        check(1_234_567, "1 234 567");
        check(u64::MAX, "1.84e19");
    }

    #[test]
    fn percents_do_not_lie_at_the_ends() {
        let check = |share, expected: &str| assert_eq!(plain(&percent(share)), expected);
        check(0.0, "0 %");
        check(0.000_1, "<1 %");
        check(0.37, "37 %");
        check(0.999, ">99 %");
        check(1.0, "100 %");
    }

    #[test]
    fn bars_show_what_is_not_nothing() {
        assert_eq!(bar(0.0, 20), "");
        assert_eq!(bar(0.001, 20), "#");
        assert_eq!(bar(1.0, 20).len(), 20);
        assert_eq!(bar(7.0, 20).len(), 20);
    }
}
