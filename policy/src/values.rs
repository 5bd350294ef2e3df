//! Addresses, CIDRs, names and labels as documents write them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::path::Path;
use crate::reader::{Report, Value};

/// A list of distinct values, each with its index. Those that cannot be read are reported and left
/// out.
pub(crate) fn distinct<T: Ord + Copy + ToString>(
    list: &Value<'_>,
    read: fn(&Value<'_>, &mut Report<'_>) -> Option<T>,
    report: &mut Report<'_>,
) -> Vec<(T, usize)> {
    let items = list.items(report).enumerate();
    let mut values: Vec<(T, usize)> =
        items.filter_map(|(index, item)| Some((read(&item, report)?, index))).collect();
    // Lists are long, most are in order, and few have duplicates.
    let mut sorted = values.clone();
    sorted.sort_unstable();
    if sorted.is_sorted_by(|(one, _), (next, _)| one < next) {
        return values;
    }
    let mut first_uses = BTreeMap::new();
    values.retain(|&(value, index)| {
        let first = *first_uses.entry(value).or_insert(index);
        if first != index {
            let first = Path::Index(&list.path, first);
            let reason = format!("{} is already in {first}", value.to_string());
            report.error(Path::Index(&list.path, index), reason, "remove it");
        }
        first == index
    });
    values
}

/// A list of distinct networks, which may be absent.
pub(crate) fn cidrs(list: Option<Value<'_>>, report: &mut Report<'_>) -> Vec<IpNet> {
    let Some(list) = list else { return Vec::new() };
    distinct(&list, cidr, report).into_iter().map(|(cidr, _)| cidr).collect()
}

/// A network in its canonical form: with a prefix length, without host bits.
fn cidr(value: &Value<'_>, report: &mut Report<'_>) -> Option<IpNet> {
    let text = value.text(report)?;
    let error = |report: &mut Report<'_>, reason: &str, hint: String| {
        report.error(value.path, format!("{text:?} {reason}"), hint);
        None
    };
    let Ok(net) = text.parse::<IpNet>() else {
        return match text.parse::<IpAddr>() {
            Ok(address) => {
                let hint = format!("for this one address write {}", IpNet::from(address));
                error(report, "has no prefix length", hint)
            }
            Err(_) => error(report, "is not a CIDR", "write it as 192.0.2.0/24".to_owned()),
        };
    };
    if let Some(embedded) = embedded_v4(net.addr()) {
        let hint = format!("packets carry the IPv4 address: write {embedded} with its own prefix");
        return error(report, "is an IPv4-mapped IPv6 network", hint);
    }
    if net != net.trunc() {
        let hint = format!("write {} or {}", net.trunc(), IpNet::from(net.addr()));
        return error(report, "has bits set after its prefix", hint);
    }
    Some(net)
}

/// An address that one host can have and others can reach.
pub(crate) fn host_address(value: &Value<'_>, report: &mut Report<'_>) -> Option<IpAddr> {
    let text = value.text(report)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let (reason, hint) = match text.parse::<IpNet>() {
            Ok(net) => ("is a CIDR, not an address", format!("write {}", net.addr())),
            Err(_) => ("is not an IP address", "write it as 192.0.2.1".to_owned()),
        };
        report.error(value.path, format!("{text:?} {reason}"), hint);
        return None;
    };
    if let Some(embedded) = embedded_v4(address) {
        let reason = format!("{address} is an IPv4-mapped IPv6 address");
        report.error(value.path, reason, format!("write {embedded}"));
        return None;
    }
    if let Some(class) = unusable_class(address) {
        let reason = format!("{address} is {class}, which no host can be reached by");
        report.error(value.path, reason, "write the address that packets carry");
        return None;
    }
    Some(address)
}

/// `::ffff:192.0.2.1`, which never is on the wire.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

fn unusable_class(address: IpAddr) -> Option<&'static str> {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let this_network = IpNet::from(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8));
    let class_e = IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4));
    let classes = [
        (address.is_unspecified(), "the unspecified address"),
        (address.is_loopback(), "a loopback address"),
        (address.is_multicast(), "a multicast address"),
        (is_link_local, "a link-local address"),
        (address == Ipv4Addr::BROADCAST, "the broadcast address"),
        (this_network.contains(&address), "in 0.0.0.0/8"),
        (class_e.contains(&address), "in 240.0.0.0/4, which is reserved"),
    ];
    classes.iter().find(|(is_in, _)| *is_in).map(|(_, class)| *class)
}

/// The name of a cluster-scoped object: a DNS-1123 subdomain.
pub(crate) fn name(value: &Value<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = value.text(report)?;
    if is_name(text) {
        return Some(text.to_owned());
    }
    let hint = "lower-case letters, digits, '-' and '.', at most 253, \
                each part beginning and ending with a letter or digit";
    report.error(value.path, format!("{text:?} is not a DNS-1123 subdomain"), hint);
    None
}

/// The name of a namespace: a DNS-1123 label.
pub(crate) fn namespace(value: &Value<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = value.text(report)?;
    if text.len() <= 63 && is_dns_label(text) {
        return Some(text.to_owned());
    }
    let hint = "lower-case letters, digits and '-', at most 63, \
                beginning and ending with a letter or digit";
    report.error(value.path, format!("{text:?} is not a DNS-1123 label"), hint);
    None
}

/// Whether this can be the name of a document: a DNS-1123 subdomain.
pub fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(is_alphanumeric)
        && text.bytes().last().is_some_and(is_alphanumeric)
        && text.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
}

/// Labels, or the exact labels of a selector.
pub(crate) fn labels(
    value: Option<Value<'_>>,
    report: &mut Report<'_>,
) -> BTreeMap<String, String> {
    texts(value, label_value, report)
}

/// Annotations: keys as in labels, any text as value.
pub(crate) fn annotations(
    value: Option<Value<'_>>,
    report: &mut Report<'_>,
) -> BTreeMap<String, String> {
    texts(value, |value, report| value.text(report).map(str::to_owned), report)
}

fn texts(
    value: Option<Value<'_>>,
    read: fn(&Value<'_>, &mut Report<'_>) -> Option<String>,
    report: &mut Report<'_>,
) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let Some(value) = value else { return texts };
    for (key, value) in value.entries(report) {
        check_label_key(key, value.path, report);
        if let Some(text) = read(&value, report) {
            texts.insert(key.to_owned(), text);
        }
    }
    texts
}

/// A label key: a name of at most 63 characters, perhaps after a DNS prefix and a slash.
pub(crate) fn check_label_key(key: &str, path: Path<'_>, report: &mut Report<'_>) {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_is_good = prefix.is_none_or(is_name);
    if !prefix_is_good || name.is_empty() || !is_label_text(name) {
        let hint = "write it as name or as example.com/name; a name has at most 63 letters, \
                    digits, '-', '_' and '.'";
        report.error(path, format!("{key:?} is not a label key"), hint);
    }
}

/// A label value, which may be empty.
pub(crate) fn label_value(value: &Value<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = value.text(report)?;
    if is_label_text(text) {
        return Some(text.to_owned());
    }
    let hint = "at most 63 letters, digits, '-', '_' and '.', \
                beginning and ending with a letter or digit";
    report.error(value.path, format!("{text:?} is not a label value"), hint);
    None
}

fn is_label_text(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= 63
        && ends.iter().flatten().all(u8::is_ascii_alphanumeric)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
