use std::process::ExitCode;

fn main() -> ExitCode {
    perf::suite::main()
}
