//! The whole lab: hosts and cables, the echo server and the oracle; and on top of that, when asked for, the product's programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use policy::{Action, Format};
use serde::Deserialize;

use crate::config::{self, GATEWAY_API, GATEWAY_CONFIG, NODE_API, NODE_CONFIG, POLICY};
use crate::daemon::Daemon;
use crate::echo::seen::Sighting;
use crate::family::Dual;
use crate::host::Host;
use crate::namespaces::{Namespaces, beside, lab_program};
use crate::oracle::{Oracle, Report};
use crate::site::Site;
use crate::topology::{
    NODES, Node, Pod, WORLD, WORLD_EXCLUDED, hosts, open_exits, replace_interface, wire,
};
use crate::wait::{PATIENCE, until};

#[derive(Debug)]
pub struct Lab {
    site: Site,
    /// By name; stopped before the namespaces go.
    daemons: BTreeMap<String, Daemon>,
    oracle: Oracle,
    hugepages: bool,
    print_logs: bool,
    namespaces: Namespaces,
}

impl Lab {
    /// Hosts, cables, masquerading nodes, the echo server and the oracle. Nothing of the product runs.
    pub fn start(site: Site) -> Result<Self> {
        let arrangement = site.arrangement;
        let hugepages = std::env::var_os("LAB_NO_HUGEPAGES").is_none();
        let namespaces = Namespaces::make(&hosts(arrangement), hugepages)?;
        wire(&namespaces, arrangement)?;
        let oracle = Oracle::watch(&namespaces, arrangement)?;
        open_exits(&namespaces, arrangement)?;
        let daemons = BTreeMap::new();
        let mut lab = Self { site, daemons, oracle, hugepages, print_logs: false, namespaces };
        let mut echo = vec![lab_program()?.display().to_string(), "echo".to_owned()];
        let addresses = [WORLD, WORLD_EXCLUDED].into_iter().flat_map(Dual::both);
        echo.extend(addresses.map(|address| address.to_string()));
        let words: Vec<&str> = echo.iter().map(String::as_str).collect();
        let echo = lab.host("world")?.daemon("echo", &words)?;
        lab.daemons.insert("echo".to_owned(), echo);
        until("the echo server answers", PATIENCE, || lab.seen())?;
        Ok(lab)
    }

    #[must_use]
    pub fn site(&self) -> Site {
        self.site
    }

    pub fn host(&self, name: &str) -> Result<&Host> {
        self.namespaces.host(name)
    }

    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.namespaces.hosts()
    }

    /// As [`replace_interface`].
    pub fn replace_interface(&self, pod: &Pod) -> Result<()> {
        replace_interface(&self.namespaces, pod)
    }

    pub fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        self.daemons.get_mut(name).with_context(|| format!("{name} does not run"))
    }

    /// Gives the daemon away, for whoever wants to stop or kill it.
    pub fn take_daemon(&mut self, name: &str) -> Result<Daemon> {
        self.daemons.remove(name).with_context(|| format!("{name} does not run"))
    }

    pub fn oracle(&mut self) -> &mut Oracle {
        &mut self.oracle
    }

    pub fn report(&self) -> Result<Report> {
        self.oracle.report()
    }

    /// What the world saw, the oldest first.
    pub fn seen(&self) -> Result<Vec<Sighting>> {
        let url = format!("http://{}/seen", WORLD.v4);
        let text = self.host("world")?.run(&["curl", "-sSf", "-m", "10", &url])?;
        serde_json::from_str(&text).context("GET /seen")
    }

    /// Starts the gateway with `policies` as its first set, and waits until it is ready.
    pub fn start_gateway(&mut self, policies: &str) -> Result<()> {
        let program = gateway_program()?.display().to_string();
        let host = self.host("gateway")?;
        host.write(GATEWAY_CONFIG, &config::gateway(self.site, self.hugepages)?)?;
        host.write(POLICY, policies)?;
        let daemon =
            host.daemon("egress-gateway", &[&program, "run", "--config", GATEWAY_CONFIG])?;
        self.daemons.insert("egress-gateway".to_owned(), daemon);
        self.expect_policies(policies)?;
        self.wait_until_ready("egress-gateway", "gateway", GATEWAY_API)
    }

    /// Starts the redirector of `node`, and waits until it is ready.
    pub fn start_redirector(&mut self, node: &Node, hook: &str, policies: &str) -> Result<()> {
        let program = redirector_program()?.display().to_string();
        let name = redirector(node);
        let host = self.host(node.name)?;
        host.write(NODE_CONFIG, &config::node_redirect(self.site, node, hook))?;
        host.write(POLICY, policies)?;
        let daemon = host.daemon(&name, &[&program, "run", "--config", NODE_CONFIG])?;
        self.daemons.insert(name.clone(), daemon);
        self.wait_until_ready(&name, node.name, NODE_API)
    }

    /// The gateway and a redirector on every node, with the same policies.
    pub fn start_product(&mut self, policies: &str) -> Result<()> {
        self.start_gateway(policies)?;
        NODES.iter().try_for_each(|node| self.start_redirector(node, "auto", policies))
    }

    /// `egress-gateway …` on the gateway host: its standard output.
    pub fn gateway_cli(&self, arguments: &[&str]) -> Result<String> {
        let program = gateway_program()?.display().to_string();
        self.host("gateway")?.run(&[&[program.as_str()], arguments].concat())
    }

    /// `node-redirect …` on that node: its standard output.
    pub fn redirector_cli(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        let program = redirector_program()?.display().to_string();
        self.host(node.name)?.run(&[&[program.as_str()], arguments].concat())
    }

    /// `egress-gateway policy apply`. The oracle learns of added egress IPs before, of removed ones after.
    pub fn apply_at_gateway(&mut self, policies: &str) -> Result<String> {
        self.expect_policies(policies)?;
        let answer = self.apply_unchecked(policies)?;
        self.forbid_all_but(policies)?;
        Ok(answer)
    }

    /// The same for documents that the gateway may refuse; the oracle learns nothing.
    pub fn apply_unchecked(&self, policies: &str) -> Result<String> {
        let file = "/run/egress-gateway/apply.yaml";
        self.host("gateway")?.write(file, policies)?;
        self.gateway_cli(&["policy", "apply", "-f", file])
    }

    /// Rewrites the file that the node's redirector watches.
    pub fn apply_at_node(&self, node: &Node, policies: &str) -> Result<()> {
        self.host(node.name)?.write(POLICY, policies)
    }

    /// Waits until the node redirects by all policies of these documents that select a pod of it, and by no others.
    pub fn wait_until_redirected(&self, node: &Node, policies: &str) -> Result<()> {
        let (set, _) = policy::parse(policies, Format::Yaml)?;
        let compiled = policy::compile_node(&set, node.name);
        let entries = compiled.sets.values().flat_map(|set| &set.entries);
        let wanted: BTreeSet<u32> = entries
            .filter_map(|(_, action)| match action {
                Action::Redirect(id) => Some(id.get()),
                Action::Exclude => None,
            })
            .collect();
        until(&format!("{} redirects by {wanted:?}", node.name), PATIENCE, || {
            let list =
                self.redirector_cli(node, &["list", "--config", NODE_CONFIG, "-o", "json"])?;
            let rows: Vec<RedirectRow> =
                serde_json::from_str(&list).context("node-redirect list")?;
            let active: BTreeSet<u32> = rows.into_iter().filter_map(|row| row.policy_id).collect();
            ensure!(active == wanted, "it redirects by {active:?}");
            Ok(())
        })
    }

    /// From here on the oracle takes the egress IPs of these policies as well.
    pub fn expect_policies(&mut self, policies: &str) -> Result<()> {
        for (address, id, name) in egress_ips(policies)? {
            self.oracle.expect(address, id, &name)?;
        }
        Ok(())
    }

    fn forbid_all_but(&mut self, policies: &str) -> Result<()> {
        let kept: Vec<IpAddr> = egress_ips(policies)?.into_iter().map(|(ip, ..)| ip).collect();
        for address in self.oracle.expected() {
            if !kept.contains(&address) {
                self.oracle.forbid(address)?;
            }
        }
        Ok(())
    }

    fn wait_until_ready(&mut self, daemon: &str, host: &str, api: &str) -> Result<()> {
        let url = format!("{api}/readyz");
        let ready = until(&format!("{daemon} is ready"), PATIENCE, || {
            let running = self.daemons.get_mut(daemon).map(Daemon::is_running);
            if running.transpose()? != Some(true) {
                // it will not come back: no reason to wait
                return Ok(Err(anyhow!("{daemon} has ended")));
            }
            self.namespaces.host(host)?.run(&["curl", "-sSf", "-m", "2", &url]).map(Ok)
        });
        match ready.and_then(|ready| ready) {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}\n{}", self.logs()),
        }
    }

    /// For a test: its runner shows the output of those that failed.
    pub fn print_logs_at_end(&mut self) {
        self.print_logs = true;
    }

    /// What the product's programs have said, those that have ended included.
    #[must_use]
    pub fn logs(&self) -> String {
        self.hosts().filter(|host| host.name() != "world").map(Host::logs).collect()
    }
}

impl Lab {
    /// What all sides have counted, as far as they still answer.
    fn counters(&self) -> String {
        let mut counters = vec![self.gateway_cli(&["stats"])];
        for node in &NODES {
            counters.push(self.redirector_cli(node, &["status", "--config", NODE_CONFIG]));
        }
        counters.push(self.report().map(|report| report.to_string()));
        counters.into_iter().filter_map(Result::ok).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.print_logs {
            eprintln!("{}{}", self.logs(), self.counters());
        }
    }
}

/// What is needed of a row of `node-redirect list`. Not the policy's name: that comes from the files, and changes before the maps do.
#[derive(Deserialize)]
struct RedirectRow {
    #[serde(rename = "policyID")]
    policy_id: Option<u32>,
}

/// The redirector's name among the daemons.
#[must_use]
pub fn redirector(node: &Node) -> String {
    format!("node-redirect.{}", node.name)
}

pub fn gateway_program() -> Result<PathBuf> {
    beside("egress-gateway", "EGRESS_GATEWAY_BIN")
}

pub fn redirector_program() -> Result<PathBuf> {
    beside("node-redirect", "NODE_REDIRECT_BIN")
}

/// (egress IP, policy id, policy name) of all policies in these documents.
pub fn egress_ips(policies: &str) -> Result<Vec<(IpAddr, u32, String)>> {
    let (set, _) = policy::parse(policies, Format::Yaml)?;
    let mut all = Vec::new();
    for policy in &set.policies {
        for egress in &policy.spec.egress {
            for address in egress.egress_ips.iter().chain(&egress.draining_ips) {
                all.push((*address, policy.policy_id().get(), policy.name().to_owned()));
            }
        }
    }
    Ok(all)
}
