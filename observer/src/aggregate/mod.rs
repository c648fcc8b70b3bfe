//! Sums: a ledger of waits while observing, a roll-up of it for the report.

pub mod c_call;
pub mod calls;
pub mod census;
pub mod describe;
pub mod histogram;
pub mod ledger;
pub mod rollup;
mod task_shares;
pub mod transitions;
