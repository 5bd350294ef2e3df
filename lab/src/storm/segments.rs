//! How many TCP segments each end of a connection has sent and received, by the kernel. A segment that was lost is one that the other end has not
//! received, however often it was sent again.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::echo::ECHO_PORT;
use crate::host::Host;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    pub sent: u64,
    pub received: u64,
}

/// Of all connections to or from the echo server that end at this host, by the client's address as this host sees it.
pub(super) fn segments(host: &Host) -> Result<BTreeMap<SocketAddr, Segments>> {
    let filter = format!("( sport = :{ECHO_PORT} or dport = :{ECHO_PORT} )");
    let text = host.run(&["ss", "-tinHO", "state", "established", &filter])?;
    text.lines().map(|line| parse(line).with_context(|| format!("ss: {line}"))).collect()
}

/// `RECV-Q SEND-Q LOCAL PEER … segs_out:5 segs_in:4 …`
fn parse(line: &str) -> Result<(SocketAddr, Segments)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let address =
        |at: usize| -> Result<SocketAddr> { Ok(words.get(at).context("too short")?.parse()?) };
    let (local, peer) = (address(2)?, address(3)?);
    let client = if local.port() == ECHO_PORT { peer } else { local };
    let number = |name: &str| -> Result<u64> {
        let value = words.iter().find_map(|word| word.strip_prefix(name)).context("no count")?;
        Ok(value.parse()?)
    };
    Ok((client, Segments { sent: number("segs_out:")?, received: number("segs_in:")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ss_is_read_from_either_end() {
        let words = "cubic wscale:7,7 rto:204 segs_out:12 segs_in:9 data_segs_out:6 send 1Mbps";
        let segments = Segments { sent: 12, received: 9 };
        let line = format!("0 0 10.244.1.10:40000 198.51.100.10:7007 {words}");
        let (client, read) = parse(&line).unwrap();
        assert_eq!((client, read), ("10.244.1.10:40000".parse().unwrap(), segments));
        let line = format!("0 0 [2001:db8::10]:7007 [2001:db8::1]:40000 {words}");
        assert_eq!(parse(&line).unwrap(), ("[2001:db8::1]:40000".parse().unwrap(), segments));
        assert!(parse("0 0 10.244.1.10:40000 198.51.100.10:7007 cubic").is_err());
    }
}
