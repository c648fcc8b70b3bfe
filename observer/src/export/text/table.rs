//! Tables in plain ASCII that always fit: numbers are never cut, texts give way, widest first.

use super::WIDTH;
use super::clean::{clean, fit, width};
use super::wrap::push_line;
use comfy_table::{Cell, CellAlignment, Table as Grid, TableComponent, presets};

/// How a column behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Right-aligned, never cut.
    Number,
    /// Left-aligned, cut in the middle when the table is too wide.
    Text,
}

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Column)>,
    rows: Vec<Vec<String>>,
}

/// Spaces before the first column.
const INDENT: usize = 2;
/// Spaces between columns.
const GAP: usize = 2;
/// Texts are not cut below this.
const LEAST: usize = 8;

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&'static str, Column)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells are cleaned here.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        let keep_joined = |cell: String| {
            // Numbers come with no-break spaces of our own.
            cell.split(super::units::NBSP)
                .map(clean)
                .collect::<Vec<_>>()
                .join("\u{a0}")
        };
        self.rows.push(cells.into_iter().map(keep_joined).collect());
    }

    /// The table as lines, or nothing when it has no rows.
    pub fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths = self.fitted_widths();
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING);
        grid.set_style(TableComponent::HeaderLines, '-');
        grid.set_header(
            self.columns
                .iter()
                .map(|(name, kind)| Cell::new(name).set_alignment(align(*kind))),
        );
        for row in &self.rows {
            grid.add_row(row.iter().zip(&widths).zip(&self.columns).map(
                |((cell, width), (_, kind))| {
                    let text = if *kind == Column::Number {
                        cell.clone()
                    } else {
                        fit(cell, *width)
                    };
                    Cell::new(text).set_alignment(align(*kind))
                },
            ));
        }
        for column in grid.column_iter_mut() {
            column.set_padding((0, GAP as u16));
        }
        let mut out = String::new();
        for line in grid.lines() {
            let mut indented = " ".repeat(INDENT);
            let line = line.trim_end();
            // The rule under the headings runs on below the padding of the last column.
            let rule = !line.is_empty() && line.bytes().all(|byte| byte == b'-');
            let end = if rule {
                line.len().saturating_sub(GAP)
            } else {
                line.len()
            };
            indented.push_str(line.get(..end).unwrap_or(line));
            push_line(&mut out, &indented);
        }
        out
    }

    fn fitted_widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(i));
                cells
                    .map(|cell| width(cell))
                    .chain([width(name)])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        // The padding of the last column is trimmed.
        let room = WIDTH - INDENT - GAP * self.columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() > room {
            let widest = (0..widths.len())
                .filter(|i| self.columns[*i].1 == Column::Text && widths[*i] > LEAST)
                .max_by_key(|i| widths[*i]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        widths
    }
}

fn align(kind: Column) -> CellAlignment {
    match kind {
        Column::Number => CellAlignment::Right,
        Column::Text => CellAlignment::Left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_give_way_and_numbers_do_not() {
        let mut table = Table::new(&[
            ("name", Column::Text),
            ("where", Column::Text),
            ("total", Column::Number),
        ]);
        table.row([
            "n".repeat(300),
            "w".repeat(80),
            "123\u{a0}456\u{a0}789".to_owned(),
        ]);
        table.row(["a".to_owned(), "b\u{1b}[0m".to_owned(), "1".to_owned()]);
        let text = table.render();
        assert!(text.lines().all(|line| width(line) <= WIDTH), "{text}");
        assert!(text.contains("123 456 789"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
