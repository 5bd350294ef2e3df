//! The scenario that every egress-gateway tutorial shows, with real tools: what `./dev demo` runs.

mod screen;

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{GATEWAY_CONFIG, NODE_CONFIG, POLICY};
use crate::echo::http::blob_sha256;
use crate::echo::seen::Protocol;
use crate::family::{Dual, Family};
use crate::namespaces::end_all;
use crate::site::{CRAWLER, PAYMENTS, Site};
use crate::stack::Lab;
use crate::topology::{
    GATEWAY_TUNNEL, NODES, POD_A, POD_B, POD_C, POD_D, Pod, WORLD, WORLD_EXCLUDED,
};
use crate::traffic::{Expected, Flow, Traffic, url};
use screen::{Screen, typed};

/// Enough for any machine of the last ten years to send the bytes of one direction.
const TRANSFER_SECONDS: &str = "120";

/// # Errors
/// When any flow left with another address than it should, or anything else was not as promised.
pub fn run(site: Site, bytes: u64) -> Result<()> {
    end_with_signals()?;
    let mut demo = Demo {
        screen: Screen::default(),
        traffic: Traffic::default(),
        lab: Lab::start(site).context("starting the lab")?,
        bytes,
        wrong: Vec::new(),
    };
    let result = demo.steps();
    if result.is_err() {
        eprintln!("{}", demo.lab.logs());
    }
    result
}

/// Ctrl-C, kill and a closed terminal end the lab as well, and the shell gets its prompt when all of it is gone.
fn end_with_signals() -> Result<()> {
    // caught, not blocked: what the lab starts would inherit the block and ignore `kill`
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        let signal = signals.forever().next();
        end_all();
        std::process::exit(128 + signal.unwrap_or(0));
    });
    Ok(())
}

const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

struct Demo {
    screen: Screen,
    traffic: Traffic,
    lab: Lab,
    bytes: u64,
    /// What was not as promised, beside the flows. The demo goes on: the tables tell why.
    wrong: Vec<String>,
}

impl Demo {
    fn steps(&mut self) -> Result<()> {
        self.before_any_policy()?;
        self.apply_policies()?;
        self.selected_pods()?;
        self.not_selected()?;
        self.bulk()?;
        self.show_the_way()?;
        self.show_tables()?;
        self.verdict()
    }

    fn before_any_policy(&mut self) -> Result<()> {
        let site = self.lab.site();
        self.screen.step(&format!(
            "Gateway ({site}) and redirectors run, no policy: pods leave as their nodes"
        ));
        let site = site.documents(&[]);
        self.lab.start_gateway(&site)?;
        self.screen.command("gateway", &format!("egress-gateway run --config {GATEWAY_CONFIG}"));
        for node in &NODES {
            self.lab.start_redirector(node, "auto", &site)?;
            self.screen.command(node.name, &format!("node-redirect run --config {NODE_CONFIG}"));
        }
        for pod in [POD_A, POD_C] {
            self.open(pod, &[Protocol::Tcp], WORLD, Expected::Node)?;
        }
        Ok(())
    }

    fn apply_policies(&mut self) -> Result<()> {
        self.screen
            .step("Two policies are applied: at the gateway over HTTP, at the nodes by file");
        let all = self.lab.site().documents(&[PAYMENTS, CRAWLER]);
        self.screen.output(&[PAYMENTS, CRAWLER].join("---\n"));
        let answer = self.lab.apply_at_gateway(&all)?;
        self.screen.command("gateway", "egress-gateway policy apply -f policies.yaml");
        self.screen.output(&answer);
        for node in &NODES {
            self.lab.apply_at_node(node, &all)?;
            self.lab.wait_until_redirected(node, &all)?;
            self.screen.command(node.name, &format!("cp policies.yaml {POLICY}"));
        }
        Ok(())
    }

    fn selected_pods(&mut self) -> Result<()> {
        self.screen.step("Selected pods on both nodes leave as the egress IP of their policy");
        for pod in [POD_A, POD_D, POD_C] {
            self.open(pod, &ALL, WORLD, egress_of(pod)?)?;
        }
        // flows of one pod at the same time, to one place
        let more = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Udp];
        self.open(POD_A, &more, WORLD, egress_of(POD_A)?)
    }

    fn not_selected(&mut self) -> Result<()> {
        self.screen
            .step("A pod that no policy selects, and a destination that one policy excludes");
        self.open(POD_B, &ALL, WORLD, Expected::Node)?;
        self.open(POD_A, &ALL, WORLD_EXCLUDED, Expected::Node)?;
        // the exclusion binds its own policy only
        self.open(POD_C, &[Protocol::Tcp], WORLD_EXCLUDED, egress_of(POD_C)?)
    }

    fn bulk(&mut self) -> Result<()> {
        let bytes = self.bytes;
        self.screen
            .step(&format!("{bytes} bytes from the world and back to it, with equal checksums"));
        let expected = blob_sha256(bytes);
        self.screen.output(&format!("the world sends {expected}"));
        Family::BOTH
            .into_iter()
            .try_for_each(|family| self.there_and_back(WORLD.of(family), &expected))
    }

    fn there_and_back(&mut self, world: IpAddr, sha256: &str) -> Result<()> {
        let file = "/run/blob";
        let curl = ["curl", "-sSf", "-m", TRANSFER_SECONDS];

        let down = self.plan(POD_A, world)?;
        let from = format!("{}/blob?flow={}&bytes={}", url(world), down.id, self.bytes);
        let rate = "%{time_total} s, %{speed_download} bytes/s\n";
        self.run(&down, &[&curl[..], &["-o", file, "-w", rate, &from]].concat());
        let here = self.run(&down, &["sha256sum", file]);
        if !here.starts_with(sha256) {
            self.traffic.unanswered(&down);
        }

        let up = self.plan(POD_A, world)?;
        let to = format!("{}/blob?flow={}", url(world), up.id);
        let rate = "\n%{time_total} s, %{speed_upload} bytes/s\n";
        let there = self.run(&up, &[&curl[..], &["-T", file, "-w", rate, &to]].concat());
        if !there.contains(sha256) {
            self.traffic.unanswered(&up);
        }
        Ok(())
    }

    fn show_the_way(&mut self) -> Result<()> {
        self.screen.step("The pod's way to the world: its first hop is the gateway");
        for family in Family::BOTH {
            let world = WORLD.of(family).to_string();
            let command = ["traceroute", "-n", "-I", "-q", "1", "-w", "1", &world];
            self.screen.command(POD_A.name, &typed(&command));
            let hops = self.lab.host(POD_A.name)?.run(&command)?;
            self.screen.output(&hops);
            let first = hops.lines().nth(1).unwrap_or_default();
            let gateway = GATEWAY_TUNNEL.of(family).to_string();
            if !first.split_whitespace().any(|word| word == gateway) {
                self.wrong.push(format!("the first hop is not the gateway: {first}"));
            }
        }
        Ok(())
    }

    fn show_tables(&mut self) -> Result<()> {
        self.screen.step("What the oracle counted at every exit; rows with ! must be 0");
        let report = self.lab.report()?;
        self.screen.table(&report.to_string());
        if let Err(error) = report.require_clean() {
            self.wrong.push(error.to_string());
        }
        self.screen.step("What an operator sees");
        for node in &NODES {
            let table = self.lab.redirector_cli(node, &["list", "--config", NODE_CONFIG])?;
            self.screen.command(node.name, "node-redirect list");
            self.screen.table(&table);
        }
        for words in [&["sessions", "--policy", "shop-crawler"][..], &["stats"]] {
            let table = self.lab.gateway_cli(words)?;
            self.screen.command("gateway", &format!("egress-gateway {}", words.join(" ")));
            self.screen.table(&table);
        }
        Ok(())
    }

    /// The last word is the world's.
    fn verdict(&mut self) -> Result<()> {
        self.screen.step("Which source the world saw of each flow");
        let judged = self.traffic.judge(&self.lab)?;
        self.screen.flows(&judged);
        let (egress, node): (Vec<_>, Vec<_>) =
            judged.iter().partition(|judged| judged.flow.leaves_as_egress_ip());
        if !node.iter().all(|judged| judged.is_right()) {
            self.wrong.push("a flow without policy did not leave as its node".to_owned());
        }
        let (good, all) = (egress.iter().filter(|judged| judged.is_right()).count(), egress.len());
        println!("\ndemo: {good} of {all} pod flows left as their egress IP");
        ensure!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        ensure!(good == all, "{} flows did not", all - good);
        Ok(())
    }

    /// Opens a flow of each protocol, in each family, with its tool, on screen.
    fn open(
        &mut self,
        pod: Pod,
        protocols: &[Protocol],
        to: Dual,
        expected: Expected,
    ) -> Result<()> {
        for family in Family::BOTH {
            for protocol in protocols {
                self.open_one(pod, *protocol, to.of(family), expected);
            }
        }
        Ok(())
    }

    fn open_one(&mut self, pod: Pod, protocol: Protocol, to: IpAddr, expected: Expected) {
        let flow = self.traffic.plan(pod, protocol, to, expected);
        self.screen.command(pod.name, &flow.command().join(" "));
        match self.traffic.open(&self.lab, &flow) {
            // of ping only the line with the answer
            Ok(answer) if protocol == Protocol::Icmp => {
                answer
                    .lines()
                    .filter(|line| line.contains("from"))
                    .for_each(|line| self.screen.output(line));
            }
            Ok(answer) => self.screen.output(&answer),
            Err(error) => self.screen.output(&error.to_string()),
        }
    }

    fn plan(&mut self, pod: Pod, to: IpAddr) -> Result<Flow> {
        Ok(self.traffic.plan(pod, Protocol::Tcp, to, egress_of(pod)?))
    }

    /// Runs a command that belongs to `flow`, on screen; its output.
    fn run(&mut self, flow: &Flow, words: &[&str]) -> String {
        self.screen.command(flow.pod.name, &typed(words));
        let output = self.lab.host(flow.pod.name).and_then(|pod| pod.run(words));
        let text = output.unwrap_or_else(|error| {
            self.traffic.unanswered(flow);
            error.to_string()
        });
        self.screen.output(&text);
        text
    }
}

/// By the policies of this scenario.
fn egress_of(pod: Pod) -> Result<Expected> {
    let policy = if pod.name == POD_C.name { CRAWLER } else { PAYMENTS };
    Expected::by(policy)
}
