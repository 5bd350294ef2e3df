//! The demo is a test as well: it fails by itself when anything is not as promised.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::family::Family;

/// Flows in each family that must leave as an egress IP: three pods by three protocols and four more of one pod, one to an excluded
/// destination of another policy, and the bulk in both directions.
const FLOWS: usize = 9 + 4 + 1 + 2;

#[test]
fn the_demo_shows_every_flow_as_its_egress_ip() -> Result<()> {
    for workers in [1, 2] {
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["demo", "--bytes", "1000000", "--workers", &workers.to_string()])
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{workers} workers: {text}{errors}");
        let last = text.lines().last().context("it says nothing")?;
        let all = FLOWS * Family::BOTH.len();
        assert_eq!(last, format!("demo: {all} of {all} pod flows left as their egress IP"));
    }
    Ok(())
}
