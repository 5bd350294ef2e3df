//! The oracle: proves that nothing leaves with a wrong source.
//!
//! At every way out of the lab's hosts a program (bpf/oracle.bpf.c) puts each packet into one [`Class`]. It is told which egress IP belongs to
//! which policy at this time and learns nothing else from the product. Two things must hold whenever the lab is quiet: no packet is in a class
//! that [`Class::is_red`], and the classes sum up to what the device itself counted, so that none went by unseen.

mod abi;
mod exit;
pub mod forge;
mod report;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

pub use abi::Class;
pub use report::{ExitReport, Report};

use crate::namespaces::Namespaces;
use crate::rack;
use crate::site::Arrangement;
use crate::topology::{GATEWAY_EXTERNAL, GATEWAY_TUNNEL, NODES, ROUTER_MAC};
use abi::{ExitKind, ExitSide};
use exit::Exit;

const NO_ROUTER: [u8; 6] = [0; 6];

/// The tunnel side and the external one.
fn sides_of_gateway(arrangement: Arrangement) -> [ExitSide; 2] {
    let router = match arrangement {
        Arrangement::OneArmedByAddress => ROUTER_MAC,
        Arrangement::TwoPorts | Arrangement::OneArmedByVlan { .. } => NO_ROUTER,
    };
    let [tunnel, external] = arrangement.vlans();
    [
        (ExitKind::GatewayTunnel, GATEWAY_TUNNEL, tunnel),
        (ExitKind::GatewayExternal, GATEWAY_EXTERNAL, external),
    ]
    .map(|(kind, own, vlan)| ExitSide { kind, own, vlan, router })
}

#[derive(Debug)]
pub struct Oracle {
    exits: Vec<Exit>,
    expected: BTreeMap<IpAddr, Expected>,
}

#[derive(Clone, Debug)]
pub struct Expected {
    pub policy: u32,
    pub name: String,
}

impl Oracle {
    /// Attaches to all exits. They must still be down: a packet before this would be counted by the device alone.
    pub fn watch(lab: &Namespaces, arrangement: Arrangement) -> Result<Self> {
        let underlay = lab.host("underlay")?;
        let [tunnel, external] = sides_of_gateway(arrangement);
        let mut exits = match arrangement {
            Arrangement::TwoPorts => vec![
                Exit::watch(lab.host("router")?, "gateway", "gateway ext", &[external])?,
                Exit::watch(underlay, "gateway", "gateway tun", &[tunnel])?,
            ],
            Arrangement::OneArmedByVlan { .. } | Arrangement::OneArmedByAddress => {
                vec![Exit::watch(lab.host(rack::HOST)?, "gateway", "gateway", &[external, tunnel])?]
            }
        };
        for node in NODES {
            let (kind, own) = (ExitKind::NodeUplink, node.address);
            let side = ExitSide { kind, own, vlan: 0, router: NO_ROUTER };
            exits.push(Exit::watch(underlay, node.name, node.name, &[side])?);
        }
        Ok(Self { exits, expected: BTreeMap::new() })
    }

    /// From here on `egress_ip` is the source of this policy's packets. To be called before the policy is applied.
    pub fn expect(&mut self, egress_ip: IpAddr, policy: u32, name: &str) -> Result<()> {
        for exit in &self.exits {
            exit.expect(egress_ip, policy)?;
        }
        self.expected.insert(egress_ip, Expected { policy, name: name.to_owned() });
        Ok(())
    }

    /// From here on no packet may have this source. To be called after the policy's removal is acknowledged.
    pub fn forbid(&mut self, egress_ip: IpAddr) -> Result<()> {
        for exit in &self.exits {
            exit.forbid(egress_ip)?;
        }
        self.expected.remove(&egress_ip);
        Ok(())
    }

    #[must_use]
    pub fn expected(&self) -> Vec<IpAddr> {
        self.expected.keys().copied().collect()
    }

    /// What has left so far, once every device's own counter agrees with the classes.
    pub fn report(&self) -> Result<Report> {
        let exits: Result<_> = self.exits.iter().map(|exit| exit.report(&self.expected)).collect();
        Ok(Report { exits: exits?, expected: self.expected.clone() })
    }
}
