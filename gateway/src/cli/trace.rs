//! `trace`: what would become of a packet, and why.

use super::{
    Output, Result, client::ApiArgs, example, fold::fold, json, note, print, sessions::policy_name,
    table::Table,
};
use clap::{Args, ValueEnum};
use gateway::control::{
    http::trace::{Packet, Trace, Verdict},
    trace::Step,
};
use std::{fmt::Write, net::IpAddr};

const EXAMPLES: &str = example!(
    "  egress-gateway trace --src 10.244.1.10 --dst 198.51.100.10 --dport 443 --policy payments
  egress-gateway trace --src fd00:244:1::10 --dst 2001:db8:100::10 --proto icmp --policy payments
  egress-gateway trace --src 10.244.1.10 --sport 40001 --dst 198.51.100.10 --dport 443 \\
      --policy payments --node node2 --mid-stream"
);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TraceArgs {
    /// The pod's address
    #[arg(long, value_name = "IP")]
    src: IpAddr,
    /// The far end's address
    #[arg(long, value_name = "IP")]
    dst: IpAddr,
    /// The L4 protocol
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    proto: Protocol,
    /// The pod's TCP or UDP port, of ICMP the id of the echo request. Without it 40000 is assumed, and
    /// only by chance is there a session
    #[arg(long, value_name = "N")]
    sport: Option<u16>,
    /// The far end's TCP or UDP port. Without it 443 is assumed for TCP, 53 for UDP
    #[arg(long, value_name = "N")]
    dport: Option<u16>,
    /// The policy under which the node sends it: the gateway does not judge destinations by policies
    #[arg(long, value_name = "NAME", value_parser = policy_name)]
    policy: String,
    /// The node that sends it, by name or tunnel address. Default: one that may send for the pod
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node: Option<String>,
    /// TCP: a segment of an open connection. Default: the SYN that opens one
    #[arg(long)]
    mid_stream: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Protocol {
    #[default]
    Tcp,
    Udp,
    Icmp,
}

fn node_name(text: &str) -> std::result::Result<String, String> {
    match policy::is_name(text) || text.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("neither the name of a node nor its tunnel address".to_owned()),
    }
}

pub(super) fn run(args: &TraceArgs) -> Result<()> {
    let trace: Trace = args.api.api.get(&path(args))?;
    match args.output {
        Output::Json => print(&json(&trace)?),
        Output::Text => {
            if !trace.packet.assumed.is_empty() {
                note(&format!(
                    "--{} not given: a value is assumed",
                    trace.packet.assumed.join(", --")
                ));
            }
            print(&text(&trace))
        }
    }
}

fn path(args: &TraceArgs) -> String {
    let protocol = match args.proto {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Icmp => "ICMP",
    };
    let TraceArgs { src, dst, policy, .. } = args;
    // None of the values needs escapes.
    let mut path = format!("/v1/trace?src={src}&dst={dst}&protocol={protocol}&policy={policy}");
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            path += &format!("&{key}={value}");
        }
    };
    add("sport", args.sport.map(|sport| sport.to_string()));
    add("dport", args.dport.map(|dport| dport.to_string()));
    add("node", args.node.clone());
    add("midStream", args.mid_stream.then(|| "true".to_owned()));
    path
}

fn text(trace: &Trace) -> String {
    let Packet { node, policy, policy_id, protocol, internal, remote, flags, .. } = &trace.packet;
    let flags = flags.as_ref().map(|flags| format!(" {flags}")).unwrap_or_default();
    let mut text = format!("{protocol}{flags}  {internal} → {remote}\n");
    let node = node.as_deref().unwrap_or("no node that may send it");
    let _ = writeln!(text, "from {node}, under {policy} (VNI {policy_id})\n");
    text += &steps(&trace.steps);
    text += "\n";
    text += &verdict(trace);
    text
}

fn steps(steps: &[Step]) -> String {
    let mut table = Table::new(&["", "STEP", "WHY"]);
    for Step { step, outcome, reason, detail } in steps {
        let reason = reason.as_ref().map(|reason| format!("{reason}: ")).unwrap_or_default();
        table.row([
            outcome.label().to_owned(),
            step.label().to_owned(),
            format!("{reason}{detail}"),
        ]);
    }
    table.to_string()
}

fn verdict(trace: &Trace) -> String {
    let egress_ip = trace.egress_ip.map(|ip| ip.to_string()).unwrap_or_default();
    match (trace.verdict, &trace.external) {
        (Verdict::Forwarded, Some(external)) => format!("FORWARDED as {external}\n"),
        (Verdict::Forwarded, None) => {
            format!("FORWARDED as {egress_ip}, from an l4_port that is drawn when it comes\n")
        }
        (Verdict::Dropped, _) => {
            let reason = trace.reason.as_deref().unwrap_or_default();
            let help = trace.help.as_deref().unwrap_or_default();
            format!("DROPPED as {reason}\n{}", fold("", help))
        }
    }
}
