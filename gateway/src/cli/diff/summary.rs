//! What a whole document is, in one line.

use serde_json::Value;

/// Addresses that are named; of more, the first and how many.
const NAMED: usize = 4;

pub(super) fn of(document: &Value) -> String {
    let spec = &document["spec"];
    match document["kind"].as_str() {
        Some("EgressPolicy") => policy(spec),
        Some("EgressGateway") => format!("tunnel address {}", scalar(&spec["tunnelAddress"])),
        Some("EgressNode") => {
            let (tunnel, cidrs) = (scalar(&spec["tunnelAddress"]), texts(&spec["podCIDRs"]));
            format!("tunnel address {tunnel}, pods {}", some(&cidrs, "CIDRs"))
        }
        Some("EgressEndpoint") => {
            let node = spec["node"].as_str().map(|node| format!(" on {node}")).unwrap_or_default();
            format!("{}{node}", some(&texts(&spec["ips"]), "addresses"))
        }
        _ => String::new(),
    }
}

fn policy(spec: &Value) -> String {
    let egress = spec["egress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ips: Vec<String> = egress
        .iter()
        .map(|egress| {
            let ips = some(&texts(&egress["egressIPs"]), "egress IPs");
            let draining = match texts(&egress["drainingIPs"]).len() {
                0 => String::new(),
                count => format!(" ({count} draining)"),
            };
            format!("{ips}{draining} at {}", scalar(&egress["gateway"]))
        })
        .collect();
    let mut parts = vec![some(&ips, "gateways")];
    parts.push(counted(&spec["destinationCIDRs"], "destination"));
    if !texts(&spec["excludedCIDRs"]).is_empty() {
        parts.push(counted(&spec["excludedCIDRs"], "excluded CIDR"));
    }
    if let Some(priority) = spec["priority"].as_i64().filter(|priority| *priority != 0) {
        parts.push(format!("priority {priority}"));
    }
    parts.join("; ")
}

fn counted(list: &Value, what: &str) -> String {
    match texts(list).len() {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn some(texts: &[String], what: &str) -> String {
    match texts {
        [] => format!("no {what}"),
        few if few.len() <= NAMED => few.join(", "),
        many => format!("{} … ({} {what})", many[..NAMED - 1].join(", "), many.len()),
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().map(|list| list.iter().map(scalar).collect()).unwrap_or_default()
}

/// As it stands in YAML.
fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
