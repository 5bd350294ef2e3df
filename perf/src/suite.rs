//! What is measured, in which order.

use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).cloned()
    };
    let result = match words.first().map(String::as_str) {
        Some("generate") => crate::generator::generate(),
        Some("router") => crate::generator::router(
            &after("--tunnel").unwrap_or_default(),
            &after("--external").unwrap_or_default(),
            after("--core").and_then(|core| core.parse().ok()).unwrap_or(0),
            !words.iter().any(|word| word == "--no-huge"),
            &after("--eal-arg").into_iter().collect::<Vec<_>>(),
        ),
        _ => Err(anyhow::anyhow!("egress-perf generate|router")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
