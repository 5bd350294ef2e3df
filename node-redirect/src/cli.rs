//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use admin::manual::KnownShell;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::abi;
use crate::config::DEFAULT_PATH;
use crate::trace::Packet;

/// What stands below the options of a subcommand.
macro_rules! examples {
    ($lines:literal) => {
        concat!("Examples:\n", $lines, "\n\nExit status: 0 done, 1 failed, 2 bad use or bad input.")
    };
}

const EXIT_STATUS: &str = "Exit status:
  0  what was asked is done
  1  it failed: not permitted, no bpf file system, another agent runs, the kernel refuses
  2  bad use or bad input: an option, the configuration or a policy file is wrong";

const RUN: &str = examples!(
    "  node-redirect run
  node-redirect run --config ./node-redirect.toml
  kill -HUP PID          the policy files are read again, as when they change"
);
const CHECK: &str = examples!(
    "  node-redirect check && systemctl restart node-redirect
  node-redirect check --config ./node-redirect.toml"
);
const CLEANUP: &str = examples!("  systemctl stop node-redirect && node-redirect cleanup");
const LIST: &str = examples!(
    "  node-redirect list
  node-redirect list -o json | jq '.[] | select(.policy == \"payments\")'"
);
const TRACE: &str = examples!(
    "  node-redirect trace --src 10.244.1.10 --dst 198.51.100.10 --dport 443
  node-redirect trace --src fd00:244:1::10 --dst 2001:db8:100::10 --proto icmp"
);
const STATUS: &str = examples!(
    "  node-redirect status
  node-redirect status -o json | jq .agent.policyError"
);
const COMPLETIONS: &str = examples!(
    "  source <(node-redirect completions bash)
  node-redirect completions zsh > \"${fpath[1]}/_node-redirect\"
  node-redirect completions fish > ~/.config/fish/completions/node-redirect.fish"
);
const MAN: &str = examples!(
    "  node-redirect man | man -l -
  node-redirect man /usr/local/share/man/man1"
);

/// The node's side of the egress gateway: sends the traffic of selected pods to a gateway, by tc eBPF programs on the pods' interfaces.
///
/// The programs and all they know stay in the kernel when the agent ends, and the next agent takes them over; `cleanup` takes them away.
#[derive(Debug, Parser)]
#[command(name = "node-redirect", version, max_term_width = 100, after_help = EXIT_STATUS)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach, and follow interfaces and policy files until stopped
    #[command(after_help = RUN)]
    Run(ConfigFile),
    /// Read configuration and policy files, print every error with its place, change nothing
    #[command(after_help = CHECK)]
    Check(ConfigFile),
    /// Take away programs, maps, and the VXLAN device
    #[command(after_help = CLEANUP)]
    Cleanup(ConfigFile),
    /// What is redirected where, with what each pod has sent
    #[command(after_help = LIST)]
    List(Print),
    /// What would happen to a packet from a pod, and why
    #[command(after_help = TRACE)]
    Trace(TraceArgs),
    /// What is attached, what is in force, what was counted
    #[command(after_help = STATUS)]
    Status(Print),
    /// Print a script that completes this command line in a shell
    #[command(after_help = COMPLETIONS)]
    Completions { shell: KnownShell },
    /// Print the manual page, or write one for each subcommand
    #[command(after_help = MAN)]
    Man {
        /// Write a page for each subcommand into this folder. Without it the main page goes to
        /// standard output
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn help_fits_a_hundred_columns_and_says_how_it_ends() {
        let mut command = Cli::command();
        command.build();
        let mut helps = vec![command.clone().render_long_help().to_string()];
        for each in command.get_subcommands_mut().filter(|each| each.get_name() != "help") {
            let help = each.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{help}");
            helps.push(help);
        }
        for help in helps {
            assert!(help.contains("Exit status:"), "{help}");
            let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(long.is_empty(), "{long:#?}");
        }
    }
}
