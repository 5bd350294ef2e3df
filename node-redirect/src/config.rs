//! `node-redirect.toml`: the text's shape, and the checked values that the rest of the agent works with.
//!
//! An unknown key or a wrong type is refused by the reader, with its line. Everything else that is wrong is reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use admin::listen::Listen;
use ipnet::IpNet;
use serde::Deserialize;

use crate::config_file::File;
use crate::outer_port::source::Source;

pub const DEFAULT_PATH: &str = "/etc/egress-gateway/node-redirect.toml";

/// Checked: what is here can be used as it stands.
#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    pub vtep: IpAddr,
    pub interfaces: Vec<glob::Pattern>,
    pub hook: HookChoice,
    pub vxlan_device: String,
    pub vxlan_port: u16,
    /// Of the VXLAN device; none: what the underlay carries.
    pub vxlan_mtu: Option<u32>,
    pub policy_files: Vec<PathBuf>,
    pub never_redirect: Vec<IpNet>,
    pub steering: Sources,
    pub flows: Flows,
    pub pin_path: PathBuf,
    pub map_sizes: MapSizes,
    pub api_listen: Listen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum HookChoice {
    #[default]
    Auto,
    Tcx,
    Clsact,
}

/// Where gateways' steering is read.
#[derive(Debug, Clone)]
pub struct Sources {
    /// By the gateway's name in the documents.
    pub of_gateways: BTreeMap<String, Source>,
    /// Between two requests of an API.
    pub interval: Duration,
}

/// Bounds of the flow table. Times are idle seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flows {
    pub max_entries: u32,
    pub tcp_timeout: u32,
    pub tcp_closing_timeout: u32,
    pub udp_timeout: u32,
    pub udp_unreplied_timeout: u32,
    pub icmp_timeout: u32,
    pub other_timeout: u32,
}

impl Default for Flows {
    /// Each a little longer than the gateway's own, so that an entry here outlives the session it leads to.
    fn default() -> Self {
        Self {
            max_entries: 262_144,
            tcp_timeout: 7500,
            tcp_closing_timeout: 250,
            udp_timeout: 310,
            udp_unreplied_timeout: 40,
            icmp_timeout: 70,
            other_timeout: 310,
        }
    }
}

/// Entries that the policy maps take: bounds, not memory. A map keeps the size that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSizes {
    /// Of each address family, over all distinct sets of policies.
    pub max_destinations: u32,
    pub max_policies: u32,
    /// Addresses of this node's pods that are under policy.
    pub max_pods: u32,
    /// Prefixes that are never redirected, of each address family.
    pub max_exempt: u32,
    /// Gateways, nodes, and this node's own addresses.
    pub max_tunnel_addresses: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            max_destinations: 1_048_576,
            max_policies: 65_536,
            max_pods: 65_536,
            max_exempt: 65_536,
            max_tunnel_addresses: 65_536,
        }
    }
}

impl MapSizes {
    /// Each with the name of its key.
    pub fn named(&self) -> [(&'static str, u32); 5] {
        [
            ("max_destinations", self.max_destinations),
            ("max_policies", self.max_policies),
            ("max_pods", self.max_pods),
            ("max_exempt", self.max_exempt),
            ("max_tunnel_addresses", self.max_tunnel_addresses),
        ]
    }
}

#[derive(Debug)]
pub enum ConfigError {
    Unreadable { path: PathBuf, error: std::io::Error },
    Syntax { path: PathBuf, error: Box<toml::de::Error> },
    Invalid { path: PathBuf, problems: Vec<String> },
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(f, "cannot read {}: {error}", path.display())
            }
            Self::Syntax { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Invalid { path, problems } => {
                for problem in problems {
                    writeln!(f, "{}: {problem}", path.display())?;
                }
                write!(f, "{} error(s) in {}", problems.len(), path.display())
            }
        }
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        file.check().map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    pub fn link_pins(&self) -> PathBuf {
        self.pin_path.join("links")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::{Api, Bpf, Steering, Vxlan};
    use crate::outer_port::slots::MAX_STEERED;

    const EXAMPLE: &str = include_str!("../../configs/node-redirect.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("node-redirect.toml"))
    }

    #[test]
    fn the_example_file_is_valid_and_shows_the_defaults() {
        let config = parse(EXAMPLE).unwrap();
        let defaults = Flows::default();
        assert_eq!(config.node_name, "node1");
        assert_eq!(config.vxlan_device, Vxlan::default().device);
        assert_eq!(config.vxlan_port, Vxlan::default().port);
        assert_eq!(config.vxlan_mtu, None);
        assert_eq!(config.pin_path, Bpf::default().pin_path);
        assert_eq!(config.map_sizes, MapSizes::default());
        assert!(config.steering.of_gateways.is_empty());
        assert_eq!(config.steering.interval.as_secs(), u64::from(Steering::default().interval));
        assert_eq!(config.api_listen.to_string(), Api::default().listen);
        assert_eq!(config.flows.max_entries, defaults.max_entries);
        assert_eq!(config.flows.tcp_timeout, defaults.tcp_timeout);
    }

    #[test]
    fn either_address_family_will_do() {
        let text = |vtep: &str| {
            EXAMPLE.replace("192.0.2.1\"", &format!("{vtep}\"")).replace(
                "never_redirect = []",
                "never_redirect = ['fd00:96::1/108', '10.96.0.0/12']",
            )
        };
        let config = parse(&text("2001:db8:1::1")).unwrap();
        assert_eq!(config.vtep.to_string(), "2001:db8:1::1");
        let prefixes: Vec<String> = config.never_redirect.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["fd00:96::/108", "10.96.0.0/12"]);
        for wrong in ["::", "ff02::1", "::1", "fe80::1", "::ffff:192.0.2.1", "224.0.0.1"] {
            let error = parse(&text(wrong)).unwrap_err().to_string();
            assert!(error.contains("node.vtep"), "{wrong}: {error}");
        }
    }

    #[test]
    fn only_four_keys_have_no_default() {
        let text = "[node]\nname = 'n'\nvtep = '192.0.2.1'\n[attach]\ninterfaces = ['veth*']\n[policy]\nfiles = ['p.yaml']\n";
        assert!(parse(text).is_ok());
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let text = "
            [node]\nname = ''\nvtep = '::1'
            [attach]\ninterfaces = ['veth[']\npath = 'kernel'
            [vxlan]\ndevice = 'a name too long for it'\nport = 0\nmtu = 5
            [policy]\nfiles = []
            [steering]\nsources = {gw-a = 'relative.json', gw-b = 'https://gw-b:9480'}\ninterval = 0
            [flows]\nmax_entries = 1\nudp_timeout = 0
            [health]\ninterval_ms = 0\nfailures = 0
            [bpf]\npin_path = 'relative'\nmax_destinations = 0\nmax_pods = 99999999
            [api]\nlisten = 'nowhere'";
        let error = parse(text).unwrap_err().to_string();
        for key in [
            "node.name",
            "node.vtep",
            "attach.interfaces",
            "attach.path",
            "vxlan.device",
            "vxlan.port",
            "vxlan.mtu",
            "policy.files",
            "steering.sources \"gw-a\" = \"relative.json\": write http://HOST:PORT",
            "steering.sources \"gw-b\" = \"https://gw-b:9480\"",
            "steering.interval 0",
            "flows.max_entries",
            "flows.udp_timeout",
            "health.interval_ms",
            "health.failures",
            "bpf.pin_path",
            "bpf.max_destinations",
            "bpf.max_pods",
            "api.listen",
        ] {
            assert!(error.contains(key), "{key} is not in:\n{error}");
        }
        assert!(error.ends_with("19 error(s) in node-redirect.toml"), "{error}");
    }

    #[test]
    fn a_gateways_steering_is_in_a_file_or_at_its_api() {
        let with = |sources: &str| {
            parse(&EXAMPLE.replace("sources = {}", &format!("sources = {{{sources}}}")))
        };
        let written = "'gw-a' = '/etc/gw-a.json', 'gw-b' = 'http://127.0.0.1:9480', gw-c = 'unix:/run/c.sock'";
        let sources = with(written).unwrap().steering.of_gateways;
        let shown: Vec<String> = sources.values().map(ToString::to_string).collect();
        let at_api = ["http://127.0.0.1:9480/v1/steering", "unix:/run/c.sock/v1/steering"];
        assert_eq!(shown, ["/etc/gw-a.json", at_api[0], at_api[1]]);
        let many: Vec<String> = (0..=MAX_STEERED).map(|n| format!("g{n} = '/{n}'")).collect();
        assert!(with(&many[1..].join(", ")).is_ok());
        let error = with(&many.join(", ")).unwrap_err().to_string();
        assert!(error.contains("32 gateways; a node takes 31 at most"), "{error}");
    }

    #[test]
    fn the_api_is_on_the_loopback_or_a_socket_file() {
        let with = |listen: &str| {
            parse(&EXAMPLE.replace(&Api::default().listen, listen)).map(|config| config.api_listen)
        };
        for listen in ["[::1]:9481", "unix:/run/node-redirect.sock"] {
            assert_eq!(with(listen).unwrap().to_string(), listen);
        }
        for listen in ["0.0.0.0:9481", "192.0.2.1:9481", "[2001:db8::1]:9481", "[::]:9481"] {
            let error = with(listen).unwrap_err().to_string();
            let reason = format!(
                "api.listen: {listen} is not a loopback address, and the API does not ask who calls \
                 (write 127.0.0.1:9481 or unix:/run/node-redirect.sock)"
            );
            assert!(error.contains(&reason), "{error}");
        }
        assert!(with("unix:relative").unwrap_err().to_string().contains("absolute path"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse(&EXAMPLE.replace("[health]", "[health]\nintervall = 5")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("intervall") && error.contains("line"), "{error}");
    }
}
