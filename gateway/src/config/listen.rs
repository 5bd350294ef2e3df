//! `[api]`: where the HTTP interface is. It has no authentication, so it is only where none is
//! needed: on the loopback, or on a socket file whose permissions say who may.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::ApiConfig;
use super::section::{Item, Section};

/// Where the API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(PathBuf),
}

impl Default for Listen {
    fn default() -> Listen {
        Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9480)))
    }
}

/// As it is written in the configuration.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> ApiConfig {
    let listen = section.optional("listen").and_then(|item| listen(&item));
    section.finish();
    ApiConfig { listen: listen.unwrap_or_default() }
}

fn listen(item: &Item<'_>) -> Option<Listen> {
    // The longest path that fits in a sockaddr_un with its closing zero.
    const MAX_PATH: usize = 107;
    let hint = "write 127.0.0.1:9480 or unix:/run/egress-gateway.sock";
    let text = item.text()?;
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.contains('\0') || path.len() > MAX_PATH {
            let reason = format!("{path:?} is not an absolute path of at most {MAX_PATH} bytes");
            item.error(reason, hint);
        }
        return Some(Listen::Unix(PathBuf::from(path)));
    }
    let Ok(address) = text.parse::<SocketAddr>() else {
        item.error(format!("{text:?} is neither ADDRESS:PORT nor unix:PATH"), hint);
        return None;
    };
    if !address.ip().is_loopback() {
        let reason =
            format!("{address} is not a loopback address, and the API does not ask who calls");
        item.error(reason, hint);
    }
    Some(Listen::Tcp(address))
}
