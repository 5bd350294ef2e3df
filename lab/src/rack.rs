//! The wire of a one-armed gateway: `rack`, a switch that brings both of its segments to its only interface.
//!
//! ```text
//!  node1 ─┐
//!         ├─ underlay ─── underlay ┐
//!  node2 ─┘                        rack ── gateway ═══ arm0 gateway
//!            router ───── router ──┘
//! ```
//!
//! By VLAN each segment is an access port of its VLAN, and the gateway's port carries both of them. By address all three ports are one segment.
//! There the oracle watches what arrives at `gateway` of this switch: whatever the gateway sends, be it in a VLAN that nobody is in.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, TC_INGRESS, TcHookBuilder};
use nix::net::if_::if_nametoindex;

use crate::namespaces::Namespaces;
use crate::site::Arrangement;
use crate::topology::{Cable, SILENT, configure, lay};

pub const HOST: &str = "rack";

/// The gateway's only interface.
pub const ARM: &str = "arm0";

const CABLES: [Cable; 3] = [
    Cable("underlay", "gateway", HOST, "underlay"),
    Cable("router", "gateway", HOST, "router"),
    Cable(HOST, "gateway", "gateway", ARM),
];

/// All but the gateway's port is up after this.
pub(crate) fn wire(lab: &Namespaces, arrangement: Arrangement) -> Result<()> {
    lab.host(HOST)?.run_with_input(&["sysctl", "-qp", "-"], SILENT)?;
    CABLES.iter().try_for_each(|cable| lay(lab, cable))?;
    // tags as a wire has them, in the frame
    for (host, device) in [(HOST, "gateway"), ("gateway", ARM)] {
        lab.host(host)?.run(&["ethtool", "-K", device, "rxvlan", "off", "txvlan", "off"])?;
    }
    match arrangement {
        Arrangement::OneArmedByVlan { tunnel, external } => forward_by_vlan(lab, tunnel, external)?,
        Arrangement::OneArmedByAddress | Arrangement::TwoPorts => configure(
            lab,
            HOST,
            "link add name switch type bridge mcast_snooping 0
             link set dev underlay master switch
             link set dev router master switch
             link set dev gateway master switch
             link set dev switch up",
        )?,
    }
    configure(lab, HOST, "link set dev underlay up\nlink set dev router up")?;
    for host in ["underlay", "router"] {
        configure(lab, host, "link set dev gateway up")?;
    }
    configure(lab, "gateway", &format!("link set dev {ARM} arp off up"))
}

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rack.bpf.o"));

/// (to which port, from which VLAN, to which); `struct way`.
type Way<'a> = (&'a str, u16, u16);

fn forward_by_vlan(lab: &Namespaces, tunnel: u16, external: u16) -> Result<()> {
    forward(lab, "underlay", &[("gateway", 0, tunnel)])?;
    forward(lab, "router", &[("gateway", 0, external)])?;
    forward(lab, "gateway", &[("underlay", tunnel, 0), ("router", external, 0)])
}

/// What arrives at `port` takes one of these ways; there is no other.
fn forward(lab: &Namespaces, port: &str, ways: &[Way<'_>]) -> Result<()> {
    let object = ObjectBuilder::default()
        .open_memory(PROGRAM)?
        .load()
        .context("loading the rack's program")?;
    let map = object.maps().find(|map| map.name() == "ways").context("no map ways")?;
    let map = MapHandle::try_from(&map)?;
    let program = object.progs().next().context("no program")?;
    let program = program.as_fd();
    lab.host(HOST)?.within(|| {
        for (index, (to, from_vlan, to_vlan)) in (0u32..).zip(ways) {
            let to = if_nametoindex(*to)?.to_ne_bytes();
            let way = [&to[..], &from_vlan.to_ne_bytes(), &to_vlan.to_ne_bytes()].concat();
            map.update(&index.to_ne_bytes(), &way, MapFlags::ANY)?;
        }
        let index = i32::try_from(if_nametoindex(port)?)?;
        // behind the oracle, which has priority 1
        let mut hook = TcHookBuilder::new(program)
            .ifindex(index)
            .replace(true)
            .handle(1)
            .priority(2)
            .hook(TC_INGRESS);
        hook.create().with_context(|| format!("clsact on {port}"))?;
        hook.attach().with_context(|| format!("attaching to {port}"))?;
        Ok(())
    })
}
