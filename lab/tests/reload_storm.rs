//! Ten reloads a second under traffic: no packet of a flow that is still allowed is lost or changes its source, none of a removed policy leaves.

use anyhow::{Result, ensure};
use lab::site::Site;
use lab::storm::Storm;

const A_SECOND: u32 = 10;

fn require_calm(site: Site, reloads: u32) -> Result<()> {
    let outcome = Storm { site, reloads, replace_at: None }.run()?;
    println!("{outcome}");
    let findings = outcome.findings();
    let lost = outcome.machine_lost();
    ensure!(findings.is_empty(), "{findings:#?}\nthe machine itself lost {lost}\n{outcome}");
    Ok(())
}

#[test]
fn flows_notice_nothing_of_ten_reloads_a_second() -> Result<()> {
    require_calm(Site::default(), 5 * A_SECOND)
}

#[test]
fn nor_do_they_with_two_workers() -> Result<()> {
    require_calm(Site { workers: 2, ..Site::default() }, 5 * A_SECOND)
}

#[test]
#[ignore = "a whole minute"]
fn flows_notice_nothing_for_a_minute() -> Result<()> {
    require_calm(Site::default(), 60 * A_SECOND)
}

#[test]
#[ignore = "a whole minute"]
fn nor_do_they_for_a_minute_with_two_workers() -> Result<()> {
    require_calm(Site { workers: 2, ..Site::default() }, 60 * A_SECOND)
}

/// The same storm, but for one reload after which the payments have another egress IP: the judgement has to see that, in each protocol.
#[test]
fn a_reload_that_does_change_a_flow_is_found() -> Result<()> {
    let storm = Storm { site: Site::default(), reloads: 20, replace_at: Some(12) };
    let findings = storm.run()?.findings();
    for (flow, what) in [
        ("UDP of pod-a over IPv4", "its source changed"),
        ("UDP of pod-d over IPv6", "its source changed"),
        ("ICMP of pod-a over IPv6", "its source changed"),
        ("TCP of pod-d over IPv4", "records came back"),
        ("203.0.113.16", "were sent"),
    ] {
        let found = findings.iter().any(|text| text.starts_with(flow) && text.contains(what));
        ensure!(found, "{flow}: {what}: not in {findings:#?}");
    }
    // the other policy's flows, in the same storm, were left alone
    let of_crawler = findings.iter().filter(|text| text.contains("pod-c"));
    ensure!(of_crawler.count() == 0, "{findings:#?}");
    Ok(())
}
