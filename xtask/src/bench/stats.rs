//! Medians, ratios and how they are shown.

use std::fs;

use serde_json::{Value, json};

/// One case under one condition.
#[derive(Debug)]
pub struct Row {
    /// What was measured: `getppid`, `request`, ...
    pub case: String,
    /// Under which condition; the first row of a case is what the others are compared with.
    pub condition: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// One value per round.
    pub values: Vec<f64>,
}

/// All that a benchmark measured.
#[derive(Debug)]
pub struct Outcome {
    name: String,
    rounds: u16,
    rows: Vec<Row>,
}

/// Ratio to the base condition: per round, so that drift of the machine cancels out.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio {
    median: f64,
    low: f64,
    high: f64,
    mean: f64,
    /// Standard error of the mean; NaN of a single round.
    error: f64,
}

impl Outcome {
    /// Puts it together.
    pub fn new(name: String, rounds: u16, rows: Vec<Row>) -> Self {
        Self { name, rounds, rows }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut lines = vec![
            format!("{}: {} rounds; {}", self.name, self.rounds, machine()),
            format!(
                "{:<18} {:<20} {:>10} {:<14} {:>8} {:>17} {:>16}",
                "case", "condition", "median", "unit", "ratio", "ratio's range", "its mean"
            ),
        ];
        for row in &self.rows {
            let ratio = self.ratio(row).map_or_else(String::new, |ratio| {
                format!(
                    "{:>8.3} {:>8.3}..{:<7.3} {:>7.3} +- {:.3}",
                    ratio.median, ratio.low, ratio.high, ratio.mean, ratio.error
                )
            });
            let line = format!(
                "{:<18} {:<20} {:>10.1} {:<14} {ratio}",
                row.case,
                row.condition,
                median(&row.values),
                row.unit
            );
            lines.push(line.trim_end().to_owned());
        }
        lines.join("\n")
    }

    /// For programs.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let ratio = self.ratio(row).map(|r| {
                    json!({"median": r.median, "low": r.low, "high": r.high,
                                    "mean": r.mean, "standard_error": r.error})
                });
                json!({
                    "case": row.case, "condition": row.condition, "unit": row.unit,
                    "median": median(&row.values), "values": row.values, "ratio": ratio,
                })
            })
            .collect();
        json!({"bench": self.name, "machine": machine(), "rounds": self.rounds, "rows": rows})
            .to_string()
    }

    fn ratio(&self, row: &Row) -> Option<Ratio> {
        let base = self.rows.iter().find(|base| base.case == row.case)?;
        if base.condition == row.condition {
            return None;
        }
        let ratios: Vec<f64> = base
            .values
            .iter()
            .zip(&row.values)
            .map(|(base, value)| value / base)
            .collect();
        let (mean, error) = mean(&ratios);
        Some(Ratio {
            mean,
            error,
            median: median(&ratios),
            low: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            high: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// The middle value; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// Kernel, processor and number of CPUs.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "Linux {}, {} CPUs, {}",
        kernel.trim(),
        cpus,
        model.map_or("unknown processor", |(_, model)| model)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(condition: &str, values: &[f64]) -> Row {
        Row {
            case: "case".to_owned(),
            condition: condition.to_owned(),
            unit: "ns",
            values: values.to_vec(),
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_per_round() {
        let rows = vec![
            row("none", &[100.0, 200.0, 300.0]),
            row("sched", &[110.0, 220.0, 360.0]),
        ];
        let outcome = Outcome::new("x".to_owned(), 3, rows);
        assert_eq!(outcome.ratio(&outcome.rows[0]), None);
        let ratio = outcome.ratio(&outcome.rows[1]).unwrap();
        assert!(
            (ratio.median - 1.1).abs() < 1e-9 && (ratio.high - 1.2).abs() < 1e-9,
            "{ratio:?}"
        );
        // Deviations -1/30, -1/30 and 2/30: variance 1/300, over three rounds.
        let error = (1.0_f64 / 300.0 / 3.0).sqrt();
        assert!(
            (ratio.mean - 3.4 / 3.0).abs() < 1e-9 && (ratio.error - error).abs() < 1e-9,
            "{ratio:?}"
        );
    }
}
