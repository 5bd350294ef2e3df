//! `sessions` and `sessions flush`

use super::{
    Failure, Output, Result,
    client::{Api, ApiArgs},
    example, note, print,
    table::{Table, duration, short},
};
use clap::{Args, Subcommand, ValueEnum};
use gateway::control::{
    http::sessions::{Session, Sessions},
    sessions::MAX_PAGE,
};
use hyper::{Method, body::Bytes};
use serde::Deserialize;
use std::{fmt::Display, net::IpAddr};

/// Sessions that are shown when nobody says how many: a table of a million is no help.
const LIMIT: usize = 1000;

const EXAMPLES: &str = example!(
    "  egress-gateway sessions --src 10.244.1.10
  egress-gateway sessions --policy payments --protocol tcp -o wide
  egress-gateway sessions --limit 0 -o json > all-sessions.json
  egress-gateway sessions flush --egress-ip 203.0.113.16"
);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    filter: Filter,
    /// Stop after so many; 0: show all. Default: 1000
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How to print; wide has node, worker, age and traffic
    #[arg(short, long, value_enum, default_value_t)]
    output: SessionsForm,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// End the sessions that fit. Their pods' packets open new ones
    Flush {
        /// All sessions of the gateway
        #[arg(long)]
        all: bool,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Which sessions.
#[derive(Debug, Args)]
struct Filter {
    /// The pod's address
    #[arg(long, global = true, value_name = "IP")]
    src: Option<IpAddr>,
    /// The far end's address
    #[arg(long, global = true, value_name = "IP")]
    dst: Option<IpAddr>,
    /// The name of the policy
    #[arg(long, global = true, value_name = "NAME", value_parser = policy_name)]
    policy: Option<String>,
    /// The egress IP
    #[arg(long, global = true, value_name = "IP")]
    egress_ip: Option<IpAddr>,
    /// The L4 protocol
    #[arg(long, global = true, value_enum, ignore_case = true)]
    protocol: Option<Protocol>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SessionsForm {
    #[default]
    Text,
    Wide,
    Json,
}

pub(super) fn policy_name(text: &str) -> std::result::Result<String, String> {
    match policy::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("not the name of a policy".to_owned()),
    }
}

impl Filter {
    /// As in a URL. None of the values needs escapes.
    fn pairs(&self) -> Vec<String> {
        fn pair(key: &str, value: Option<impl Display>) -> Option<String> {
            value.map(|value| format!("{key}={value}"))
        }
        let protocol = self.protocol.map(|protocol| match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Icmp => "ICMP",
        });
        [
            pair("src", self.src),
            pair("dst", self.dst),
            pair("policy", self.policy.as_ref()),
            pair("egressIP", self.egress_ip),
            pair("protocol", protocol),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

pub(super) fn run(args: &SessionsArgs) -> Result<()> {
    match &args.command {
        None => list(args),
        Some(SessionsCommand::Flush { .. }) if args.limit.is_some() => {
            let message = "--limit is not for flush: all sessions that fit are ended";
            Err(Failure::BadInput(message.to_owned()))
        }
        Some(SessionsCommand::Flush { all, output }) => {
            flush(&args.api.api, &args.filter, *all, *output)
        }
    }
}

fn list(args: &SessionsArgs) -> Result<()> {
    let wanted = match args.limit {
        None => LIMIT,
        Some(0) => usize::MAX,
        Some(limit) => limit,
    };
    let Sessions { sessions, next } = fetch(&args.api.api, &args.filter, wanted)?;
    if next.is_some() {
        note(&format!("there are more than {wanted}: give --limit, or a filter"));
    }
    match args.output {
        SessionsForm::Json => {
            let answer = serde_json::to_string_pretty(&Sessions { sessions, next });
            print(&(answer.map_err(|error| Failure::Failed(error.to_string()))? + "\n"))
        }
        SessionsForm::Text | SessionsForm::Wide if sessions.is_empty() => {
            note("no sessions");
            Ok(())
        }
        SessionsForm::Text => print(&table(&sessions).to_string()),
        SessionsForm::Wide => print(&wide_table(&sessions).to_string()),
    }
}

/// Page after page, until there are `wanted`.
fn fetch(api: &Api, filter: &Filter, wanted: usize) -> Result<Sessions> {
    let mut sessions = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut pairs = filter.pairs();
        pairs.push(format!("limit={}", (wanted - sessions.len()).min(MAX_PAGE)));
        pairs.extend(cursor.map(|cursor| format!("cursor={cursor}")));
        let page: Sessions = api.get(&format!("/v1/sessions?{}", pairs.join("&")))?;
        sessions.extend(page.sessions);
        if page.next.is_none() || sessions.len() >= wanted {
            return Ok(Sessions { sessions, next: page.next });
        }
        cursor = page.next;
    }
}

fn table(sessions: &[Session]) -> Table {
    let heads = ["PROTO", "INTERNAL", "EXTERNAL", "REMOTE", "STATE", "IDLE", "POLICY"];
    let mut table = Table::new(&heads);
    for session in sessions {
        table.row([
            session.protocol.clone(),
            session.internal.clone(),
            session.external.clone(),
            session.remote.clone(),
            session.state.clone(),
            duration(session.idle_seconds),
            session.policy.clone(),
        ]);
    }
    table
}

fn wide_table(sessions: &[Session]) -> Table {
    let mut table = Table::new(&[
        "PROTO",
        "INTERNAL",
        "EXTERNAL",
        "REMOTE",
        "STATE",
        "IDLE",
        "AGE",
        "NODE",
        ">WORKER",
        ">OUT PKTS",
        ">OUT BYTES",
        ">IN PKTS",
        ">IN BYTES",
        "POLICY",
    ]);
    for session in sessions {
        table.row([
            session.protocol.clone(),
            session.internal.clone(),
            session.external.clone(),
            session.remote.clone(),
            session.state.clone(),
            duration(session.idle_seconds),
            duration(session.age_seconds),
            session.node.clone(),
            session.worker.to_string(),
            short(session.in2out.packets),
            short(session.in2out.bytes),
            short(session.out2in.packets),
            short(session.out2in.bytes),
            session.policy.clone(),
        ]);
    }
    table
}

fn flush(api: &Api, filter: &Filter, all: bool, output: Output) -> Result<()> {
    #[derive(Deserialize)]
    struct Flushed {
        flushed: u64,
    }
    let mut pairs = filter.pairs();
    if pairs.is_empty() && !all {
        let message =
            "which sessions? Give --src, --dst, --policy, --egress-ip or --protocol, or --all";
        return Err(Failure::BadInput(message.to_owned()));
    }
    if all {
        pairs.push("all=true".to_owned());
    }
    let path = format!("/v1/sessions?{}", pairs.join("&"));
    let answer = api.send(Method::DELETE, &path, &[], Bytes::new())?.succeeded()?;
    match output {
        Output::Json => print(&answer.text()),
        Output::Text => {
            let Flushed { flushed } = answer.json()?;
            print(&format!("{flushed} sessions ended\n"))
        }
    }
}
