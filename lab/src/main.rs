//! `lab`: the network of namespaces in which the egress gateway is shown and tested.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::family::Family;
use lab::marker::Marker;
use lab::site::{Arrangement, Site};
use lab::{by_hand, demo, echo, init, probe};

/// A whole site on one machine: two nodes with pods, a gateway host, routers and a world, in private network namespaces.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole way of a pod's traffic, with policies and without
    Demo {
        /// What is sent in each direction to compare checksums
        #[arg(long, default_value_t = 100_000_000)]
        bytes: u64,
        #[command(flatten)]
        site: SiteArguments,
    },
    /// Start a lab that stays, with gateway and redirectors
    Up {
        /// Without gateway and redirectors: nodes masquerade
        #[arg(long)]
        bare: bool,
        #[command(flatten)]
        site: SiteArguments,
    },
    /// End the lab that is up
    Down,
    /// A shell on a host of the lab that is up
    Shell { host: String },
    /// Run a command on a host of the lab that is up
    Exec {
        host: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// In a pod: send marked traffic to the world's echo server, and say which source it saw
    Probe {
        protocol: Transport,
        to: IpAddr,
        /// This pod's address
        #[arg(long)]
        pod: IpAddr,
        /// The id of the policy that should apply, 0 for none
        #[arg(long, default_value_t = 0)]
        policy: u32,
        #[arg(long, default_value_t = 1)]
        sequence: u32,
    },
    /// In the world: the echo server
    Echo {
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
    },
    #[command(hide = true)]
    Init {
        #[arg(long)]
        hugepages: bool,
        hosts: Vec<String>,
    },
    #[command(hide = true)]
    Hold { host: String },
    #[command(hide = true)]
    Keep {
        #[arg(long)]
        bare: bool,
        #[command(flatten)]
        site: SiteArguments,
    },
}

#[derive(Args)]
struct SiteArguments {
    /// How many workers the gateway has, each on a CPU of its own
    #[arg(long, default_value_t = Site::of_the_demo().workers)]
    workers: usize,
    /// What nodes and gateway tunnel over
    #[arg(long, default_value = "v4")]
    underlay: Underlay,
    /// How the gateway's two sides are cabled
    #[arg(long, default_value = "two-ports")]
    arrangement: Cabling,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cabling {
    /// A device for each side
    TwoPorts,
    /// One-armed: VLAN 10 for the tunnel side, 20 for the external one
    Vlan,
    /// One-armed: one untagged segment
    Address,
}

#[derive(Clone, Copy, ValueEnum)]
enum Underlay {
    V4,
    V6,
}

impl From<SiteArguments> for Site {
    fn from(arguments: SiteArguments) -> Self {
        let underlay = match arguments.underlay {
            Underlay::V4 => Family::V4,
            Underlay::V6 => Family::V6,
        };
        let arrangement = match arguments.arrangement {
            Cabling::TwoPorts => Arrangement::TwoPorts,
            Cabling::Vlan => Arrangement::BY_VLAN,
            Cabling::Address => Arrangement::OneArmedByAddress,
        };
        Self { workers: arguments.workers, underlay, arrangement }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Udp,
    Tcp,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { bytes, site } => demo::run(site.into(), bytes),
        Command::Up { bare, site } => by_hand::up(site.into(), bare),
        Command::Down => by_hand::down(),
        Command::Shell { host } => by_hand::exec(&host, &["bash".to_owned(), "-i".to_owned()]),
        Command::Exec { host, command } => by_hand::exec(&host, &command),
        Command::Probe { protocol, to, pod, policy, sequence } => {
            send_probe(protocol, to, Marker { pod: pod.into(), policy, generation: 1, sequence })
        }
        Command::Echo { addresses } => echo::run(&addresses),
        Command::Init { hugepages, hosts } => init::run(&hosts, hugepages),
        Command::Hold { host } => init::hold(&host),
        Command::Keep { bare, site } => by_hand::keep(site.into(), bare),
    }
}

fn send_probe(protocol: Transport, to: IpAddr, marker: Marker) -> Result<()> {
    match protocol {
        Transport::Udp => println!("{}", probe::udp(marker, to, probe::TIMEOUT)?),
        Transport::Tcp => {
            probe::tcp(marker, to, probe::TIMEOUT)?;
            println!("answered");
        }
    }
    Ok(())
}
