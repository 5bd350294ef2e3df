//! What a packet costs in `from_pod`, to compare versions on one machine: `cargo nextest run -p node-redirect --run-ignored only --no-capture cost`.

use node_redirect::abi;
use node_redirect::program::Role;

use crate::bench::*;
use crate::common::frame::*;
use crate::common::in_private_namespaces;

#[test]
#[ignore = "measures, judges nothing"]
fn cost_of_from_pod() {
    in_private_namespaces(|| {
        let mut bench = Bench::new();
        #[rustfmt::skip]
        let cases = [
            ("IPv4, a known redirected flow", tcp(POD, WORLD, 4000, 80, ACK)),
            ("IPv4, pod without policy", tcp(UNSELECTED, WORLD, 4000, 80, ACK)),
            ("IPv4, excluded destination: every look-up", tcp(POD, EXCLUDED, 4000, 80, ACK)),
            ("IPv6, a known redirected flow", tcp(POD6, WORLD6, 4000, 80, ACK)),
            ("IPv6, pod without policy", tcp(UNSELECTED6, WORLD6, 4000, 80, ACK)),
            ("IPv6, excluded destination: every look-up", tcp(POD6, EXCLUDED6, 4000, 80, ACK)),
        ];
        let measure = |bench: &Bench, description: &str, packet: &Packet| {
            println!("{:5} ns  {description}", bench.nanoseconds(Role::FromPod, &packet.frame()));
        };
        for (description, packet) in &cases {
            measure(&bench, description, packet);
        }
        const SLOT: u8 = 7;
        let hashes = [[0x1234; abi::PORTS_PER_WORKER]; abi::MAX_WORKERS];
        let steering = abi::Steering { keys: [1, 2], worker_of: [3; abi::SHARDS], hashes };
        bench.maps.steerings.set(&SLOT.into(), &steering).unwrap();
        let mut tables = tables();
        tables.policies.get_mut(&POLICY).unwrap().steering[0] = SLOT;
        bench.apply(&tables);
        for (description, packet) in cases.iter().filter(|(name, _)| name.contains("redirected")) {
            measure(&bench, &format!("{description}, steered"), packet);
        }
    });
}
