use std::process::ExitCode;

fn main() -> ExitCode {
    perf::cli::main()
}
