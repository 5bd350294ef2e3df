//! One way out: the program on it, its counters, and the device's own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{
    MapCore, MapFlags, MapHandle, ObjectBuilder, RingBufferBuilder, TC_INGRESS, TcHookBuilder,
};
use nix::net::if_::if_nametoindex;

use super::Expected;
use super::abi::{Class, ExitSide, Sample, address_bytes, exit_config};
use super::report::ExitReport;
use crate::host::Host;
use crate::wait::{PATIENCE, until};

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/oracle.bpf.o"));

#[derive(Debug)]
pub(super) struct Exit {
    name: &'static str,
    device_counter: PathBuf,
    packets: MapHandle,
    egress_ips: MapHandle,
    egress_ip_packets: MapHandle,
    samples: MapHandle,
}

impl Exit {
    /// Counts what arrives at `device` of `host`, which is what these sides and the pods behind them send.
    pub(super) fn watch(
        host: &Host,
        device: &str,
        name: &'static str,
        sides: &[ExitSide],
    ) -> Result<Self> {
        let object = ObjectBuilder::default()
            .open_memory(PROGRAM)?
            .load()
            .context("loading the oracle's program")?;
        let map = |name: &str| -> Result<MapHandle> {
            let map = object.maps().find(|map| map.name() == name);
            Ok(MapHandle::try_from(&map.with_context(|| format!("no map {name}"))?)?)
        };
        let config = map("config")?;
        for (index, side) in (0u32..).zip(sides) {
            config.update(&index.to_ne_bytes(), &exit_config(*side), MapFlags::ANY)?;
        }
        let program = object.progs().next().context("no program")?;
        let program = program.as_fd();
        // the filter keeps program and maps alive, and ends with the lab's network namespace
        host.within(|| {
            let index = i32::try_from(if_nametoindex(device)?)?;
            let mut hook = TcHookBuilder::new(program)
                .ifindex(index)
                .replace(true)
                .handle(1)
                .priority(1)
                .hook(TC_INGRESS);
            hook.create().with_context(|| format!("clsact on {device}"))?;
            hook.attach().with_context(|| format!("attaching to {device}"))?;
            Ok(())
        })?;
        Ok(Self {
            name,
            device_counter: host.path(&format!("/sys/class/net/{device}/statistics/rx_packets")),
            packets: map("packets")?,
            egress_ips: map("egress_ips")?,
            egress_ip_packets: map("egress_ip_packets")?,
            samples: map("samples")?,
        })
    }

    pub(super) fn expect(&self, egress_ip: IpAddr, policy: u32) -> Result<()> {
        let key = address_bytes(egress_ip);
        if self.egress_ip_packets.lookup_percpu(&key, MapFlags::ANY)?.is_none() {
            let zeros = vec![vec![0; 8]; libbpf_rs::num_possible_cpus()?];
            self.egress_ip_packets.update_percpu(&key, &zeros, MapFlags::ANY)?;
        }
        Ok(self.egress_ips.update(&key, &policy.to_ne_bytes(), MapFlags::ANY)?)
    }

    pub(super) fn forbid(&self, egress_ip: IpAddr) -> Result<()> {
        Ok(self.egress_ips.delete(&address_bytes(egress_ip))?)
    }

    /// The counters of a moment at which device and classes agree.
    pub(super) fn report(&self, expected: &BTreeMap<IpAddr, Expected>) -> Result<ExitReport> {
        let (packets, device) = until(
            &format!("the oracle and the device at {} have counted the same", self.name),
            PATIENCE,
            || {
                let before = self.device_packets()?;
                let packets = self.packets()?;
                let sum = packets.values().sum::<u64>();
                ensure!(
                    before == sum && self.device_packets()? == sum,
                    "{sum} packets classed, {before} received by the device"
                );
                Ok((packets, before))
            },
        )?;
        let mut egress_ips = BTreeMap::new();
        for address in expected.keys() {
            egress_ips.insert(*address, sum(&self.egress_ip_packets, &address_bytes(*address))?);
        }
        Ok(ExitReport {
            name: self.name,
            packets,
            device,
            egress_ips,
            samples: self.take_samples()?,
        })
    }

    fn packets(&self) -> Result<BTreeMap<Class, u64>> {
        Class::ALL
            .iter()
            .map(|class| Ok((*class, sum(&self.packets, &(*class as u32).to_ne_bytes())?)))
            .collect()
    }

    fn device_packets(&self) -> Result<u64> {
        let path = &self.device_counter;
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    fn take_samples(&self) -> Result<Vec<Sample>> {
        let samples = RefCell::new(Vec::new());
        let mut builder = RingBufferBuilder::new();
        builder.add(&self.samples, |bytes| {
            samples.borrow_mut().extend(Sample::read(bytes));
            0
        })?;
        builder.build()?.consume()?;
        Ok(samples.take())
    }
}

/// Over all CPUs.
fn sum(map: &MapHandle, key: &[u8]) -> Result<u64> {
    let values = map.lookup_percpu(key, MapFlags::ANY)?.unwrap_or_default();
    Ok(values
        .iter()
        .filter_map(|value| value.first_chunk::<8>())
        .map(|value| u64::from_ne_bytes(*value))
        .sum())
}
