//! Anybody else's NAT: a command line that makes two memif servers and forwards between them.
//!
//! It is run by `sh`, has to stay in the foreground, and is ended by SIGTERM, with all of its process
//! group. What it is to forward it learns from its environment; every variable is a single value:
//!
//! | variable | value |
//! |---|---|
//! | `EGRESS_PERF_TUNNEL_SOCKET` | socket file of the memif server towards the nodes: it has to make it (id 0, no secret, one queue pair) |
//! | `EGRESS_PERF_EXTERNAL_SOCKET` | the same towards the world; with both there it is taken to be ready |
//! | `EGRESS_PERF_CORE` | the CPU that is its own; it may use all but the generator's |
//! | `EGRESS_PERF_TUNNEL_ADDRESS` | 192.0.2.200/24: its VTEP |
//! | `EGRESS_PERF_EXTERNAL_ADDRESS` | 203.0.113.2/24 |
//! | `EGRESS_PERF_ROUTER` | 203.0.113.1: next hop of all that leaves; it answers ARP |
//! | `EGRESS_PERF_EGRESS_FIRST`, `EGRESS_PERF_EGRESS_LAST` | 203.0.113.16, .31: what sources become. It has to answer ARP for them |
//! | `EGRESS_PERF_VXLAN_PORT`, `EGRESS_PERF_VNI` | 4790, 4711 |
//! | `EGRESS_PERF_NODE` | 192.0.2.1: the first VTEP of the nodes; they answer ARP |
//! | `EGRESS_PERF_NODES` | how many there are: .1, .2, … A pod is at the one that is its address modulo this |
//! | `EGRESS_PERF_PODS`, `EGRESS_PERF_REMOTES` | 10.0.0.0/8, 198.18.0.0/15 |
//! | `EGRESS_PERF_INNER_MAC` | destination of the frames in the tunnel that come to it; it may send any |
//! | `EGRESS_PERF_FLOWS` | how many sessions it needs room for |
//! | `EGRESS_PERF_UDP_TIMEOUT` | seconds for which it is to keep idle sessions |
//! | `EGRESS_PERF_FOLDER` | a folder for its files, which goes with it |

use super::{Io, Place, Sample, System, cable::Cable, folder, keeper::Keeper, process::Process};
use crate::plan;
use anyhow::{Context, Result, ensure};
use gateway::wire::MacAddress;
use std::{path::Path, process::Command, time::Duration};

const START: Duration = Duration::from_secs(60);

/// What a peer has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub command: String,
    pub flows: u32,
    /// 1 to [`plan::MAX_NODES`].
    pub nodes: u32,
    /// Seconds.
    pub udp_timeout: u32,
}

/// A peer that runs.
#[derive(Debug)]
pub struct Peer {
    name: String,
    process: Process,
    cable: Cable,
    _keeper: Keeper,
}

/// Starts it, and waits until both sockets are there.
///
/// # Errors
/// When they do not come, or it ends before: the message ends with its last lines.
pub fn start(options: &Options, place: &Place) -> Result<Peer> {
    let name = name(&options.command).context("the peer's command is empty")?;
    let mut keeper = Keeper::start()?;
    let folder = folder("peer", &mut keeper)?;
    let cable = Cable::make(Io::Memif, place, 1, &folder, &mut keeper)?;
    let mut command: Command = cable.command(place)?;
    command.args(["sh", "-c", &options.command]).current_dir(&folder);
    command.envs(environment(options, place.core()?, &cable, &folder));
    let mut process = Process::start("peer", command, &folder, &mut keeper)?;
    process.wait_until("its memif sockets", START, |_| Ok(cable.has_sockets()))?;
    Ok(Peer { name, process, cable, _keeper: keeper })
}

fn environment(
    options: &Options,
    core: usize,
    cable: &Cable,
    folder: &Path,
) -> Vec<(String, String)> {
    let [tunnel, external] = cable.sockets();
    let ((pods, pods_length), (remotes, remotes_length)) = (plan::PODS, plan::REMOTES);
    let values = [
        ("TUNNEL_SOCKET", tunnel.display().to_string()),
        ("EXTERNAL_SOCKET", external.display().to_string()),
        ("CORE", core.to_string()),
        ("TUNNEL_ADDRESS", format!("{}/24", plan::TUNNEL)),
        ("EXTERNAL_ADDRESS", format!("{}/24", plan::EXTERNAL)),
        ("ROUTER", plan::ROUTER.to_string()),
        ("EGRESS_FIRST", plan::EGRESS_IPS[0].to_string()),
        ("EGRESS_LAST", plan::EGRESS_IPS[1].to_string()),
        ("VXLAN_PORT", plan::VXLAN_PORT.to_string()),
        ("VNI", plan::POLICY.to_string()),
        ("NODE", plan::node(0).to_string()),
        ("NODES", options.nodes.to_string()),
        ("PODS", format!("{pods}/{pods_length}")),
        ("REMOTES", format!("{remotes}/{remotes_length}")),
        ("INNER_MAC", MacAddress(plan::INNER_MAC).to_string()),
        ("FLOWS", options.flows.to_string()),
        ("UDP_TIMEOUT", options.udp_timeout.to_string()),
        ("FOLDER", folder.display().to_string()),
    ];
    values.map(|(name, value)| (format!("EGRESS_PERF_{name}"), value)).into()
}

/// The file name of the command's first word that is not an assignment.
fn name(command: &str) -> Option<String> {
    let word = command.split_whitespace().find(|word| !word.contains('='))?;
    Some(Path::new(word).file_name()?.to_str()?.to_owned())
}

impl System for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn devices(&self) -> ([String; 2], Vec<String>) {
        (self.cable.generator().clone(), Vec::new())
    }

    fn ready(&mut self) -> Result<()> {
        self.process.is_alive()
    }

    fn sample(&mut self) -> Result<Option<Sample>> {
        self.process.is_alive()?;
        Ok(None)
    }

    fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// Nobody can tell it to.
    fn flush(&mut self) -> Result<Option<f64>> {
        ensure!(self.process.is_alive().is_ok(), "{} has ended", self.name);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_called_as_its_program() {
        for (command, expected) in [
            ("vpp -c it.conf", "vpp"),
            ("A=1 B=2 /opt/nat/bin/fast-nat --now", "fast-nat"),
            ("./x.sh", "x.sh"),
        ] {
            assert_eq!(name(command).as_deref(), Some(expected));
        }
        assert_eq!(name("  "), None);
    }

    /// The table above names all that it gets, and no more.
    #[test]
    fn every_variable_is_documented() {
        let text = include_str!("peer.rs");
        let table: String = text.lines().filter(|line| line.starts_with("//! |")).collect();
        let named: std::collections::BTreeSet<&str> =
            table.split('`').filter(|word| word.starts_with("EGRESS_PERF_")).collect();
        let folder = tempfile::tempdir().unwrap();
        let place = Place { cores: vec![1], generator_core: 0, hugepages: false, tsc_hz: 0 };
        let mut keeper = Keeper::start().unwrap();
        let cable = Cable::make(Io::Memif, &place, 1, folder.path(), &mut keeper).unwrap();
        let options = Options { command: "x".to_owned(), flows: 1, nodes: 1, udp_timeout: 1 };
        let given = environment(&options, 1, &cable, folder.path());
        let given: std::collections::BTreeSet<&str> =
            given.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(named, given);
    }
}
