//! Linux' own: VXLAN off, source translated by nftables, routed, between two veths.
//!
//! ```text
//! egwPID-Nt ── veth ── tun0 192.0.2.200/24 ── vxlan0 ─┐ a network namespace
//! egwPID-Nx ── veth ── ext0 203.0.113.2/24 ───────────┘ snat to 203.0.113.16–.31
//! ```
//!
//! Its work is done by the first of the place's CPUs.

mod sample;
mod setup;

use super::{Place, Sample, System, folder, keeper::Keeper, namespace::Namespace, process::script};
use anyhow::{Context, Result};
use sample::{Counted, Sampler};
use std::{fs, process::Command, time::Instant};

/// In its folder.
const ROUTES: &str = "routes";

/// How it is to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose pods it can reach at their nodes.
    pub flows: u32,
    /// 1 to [`crate::plan::MAX_NODES`].
    pub nodes: u32,
    /// Sessions for which there has to be room.
    pub sessions: u32,
    /// Seconds.
    pub udp_timeout: u32,
    pub udp_unreplied_timeout: u32,
}

impl Options {
    /// With room for so many flows and an eighth more, none of which ends while it is measured.
    pub fn for_flows(flows: u32, nodes: u32) -> Self {
        const A_DAY: u32 = 86_400;
        Options {
            flows,
            nodes,
            sessions: flows + flows / 8 + 16_384,
            udp_timeout: A_DAY,
            udp_unreplied_timeout: A_DAY,
        }
    }
}

/// A namespace that forwards.
#[derive(Debug)]
pub struct Kernel {
    generator: [String; 2],
    sampler: Sampler,
    namespace: Namespace,
    _keeper: Keeper,
}

/// Makes it. Of the machine's settings it raises the size of the connection tracking table, where it is too
/// small, until the value is dropped.
///
/// # Errors
/// Where the machine has no network namespaces, VXLAN or nftables, or we are not root.
pub fn start(options: &Options, place: &Place) -> Result<Kernel> {
    // To say now that there is none, not after a measurement.
    script(Command::new("env"), "conntrack --version")
        .context("conntrack is missing (apt-get install conntrack)")?;
    let mut keeper = Keeper::start()?;
    let folder = folder("kernel", &mut keeper)?;
    let namespace = Namespace::make(place, 1, &folder, &mut keeper)?;
    namespace.run(&setup::forwarding(options)).context("the kernel cannot be set up as NAT")?;
    let routes = setup::pods(options.flows, options.nodes);
    fs::write(folder.join(ROUTES), routes)?;
    namespace.run(&format!("ip -batch {}", folder.join(ROUTES).display()))?;
    setup::make_room(options.sessions, &namespace, &mut keeper)?;
    let ends = namespace.generator_ends();
    let generator = [0, 1].map(|number| super::cable::packet_socket(number, &ends[number], 1));
    let mut sampler = Sampler::new(place.core()?, place.tsc_hz);
    sampler.begin(&namespace)?;
    Ok(Kernel { generator, sampler, namespace, _keeper: keeper })
}

impl System for Kernel {
    fn name(&self) -> &str {
        "kernel"
    }

    fn devices(&self) -> ([String; 2], Vec<String>) {
        (self.generator.clone(), Vec::new())
    }

    fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    /// `busy_cycles` are the time in which its CPU was not idle, in steps of 10 ms: of use where that is of
    /// seconds, and nothing else runs there.
    fn sample(&mut self) -> Result<Option<Sample>> {
        let Counted { busy_cycles, packets, sessions } = self.sampler.counted(&self.namespace)?;
        Ok(Some(Sample { busy_cycles, packets, sessions, ..Sample::default() }))
    }

    /// Without packets it does nothing.
    fn pause(&mut self) -> Result<()> {
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> Result<Option<f64>> {
        let began = Instant::now();
        self.namespace.run("conntrack --flush")?;
        Ok(Some(began.elapsed().as_secs_f64()))
    }
}
