//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::abi;
use crate::config::DEFAULT_PATH;
use crate::trace::Packet;

/// The node's side of the egress gateway: sends the traffic of selected pods to a gateway, by tc eBPF programs on the pods' interfaces.
///
/// The programs and all they know stay in the kernel when the agent ends, and the next agent takes them over; `cleanup` takes them away.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach, and follow interfaces and policy files until stopped
    Run(ConfigFile),
    /// Read configuration and policy files, print every error with its place, change nothing
    Check(ConfigFile),
    /// Take away programs, maps, and the VXLAN device
    Cleanup(ConfigFile),
    /// What is redirected where, with what each pod has sent
    List(Print),
    /// What would happen to a packet from a pod, and why
    Trace(TraceArgs),
    /// What is attached, what is in force, what was counted
    Status(Print),
}

#[derive(Debug, Args)]
pub struct ConfigFile {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Print {
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub print: Print,
    /// The pod's address
    #[arg(long)]
    src: IpAddr,
    /// The destination, of the same address family
    #[arg(long)]
    dst: IpAddr,
    /// tcp, udp, icmp (that of the address family), sctp or a number
    #[arg(long, default_value = "tcp", value_parser = protocol)]
    proto: u8,
    /// The pod's port; for icmp the identifier of its echo requests
    #[arg(long, default_value_t = 0)]
    sport: u16,
    /// The destination's port
    #[arg(long, default_value_t = 0)]
    dport: u16,
}

impl TraceArgs {
    /// An error says what is wrong with the arguments.
    pub fn packet(&self) -> Result<Packet, String> {
        let &Self { src, dst, proto, sport, dport, .. } = self;
        // A mapped address is IPv4, wherever it is written.
        let (src, dst) = (src.to_canonical(), dst.to_canonical());
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(format!("--src {src} and --dst {dst}: addresses of one family are wanted"));
        }
        let is_icmp = proto == abi::PROTOCOL_ICMP && src.is_ipv6();
        let protocol = if is_icmp { abi::PROTOCOL_ICMPV6 } else { proto };
        Ok(Packet { src, dst, protocol, sport, dport })
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(abi::PROTOCOL_TCP),
        "udp" => Ok(abi::PROTOCOL_UDP),
        "icmp" => Ok(abi::PROTOCOL_ICMP),
        "icmpv6" => Ok(abi::PROTOCOL_ICMPV6),
        "sctp" => Ok(132),
        number => {
            number.parse().map_err(|_| "tcp, udp, icmp, sctp or 0 to 255 is wanted".to_owned())
        }
    }
}
