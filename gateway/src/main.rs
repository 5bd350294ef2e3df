//! `egress-gateway`
use std::process::ExitCode;
fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let text =
        std::fs::read_to_string(std::env::args().nth(3).unwrap_or_default()).unwrap_or_default();
    let config = match gateway::config::Config::parse(&text) {
        Ok((config, _)) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    #[cfg(feature = "dpdk")]
    if let Err(error) = gateway::run::run(config) {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
