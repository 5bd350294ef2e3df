//! `[api]`: where the HTTP interface is.

use std::net::{Ipv4Addr, SocketAddr};

pub use admin::listen::Listen;

use super::ApiConfig;
use super::section::{Item, Section};

const HINT: &str = "write 127.0.0.1:9480 or unix:/run/egress-gateway.sock";

impl Default for ApiConfig {
    fn default() -> ApiConfig {
        ApiConfig { listen: Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9480))) }
    }
}

pub(super) fn read(mut section: Section<'_>) -> ApiConfig {
    let listen = section.optional("listen").and_then(|item| listen(&item));
    section.finish();
    listen.map_or_else(ApiConfig::default, |listen| ApiConfig { listen })
}

fn listen(item: &Item<'_>) -> Option<Listen> {
    let listen = item.text()?.parse();
    listen
        .inspect_err(|error: &admin::listen::ListenError| item.error(error.to_string(), HINT))
        .ok()
}
