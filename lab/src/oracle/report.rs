//! What the oracle saw, as values and as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::IpAddr;

use anyhow::{Result, bail};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::Expected;
use super::abi::{Class, Sample};

/// Of the packets at one exit that broke a promise. They tend to be all alike.
const SHOWN: usize = 5;

#[derive(Clone, Debug)]
pub struct Report {
    pub exits: Vec<ExitReport>,
    pub expected: BTreeMap<IpAddr, Expected>,
}

#[derive(Clone, Debug)]
pub struct ExitReport {
    pub name: &'static str,
    pub packets: BTreeMap<Class, u64>,
    /// The device's own counter, equal to the sum of `packets`.
    pub device: u64,
    pub egress_ips: BTreeMap<IpAddr, u64>,
    /// The first bytes of red packets, of those that were not reported before.
    pub samples: Vec<Sample>,
}

impl ExitReport {
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        self.packets.get(&class).copied().unwrap_or_default()
    }
}

impl Report {
    /// Of all exits together.
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        self.exits.iter().map(|exit| exit.count(class)).sum()
    }

    #[must_use]
    pub fn egress_ip(&self, address: IpAddr) -> u64 {
        self.exits.iter().filter_map(|exit| exit.egress_ips.get(&address)).sum()
    }

    /// How many packets broke a promise.
    #[must_use]
    pub fn red(&self) -> u64 {
        Class::ALL.iter().filter(|class| class.is_red()).map(|class| self.count(*class)).sum()
    }

    /// # Errors
    /// When any packet broke a promise: the table, and the packets themselves.
    pub fn require_clean(&self) -> Result<()> {
        if self.red() == 0 {
            return Ok(());
        }
        let mut message = format!("{} packets left that must not:\n{self}", self.red());
        for exit in &self.exits {
            for sample in exit.samples.iter().take(SHOWN) {
                writeln!(message, "{}: {}: {}", exit.name, sample.class.name(), describe(sample))?;
            }
        }
        bail!("{message}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.exits.iter().map(|exit| exit.name.to_owned()).collect();
        row(f, "packets that left through", &names)?;
        for class in Class::ALL {
            let counts: Vec<String> =
                self.exits.iter().map(|exit| exit.count(class).to_string()).collect();
            let mark = if class.is_red() { "! " } else { "" };
            row(f, &format!("{mark}{}", class.name()), &counts)?;
            if class == Class::EgressIp {
                self.egress_ip_rows(f)?;
            }
        }
        let sums = self.exits.iter().map(|exit| exit.packets.values().sum::<u64>().to_string());
        row(f, "sum", &sums.collect::<Vec<_>>())?;
        let devices: Vec<String> = self.exits.iter().map(|exit| exit.device.to_string()).collect();
        row(f, "counted by the device", &devices)
    }
}

impl Report {
    fn egress_ip_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (address, expected) in &self.expected {
            let counts: Vec<String> = self
                .exits
                .iter()
                .map(|exit| exit.egress_ips.get(address).copied().unwrap_or_default().to_string())
                .collect();
            row(f, &format!("  {address} {}", expected.name), &counts)?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, cells: &[String]) -> fmt::Result {
    write!(f, "{name:<32}")?;
    for cell in cells {
        write!(f, " {cell:>12}")?;
    }
    writeln!(f)
}

/// What a packet is, and its bytes.
fn describe(sample: &Sample) -> String {
    let mut text = format!("{} bytes", sample.length);
    // lax: only the head is here
    if let Ok(packet) = LaxSlicedPacket::from_ethernet(&sample.head) {
        if let Some(LaxNetSlice::Ipv4(ip)) = &packet.net {
            let header = ip.header();
            let _ = write!(text, ", {} > {}", header.source_addr(), header.destination_addr());
        }
        if let Some(LaxNetSlice::Ipv6(ip)) = &packet.net {
            let header = ip.header();
            let _ = write!(text, ", {} > {}", header.source_addr(), header.destination_addr());
        }
        if let Some(TransportSlice::Udp(udp)) = &packet.transport {
            let _ = write!(text, ", UDP {} > {}", udp.source_port(), udp.destination_port());
        }
        if let Some(TransportSlice::Tcp(tcp)) = &packet.transport {
            let _ = write!(text, ", TCP {} > {}", tcp.source_port(), tcp.destination_port());
        }
        if let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport {
            let _ = write!(text, ", {:?}", icmp.icmp_type());
        }
        if let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport {
            let _ = write!(text, ", {:?}", icmp.icmp_type());
        }
    }
    let hex: String = sample.head.iter().map(|byte| format!("{byte:02x}")).collect();
    text + "\n    " + &hex
}
