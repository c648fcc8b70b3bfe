//! Durations on the command line: `500ms`, `10s`, `5m`, `1h`; a bare number is seconds.

use std::time::Duration;

/// Longest duration that is accepted, so that everything here is bounded in time.
const MAX: Duration = Duration::from_hours(24);

/// Parses a duration; it must be positive and at most 24 hours.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other:?}: use ms, s, m or h")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a number with a unit"))?;
    let parsed = Duration::try_from_secs_f64(number * unit)
        .map_err(|error| format!("{text:?} is not a duration: {error}"))?;
    if parsed.is_zero() || parsed > MAX {
        return Err(format!("{text:?} must be more than 0 and at most 24h"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(parse("3m"), Ok(Duration::from_mins(3)));
        assert_eq!(parse("1h"), Ok(Duration::from_hours(1)));
    }

    #[test]
    fn rejected() {
        for text in [
            "", "s", "0", "-1s", "5 s", "10d", "25h", "nan", "inf", "1e300h",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
