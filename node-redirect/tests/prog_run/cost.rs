//! What a packet costs in `from_pod`, to compare versions on one machine: `cargo nextest run -p node-redirect --run-ignored only --no-capture cost`.

use node_redirect::program::Role;

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

#[test]
#[ignore = "measures, judges nothing"]
fn cost_of_from_pod() {
    in_private_namespaces(|| {
        let bench = Bench::new();
        #[rustfmt::skip]
        let cases = [
            ("IPv4, a known redirected flow", tcp(POD, WORLD, 4000, 80, ACK)),
            ("IPv4, pod without policy", tcp(UNSELECTED, WORLD, 4000, 80, ACK)),
            ("IPv4, excluded destination: every look-up", tcp(POD, EXCLUDED, 4000, 80, ACK)),
            ("IPv6, a known redirected flow", tcp(POD6, WORLD6, 4000, 80, ACK)),
            ("IPv6, pod without policy", tcp(UNSELECTED6, WORLD6, 4000, 80, ACK)),
            ("IPv6, excluded destination: every look-up", tcp(POD6, EXCLUDED6, 4000, 80, ACK)),
        ];
        for (description, packet) in cases {
            println!("{:5} ns  {description}", bench.nanoseconds(Role::FromPod, &packet.frame()));
        }
    });
}
