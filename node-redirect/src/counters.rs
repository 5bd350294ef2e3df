//! Every reason a packet's verdict can have, with its name and meaning. Metrics, `status`, `trace` and the documents take both from
//! here; the order is that of `enum reason` in `bpf/types.h`.

use serde::Serialize;

/// What became of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Left to the node, as without policy.
    Passed,
    /// Sent to a gateway.
    Redirected,
    /// Brought from a gateway to the pod.
    Returned,
    Dropped,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Redirected => "redirected",
            Self::Returned => "returned",
            Self::Dropped => "dropped",
        }
    }
}

#[derive(Debug)]
pub struct Counter {
    pub name: &'static str,
    pub verdict: Verdict,
    pub help: &'static str,
}

macro_rules! reasons {
    ($($variant:ident $verdict:ident $name:literal $help:literal)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason { $($variant,)* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];
        }

        const COUNTERS: &[Counter] = &[
            $(Counter { name: $name, verdict: Verdict::$verdict, help: $help },)*
        ];
    };
}

reasons! {
    NotIp Passed "not_ip" "ARP and the like: not judged"
    NotSelected Passed "not_selected" "no policy selects the pod"
    Exempt Passed "exempt" "the destination is never redirected: pods, services, nodes, gateways, link-local, multicast, never_redirect"
    OutsidePolicy Passed "outside_policy" "no policy of the pod contains the destination"
    Excluded Passed "excluded" "every policy of the pod that contains the destination excludes it"
    InboundFlow Passed "inbound_flow" "the world opened this flow: its answers leave as they came"
    FailedOpen Passed "failed_open" "the policy has no healthy gateway, and its failureMode is Open"
    Redirected Redirected "redirected" "sent to a gateway"
    Malformed Dropped "malformed" "IP that is truncated or contradicts itself, from a pod"
    ForgedTunnel Dropped "forged_tunnel" "VXLAN, or a UDP fragment that may hide it, from a pod to a gateway or node"
    LinkOnly Dropped "link_only" "neighbor discovery or the like, which belongs on the pod's link, to a destination under policy"
    TooBig Dropped "too_big" "larger than the tunnel carries"
    NoGateway Dropped "no_gateway" "the policy has no healthy gateway, and its failureMode is Closed"
    NoTunnel Dropped "no_tunnel" "the VXLAN device is missing"
    Returned Returned "returned" "brought from a gateway to the pod"
    UnknownGateway Dropped "unknown_gateway" "from the tunnel, but not from a gateway's address"
    UnknownVni Dropped "unknown_vni" "from a gateway, but the VNI is no policy's id"
    MalformedReturn Dropped "malformed_return" "from a gateway, but not sound IP inside"
    UnknownPod Dropped "unknown_pod" "from a gateway, for an address that is no selected pod of this node"
    NoRoute Dropped "no_route" "from a gateway, for a pod that this node has no direct route to, or that is larger than the route's MTU"
}

impl Reason {
    pub fn counter(self) -> &'static Counter {
        &COUNTERS[self as usize]
    }

    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }
}

/// What happens beside a packet's verdict, in the order of `enum event`.
pub const EVENTS: &[(&str, &str)] = &[(
    "flow_table_full",
    "flows that found the table full: redirected ones go on by look-up, inbound ones are not known as such",
)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_of_the_c_side_in_its_order() {
        let c_names: Vec<String> = include_str!("../bpf/types.h")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("REASON_"))
            .map(|name| name.split([',', ' ']).next().unwrap().to_lowercase())
            .filter(|name| name != "count")
            .collect();
        let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.counter().name).collect();
        assert_eq!(names, c_names);
    }

    #[test]
    fn events_are_those_of_the_c_side_in_its_order() {
        let c_names: Vec<String> = include_str!("../bpf/types.h")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("EVENT_"))
            .map(|name| name.split([',', ' ']).next().unwrap().to_lowercase())
            .filter(|name| name != "count")
            .collect();
        assert_eq!(EVENTS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), c_names);
    }
}
