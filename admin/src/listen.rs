//! Where an API listens. It has no authentication, so it is only where none is needed: on the
//! loopback, or on a socket file whose permissions say who may.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// The longest path that fits in a `sockaddr_un` with its closing zero, in bytes.
const MAX_PATH: usize = 107;

/// Where an API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(PathBuf),
}

/// Why there can be no API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    #[error("{0:?} is neither ADDRESS:PORT nor unix:PATH")]
    Unknown(String),
    #[error("{0:?} is not an absolute path of at most {MAX_PATH} bytes")]
    Path(String),
    #[error("{0} is not a loopback address, and the API does not ask who calls")]
    NotLoopback(SocketAddr),
}

/// As it is written in the configuration: `127.0.0.1:9480`, `unix:/run/egress-gateway.sock`.
impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') || path.len() > MAX_PATH {
                return Err(ListenError::Path(path.to_owned()));
            }
            return Ok(Listen::Unix(PathBuf::from(path)));
        }
        let address: SocketAddr =
            text.parse().map_err(|_| ListenError::Unknown(text.to_owned()))?;
        match address.ip().is_loopback() {
            true => Ok(Listen::Tcp(address)),
            false => Err(ListenError::NotLoopback(address)),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_and_socket_files_are_listened_on() {
        for text in ["127.0.0.1:9480", "127.9.9.9:1", "[::1]:9480", "unix:/run/x.sock"] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.to_string(), text);
        }
        for address in ["0.0.0.0:9480", "192.0.2.1:1", "[::]:9480", "[::ffff:127.0.0.1]:1"] {
            let expected = ListenError::NotLoopback(address.parse().unwrap());
            assert_eq!(address.parse::<Listen>(), Err(expected));
        }
        let long = format!("unix:/{}", "x".repeat(MAX_PATH));
        for text in ["unix:", "unix:run/x.sock", "unix:/a\0b", &long] {
            assert!(matches!(text.parse::<Listen>(), Err(ListenError::Path(_))), "{text}");
        }
        for text in ["", "localhost:9480", "127.0.0.1", "9480", "http://127.0.0.1:9480"] {
            assert!(matches!(text.parse::<Listen>(), Err(ListenError::Unknown(_))), "{text}");
        }
    }
}
