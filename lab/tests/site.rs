//! The lab itself, without the product: who reaches whom, as what, and that it goes when its maker goes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::echo::http::blob_sha256;
use lab::echo::seen::Protocol;
use lab::family::Dual;
use lab::oracle::Class;
use lab::site::Site;
use lab::stack::Lab;
use lab::topology::{POD_A, POD_C, PODS, WORLD, WORLD_EXCLUDED};
use lab::traffic::{Expected, Traffic, url};
use lab::wait::{PATIENCE, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn without_the_product_every_pod_leaves_as_its_node() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    let mut traffic = Traffic::default();
    for pod in PODS {
        for to in [WORLD, WORLD_EXCLUDED].into_iter().flat_map(Dual::both) {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
                let flow = traffic.plan(pod, protocol, to, Expected::Node);
                traffic.open(&lab, &flow)?;
            }
        }
    }
    for judged in traffic.judge(&lab)? {
        assert!(judged.is_right(), "{judged:?}");
    }
    let report = lab.report()?;
    report.require_clean()?;
    assert!(report.count(Class::Node) > 0, "{report}");
    assert_eq!(report.count(Class::EgressIp) + report.count(Class::Tunnel), 0, "{report}");
    Ok(())
}

#[test]
fn pods_reach_each_other_across_nodes_with_their_own_addresses() -> Result<()> {
    let lab = Lab::start(Site::default())?;
    for to in POD_A.address.both() {
        lab.host(POD_C.name)?.run(&["ping", "-c", "1", "-W", "2", &to.to_string()])?;
    }
    let report = lab.report()?;
    report.require_clean()?;
    assert_eq!(report.count(Class::Cluster), 4, "{report}");
    Ok(())
}

#[test]
fn a_megabyte_arrives_unchanged_in_both_directions() -> Result<()> {
    const BYTES: u64 = 1_000_000;
    let lab = Lab::start(Site::default())?;
    let pod = lab.host(POD_A.name)?;
    let expected = blob_sha256(BYTES);
    for world in WORLD.both() {
        let url = format!("{}/blob", url(world));
        let get = format!("{url}?bytes={BYTES}");
        pod.run(&["curl", "-sSf", "-m", "30", "-o", "/run/blob", &get])?;
        let received = pod.run(&["sha256sum", "/run/blob"])?;
        let answer = pod.run(&["curl", "-sSf", "-m", "30", "-T", "/run/blob", &url])?;
        assert!(received.starts_with(&expected), "{url}: {received}");
        assert!(answer.contains(&expected) && answer.contains(&BYTES.to_string()), "{answer}");
    }
    lab.report()?.require_clean()
}

#[test]
fn a_killed_lab_leaves_no_process_and_no_mount() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let (mut keeper, state) = keep()?;
        let inside = processes_inside(&state)?;
        assert!(inside.len() > 10, "holders, daemons and process 1 of the lab: {inside:?}");
        kill(Pid::from_raw(keeper.id().cast_signed()), signal)?;
        keeper.wait()?;
        until(&format!("all is gone after {signal}"), PATIENCE, || {
            let left: Vec<_> = inside.iter().filter(|process| process.exists()).collect();
            ensure!(left.is_empty(), "{left:?} still there");
            Ok(())
        })?;
        assert_eq!(fs::read_to_string("/proc/self/mounts")?, mounts);
        // SIGKILL leaves the file; nobody holds its lock, so the next lab may have it
        let _ = fs::remove_file(&state);
    }
    Ok(())
}

/// A lab that another process has made and keeps, and the file that says what is in it.
fn keep() -> Result<(Child, PathBuf)> {
    let state = std::env::temp_dir().join(format!("lab-test-{}", std::process::id()));
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["keep", "--bare"])
        .env("LAB_STATE", &state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(keeper.stdout.take().context("stdout")?);
    let ready = output.lines().any(|line| line.is_ok_and(|line| line == "ready"));
    ensure!(ready, "the lab did not start");
    Ok((keeper, state))
}

/// Of the whole machine, those in the PID namespace of the lab's hosts, as folders of /proc.
fn processes_inside(state: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(state)?;
    let holder = text.lines().nth(1).and_then(|line| line.split(' ').nth(1)).context("no host")?;
    let namespace = fs::read_link(format!("/proc/{holder}/ns/pid"))?;
    let mut inside = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        if fs::read_link(path.join("ns/pid")).is_ok_and(|other| other == namespace) {
            inside.push(path);
        }
    }
    Ok(inside)
}
