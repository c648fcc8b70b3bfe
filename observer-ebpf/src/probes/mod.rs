//! One hook family per file: a thin entry function for each mechanism, in the order in which the
//! user side tries them (tp_btf, raw tracepoint, tracepoint), and one `try_` function.

mod go_runtime;
mod process;
mod sample;
mod seed;
mod switch;
mod syscall;
mod tokio;
mod user_stack;
mod wakeup;

pub use user_stack::copy_user_stack;
