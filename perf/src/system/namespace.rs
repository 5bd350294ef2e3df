//! A network namespace of its own, with a /sys that shows it and a bpf file system: the other ends of
//! two veths whose near ends are the generator's.
//!
//! ```text
//! this namespace                         the system's
//! egwPID-Nt ─────────── veth ─────────── tun0
//! egwPID-Nx ─────────── veth ─────────── ext0
//! ```
//!
//! Frames are for DPDK's packet sockets alone: behind these every frame is dropped, so that no kernel answers,
//! or forwards to the world what was meant for a measurement. Offloads are off, for a packet socket takes
//! neither partial checksums nor 64 KiB frames.

use super::{
    keeper::{Keeper, quoted},
    place::{Place, mask},
    process::{Process, script},
};
use anyhow::{Context, Result};
use std::{
    path::Path,
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// The system's ends.
pub(super) const TUNNEL: &str = "tun0";
pub(super) const EXTERNAL: &str = "ext0";

/// Lives as long as this process, which holds it.
const HOLDER: &str = "mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo ready
exec sleep infinity";

static NUMBER: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub(super) struct Namespace {
    holder: Process,
    /// The generator's ends, tunnel and external.
    ends: [String; 2],
}

impl Namespace {
    /// With veths of so many queues.
    pub(super) fn make(
        place: &Place,
        queues: usize,
        folder: &Path,
        keeper: &mut Keeper,
    ) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-euc", HOLDER]);
        let mut holder = Process::start("namespace", command, folder, keeper)?;
        let ready = |it: &mut Process| Ok(it.said().lines().any(|line| line == "ready"));
        holder
            .wait_until("a network namespace", Duration::from_secs(5), ready)
            .context("network namespaces want root")?;
        let name = format!("egw{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let ends = ["t", "x"].map(|side| format!("{name}{side}"));
        let namespace = Namespace { holder, ends };
        namespace.cable(&name, place, queues, keeper)?;
        Ok(namespace)
    }

    /// The generator's ends, tunnel and external.
    pub(super) fn generator_ends(&self) -> &[String; 2] {
        &self.ends
    }

    /// Begins a command in it; its words are still to come.
    pub(super) fn enter(&self, mut command: Command) -> Command {
        let pid = self.holder.pid().to_string();
        command.args(["nsenter", "--target", &pid, "--net", "--mount", "--"]);
        command
    }

    /// Runs a script in it, which has to succeed.
    pub(super) fn run(&self, text: &str) -> Result<String> {
        script(self.enter(Command::new("env")), text)
    }

    /// Drops, in the system's namespace, what its packet sockets have seen.
    pub(super) fn drop_behind_sockets(&self) -> Result<()> {
        self.run(&drop_all("behind_sockets", [TUNNEL, EXTERNAL])).map(drop)
    }

    fn cable(&self, name: &str, place: &Place, queues: usize, keeper: &mut Keeper) -> Result<()> {
        let pid = self.holder.pid();
        // nft takes no `-` in a name.
        let table = name.replace('-', "_");
        for end in &self.ends {
            keeper.finally(&format!("ip link del {}", quoted(end)))?;
        }
        keeper.finally(&format!("nft delete table netdev {table}"))?;
        let generator_cpu = mask(&[place.generator_core]);
        let [tunnel, external] = &self.ends;
        let mut text = String::new();
        for (end, far) in [(tunnel, TUNNEL), (external, EXTERNAL)] {
            text += &format!(
                "ip link add {end} numrxqueues {queues} numtxqueues {queues} type veth \
                 peer name {far} numrxqueues {queues} numtxqueues {queues} netns {pid}
echo 1 > /proc/sys/net/ipv6/conf/{end}/disable_ipv6
{}",
                offloads_off(end)
            );
        }
        text += &drop_all(&table, [tunnel, external]);
        text += &steer([tunnel, external], queues, &generator_cpu);
        text += &format!("ip link set {tunnel} up\nip link set {external} up\n");
        script(Command::new("env"), &text)?;

        let mut text = String::new();
        for far in [TUNNEL, EXTERNAL] {
            text += &format!("echo 1 > /proc/sys/net/ipv6/conf/{far}/disable_ipv6\n");
            text += &offloads_off(far);
            text += &format!("ip link set {far} up\n");
        }
        text += &steer([TUNNEL, EXTERNAL], queues, &mask(&place.cores));
        self.run(&text).map(drop)
    }
}

fn offloads_off(interface: &str) -> String {
    format!("ethtool -K {interface} rx off tx off sg off tso off gso off gro off >/dev/null\n")
}

/// Receive packet steering: what comes to these interfaces is the work of these CPUs, not of the sender's.
fn steer(interfaces: [&str; 2], queues: usize, cpus: &str) -> String {
    let each = interfaces.into_iter().flat_map(|interface| {
        (0..queues).map(move |queue| {
            format!("echo {cpus} > /sys/class/net/{interface}/queues/rx-{queue}/rps_cpus\n")
        })
    });
    each.collect()
}

/// A packet socket sees a frame before this.
fn drop_all(table: &str, interfaces: [&str; 2]) -> String {
    let chain = |(number, interface): (usize, &str)| {
        format!(
            " chain c{number} {{ type filter hook ingress device \"{interface}\" priority 0; \
             policy drop; }};"
        )
    };
    let chains: String = interfaces.into_iter().enumerate().map(chain).collect();
    format!("nft {}\n", quoted(&format!("table netdev {table} {{{chains} }}")))
}
