//! `lab`: see `lab --help`.
use clap::{Parser, Subcommand};
use std::net::Ipv4Addr;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init {
        #[arg(long)]
        hugepages: bool,
        hosts: Vec<String>,
    },
    Hold {
        host: String,
    },
    Echo {
        addresses: Vec<Ipv4Addr>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Init { hugepages, hosts } => lab::init::run(&hosts, hugepages),
        Command::Hold { host } => lab::init::hold(&host),
        Command::Echo { addresses } => lab::echo::run(&addresses),
        Command::Try => {
            let lab = lab::stack::Lab::start()?;
            println!("{}", lab.report()?);
            println!(
                "{}",
                lab.host("pod-a")?.run(&[
                    "curl",
                    "-sS",
                    "-m",
                    "3",
                    "http://198.51.100.10/source"
                ])?
            );
            println!(
                "{}",
                lab.host("pod-c")?.run(&[
                    "curl",
                    "-sS",
                    "-m",
                    "3",
                    "http://198.51.100.20/source"
                ])?
            );
            println!("{}", lab.host("pod-c")?.run(&["ping", "-c", "1", "10.244.1.10"])?);
            println!("{}", lab.host("pod-c")?.run(&["traceroute", "-n", "-I", "198.51.100.20"])?);
            println!("{:?}", lab.seen()?);
            println!("{}", lab.report()?);
            Ok(())
        }
    }
}
