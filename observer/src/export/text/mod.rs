//! Text for a terminal of 100 columns: units, cleaning, wrapping and tables.

pub mod clean;
pub mod table;
pub mod units;
pub mod wrap;

/// No line is longer than this.
pub const WIDTH: usize = 100;
