//! The `observer` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(observer::app::main(std::env::args_os()).code())
}
