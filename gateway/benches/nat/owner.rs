//! Whose a packet is, which whoever receives it asks: by the shard hash on the way out, by the residue of the l4_port or by the
//! hash of the external port's NIC on the way in.

use crate::{
    burst::Order,
    suite::{Case, Suite},
    world::{BURST, Flow},
};
use arrayvec::ArrayVec;
use gateway::{
    datapath::steering::{ShardSeed, Steering},
    nat::{Endpoint, ExternalEndpoint, FlowKey, Protocol},
    tsc::cycles,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{hint::black_box, net::Ipv4Addr};

const WORKERS: usize = 4;
/// As many as NICs' redirection tables often have.
const RETA: u16 = 512;

pub(crate) fn owners(suite: &mut Suite, flows: u32) {
    if !suite.wants(&["owner_shard", "owner_residue", "owner_toeplitz"]) {
        return;
    }
    let by_residue = Steering::new(ShardSeed([7; 16]), WORKERS).expect("few workers");
    let by_toeplitz = predicted(&by_residue);
    let shard = |key: &FlowKey| by_residue.of_in2out(key);
    bench(suite, "owner_shard", flows, |flow| flow.key(), shard);
    bench(suite, "owner_residue", flows, answered, |key| by_residue.of_out2in(key));
    bench(suite, "owner_toeplitz", flows, answered, |key| by_toeplitz.of_out2in(key));
}

/// With the first key drawn whose hash can be foretold.
fn predicted(steering: &Steering) -> Steering {
    let reta: Vec<u16> = (0..RETA).map(|entry| entry % WORKERS as u16).collect();
    let mut random = ChaCha8Rng::from_seed([7; 32]);
    loop {
        let mut key = [0; 40];
        random.fill_bytes(&mut key);
        if let Ok(steering) = steering.clone().with_rss(&key, &reta) {
            return steering;
        }
    }
}

/// The key of a flow's answers, were its l4_port translated to itself.
fn answered(flow: Flow) -> FlowKey {
    let key = flow.key();
    let external = Endpoint::new(Ipv4Addr::new(203, 0, 113, 16), key.ours().l4_port);
    let remote = key.remote();
    FlowKey::out2in(Protocol::Udp, ExternalEndpoint(external), remote)
}

fn bench(
    suite: &mut Suite,
    bench: &'static str,
    flows: u32,
    key_of: impl Fn(Flow) -> FlowKey,
    owner: impl Fn(&FlowKey) -> usize,
) {
    let case = Case { bench, flows, random: true, cold: false, bytes_per_session: None };
    let mut order = Order::new(true, flows);
    suite.bursts(case, |times| {
        let keys: ArrayVec<FlowKey, BURST> =
            (0..BURST).map(|_| key_of(Flow::number(order.next()))).collect();
        let start = cycles();
        for key in &keys {
            black_box(owner(black_box(key)));
        }
        times.push(cycles() - start);
    });
}
