//! Sums: a ledger of waits while observing, a roll-up of it for the report.

pub mod c_call;
pub mod calls;
pub mod census;
pub mod cpu;
pub mod cpu_rollup;
pub mod describe;
#[cfg(test)]
mod fake_names;
pub mod histogram;
mod holders;
pub mod ledger;
mod legality;
mod parts;
pub mod polls;
pub mod rollup;
mod shorten;
mod task_shares;
pub mod transitions;
mod waiting;
pub mod workers;
