//! A real Prometheus scrapes gateway and redirector, and says of them what they say of themselves. The programs come from Debian's
//! package, which `./dev setup` unpacks beside what is built: nothing is installed, and no service starts.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use common::{both_policies, crawler, open_all, payments, product};
use lab::config::{GATEWAY_API, NODE_API, NODE_CONFIG};
use lab::host::Host;
use lab::stack::Lab;
use lab::topology::{NODES, POD_A, POD_C, WORLD};
use lab::traffic::Traffic;
use lab::wait::{PATIENCE, until};
use serde_json::Value;

/// Of Prometheus itself, in each namespace.
const LISTEN: &str = "127.0.0.1:9490";

fn tool(name: &str) -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target folder")?;
    let path = target.join("tools/prometheus/usr/bin").join(name);
    ensure!(path.exists(), "{} is missing: run ./dev setup, which fetches it", path.display());
    Ok(path)
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/prometheus").join(name)
}

/// Told only of gateways that the node has a steering source for, which no node of the lab has. The redirector's own tests ask for them by name.
const WITH_A_STEERING_SOURCE: [&str; 2] =
    ["node_redirect_steering_source_valid", "node_redirect_steering_last_answer_timestamp_seconds"];

/// What is wrong is on standard output or error, and the exit code.
fn promtool(arguments: &[&str]) -> Result<String> {
    let output = Command::new(tool("promtool")?).args(arguments).output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    Ok(said)
}

/// `promtool check metrics` has something to say of neither.
fn require_sound(host: &Host, api: &str) -> Result<String> {
    let text = host.run(&["curl", "-sSf", "-m", "10", &format!("{api}/metrics")])?;
    let program = tool("promtool")?.display().to_string();
    host.write("/run/metrics", &text)?;
    let said = host.run(&["sh", "-c", &format!("{program} check metrics < /run/metrics 2>&1")])?;
    ensure!(said.is_empty(), "{}: {said}", host.name());
    Ok(text)
}

/// One Prometheus in that host's network, with our example but for its intervals and without the other host's job.
fn start_prometheus(lab: &Lab, host: &str, job: &str) -> Result<lab::daemon::Daemon> {
    let host = lab.host(host)?;
    let example = fs::read_to_string(shipped("prometheus.yaml"))?;
    let (head, jobs) = example.split_once("scrape_configs:\n").context("the example's jobs")?;
    let own = jobs.split("- job_name: ").find(|text| text.starts_with(job)).context("the job")?;
    let config = format!("{head}scrape_configs:\n- job_name: {own}").replace("15s", "500ms");
    host.write("/run/prometheus/prometheus.yaml", &config)?;
    host.write("/run/prometheus/alerts.yaml", &fs::read_to_string(shipped("alerts.yaml"))?)?;
    let program = tool("prometheus")?.display().to_string();
    let listen = format!("--web.listen-address={LISTEN}");
    let words = [
        program.as_str(),
        "--config.file=/run/prometheus/prometheus.yaml",
        "--storage.tsdb.path=/run/prometheus/data",
        listen.as_str(),
    ];
    host.daemon("prometheus", &words)
}

/// By Prometheus' own HTTP API.
fn ask(host: &Host, path: &str, query: &[(&str, &str)]) -> Result<Value> {
    let url = format!("http://{LISTEN}/api/v1/{path}");
    let mut words = vec!["curl", "-sSf", "-m", "10", "-G", &url];
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    for pair in &pairs {
        words.extend(["--data-urlencode", pair]);
    }
    let answer: Value = serde_json::from_str(&host.run(&words)?)?;
    ensure!(answer["status"] == "success", "{answer}");
    Ok(answer["data"].clone())
}

/// The one value that a query has.
fn value(host: &Host, query: &str) -> Result<f64> {
    let data = ask(host, "query", &[("query", query)])?;
    let [sample] = data["result"].as_array().context("no result")?.as_slice() else {
        bail!("{query}: not one sample: {data}")
    };
    Ok(sample["value"][1].as_str().context("no value")?.parse()?)
}

/// Prometheus and the program agree. Both move while packets do, so they are asked until they stand still.
fn require_same(host: &Host, query: &str, own: impl Fn() -> Result<f64>) -> Result<f64> {
    until(&format!("{} agrees on {query}", host.name()), PATIENCE, || {
        let (scraped, own) = (value(host, query)?, own()?);
        ensure!(scraped == own, "Prometheus says {scraped}, the program {own}");
        Ok(own)
    })
}

#[test]
fn prometheus_scrapes_both_programs_and_agrees_with_them() -> Result<()> {
    let lab = product(&both_policies())?;
    let node = NODES[0];
    let (gateway, at_node) = (lab.host("gateway")?, lab.host(node.name)?);
    let _one = start_prometheus(&lab, "gateway", "egress-gateway")?;
    let _other = start_prometheus(&lab, node.name, "node-redirect")?;
    for host in [gateway, at_node] {
        until(&format!("{}: the program is up", host.name()), PATIENCE, || {
            ensure!(value(host, "up")? == 1.0, "it is not");
            Ok(())
        })?;
    }
    let mut traffic = Traffic::default();
    open_all(&lab, &mut traffic, POD_A, WORLD, payments())?;
    open_all(&lab, &mut traffic, POD_C, WORLD, crawler())?;

    let stats = || -> Result<Value> {
        Ok(serde_json::from_str(&lab.gateway_cli(&["stats", "-o", "json"])?)?)
    };
    for way in ["in2out", "out2in"] {
        for unit in ["packets", "bytes"] {
            let query = format!("sum(egress_gateway_{way}_{unit}_total)");
            let count = require_same(gateway, &query, || {
                let stats = stats()?;
                let workers = stats["workers"].as_array().context("workers")?;
                Ok(workers.iter().filter_map(|worker| worker[way][unit].as_f64()).sum())
            })?;
            assert!(count > 0.0, "{query}");
        }
    }
    let live = require_same(gateway, "sum(egress_gateway_sessions)", || {
        let stats = stats()?;
        stats["workers"][0]["sessions"]["live"].as_f64().context("live sessions")
    })?;
    assert_eq!(value(gateway, "sum(egress_gateway_l4_ports_in_use)")?, live);
    let one_ip = value(gateway, "egress_gateway_l4_ports_in_use{egress_ip=\"203.0.113.16\"}")?;
    assert!(0.0 < one_ip && one_ip < live, "{one_ip} of {live}");
    assert!(value(gateway, "egress_gateway_l4_ports_in_use_max")? >= 1.0);

    let policy = "node_redirect_policy_packets_total{policy=\"shop-payments\"}";
    let count = require_same(at_node, policy, || {
        let list = lab.redirector_cli(&node, &["list", "-o", "json", "--config", NODE_CONFIG])?;
        let rows: Vec<Value> = serde_json::from_str(&list)?;
        // Each row of a pod has the sum of all its destinations.
        let mut by_pod = BTreeMap::new();
        for row in rows.iter().filter(|row| row["policy"] == "shop-payments") {
            let pod = row["sourceIp"].as_str().context("sourceIp")?;
            by_pod.insert(pod, row["packets"].as_f64().context("packets")?);
        }
        Ok(by_pod.values().sum())
    })?;
    assert!(count > 0.0, "{policy}");
    require_same(at_node, "node_redirect_redirected_total", || {
        let status =
            lab.redirector_cli(&node, &["status", "-o", "json", "--config", NODE_CONFIG])?;
        let status: Value = serde_json::from_str(&status)?;
        let counters = status["counters"].as_array().context("counters")?;
        let redirected = counters.iter().find(|counter| counter["name"] == "redirected");
        redirected.context("redirected")?["packets"].as_f64().context("packets")
    })?;
    for (host, api) in [(gateway, GATEWAY_API), (at_node, NODE_API)] {
        let text = require_sound(host, api)?;
        assert!(text.contains("_build_info{"), "{text}");
        // The shipped rules are loaded, and none of them cries over a gateway that is well.
        until(&format!("{}: rules are evaluated", host.name()), PATIENCE, || {
            let groups = ask(host, "rules", &[])?;
            let rules = groups["groups"].as_array().context("groups")?.iter();
            let rules: Vec<&Value> =
                rules.filter_map(|group| group["rules"].as_array()).flatten().collect();
            ensure!(!rules.is_empty(), "there are none");
            ensure!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
            let loud: Vec<&&Value> = rules.iter().filter(|r| r["state"] != "inactive").collect();
            ensure!(loud.is_empty(), "{loud:#?}");
            Ok(())
        })?;
    }
    lab.report()?.require_clean()
}

/// Every metric that a rule names is one that a program has: a rule over a misspelt one never fires.
#[test]
fn the_shipped_rules_are_sound_and_over_metrics_that_exist() -> Result<()> {
    let said = promtool(&["check", "rules", &shipped("alerts.yaml").display().to_string()])?;
    assert!(said.contains("SUCCESS"), "{said}");
    promtool(&["check", "config", &shipped("prometheus.yaml").display().to_string()])?;
    let lab = product(&both_policies())?;
    let mut told = String::new();
    for (host, api) in [("gateway", GATEWAY_API), (NODES[0].name, NODE_API)] {
        let url = format!("{api}/metrics");
        told += &lab.host(host)?.run(&["curl", "-sSf", "-m", "10", &url])?;
    }
    let rules = fs::read_to_string(shipped("alerts.yaml"))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = rules.split(|c| !is_name(c)).filter(|word| {
        ["egress_gateway_", "node_redirect_"].iter().any(|prefix| word.starts_with(prefix))
    });
    let mut count = 0;
    for name in named.filter(|name| !WITH_A_STEERING_SOURCE.contains(name)) {
        assert!(told.contains(&format!("\n# TYPE {name} ")), "{name} is no metric");
        count += 1;
    }
    assert!(count > 15, "{count}");
    for reason in rules.split("reason=").skip(1) {
        let reasons = reason.split('"').nth(1).context("a reason")?;
        for reason in reasons.split('|') {
            assert!(told.contains(&format!("reason=\"{reason}\"")), "{reason} is no reason");
        }
    }
    Ok(())
}
