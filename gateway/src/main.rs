//! The command `egress-gateway`. See the library for how the gateway works.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
