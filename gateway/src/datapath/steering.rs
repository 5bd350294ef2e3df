//! Which worker owns a packet's flow.
//!
//! Every flow has one owner, and only the owner's session table knows it. Whoever receives a packet
//! asks here, and hands it over where the answer is another worker:
//!
//! | packet | owner |
//! |---|---|
//! | in2out TCP, UDP, ICMP echo | [`Steering::of_in2out`]: shard of the in2out key |
//! | in2out of a policy with endpoint-independent mapping | [`Steering::of_mapping`]: shard of the in2out key without its remote endpoint |
//! | out2in TCP, UDP | [`Steering::of_out2in`]: residue of the external l4_port; or, [with the NIC's RSS](Steering::with_rss), of the packet's Toeplitz hash |
//! | out2in ICMP echo | the same: residue of the query id |
//! | ICMP error, either way | [`Steering::of_icmp_error_in2out`], [`Steering::of_icmp_error_out2in`]: that of the embedded packet, reversed |
//! | any fragment, the first included | [`Steering::of_fragment`]: shard of addresses, protocol and id |
//!
//! The two directions of a session meet because its owner gives it an external l4_port of its own
//! [`Steering::allotment`].
//!
//! # The shard hash, for whoever wants to compute it too
//!
//! Unlike the session table's hash it is stable and published, so that a NIC's or a node's steering can
//! agree with it. It is no defence: who knows the seed can choose flows of one worker, and no more.
//!
//! All arithmetic is modulo 2^64. `k0` and `k1` are the seed's bytes 0–7 and 8–15, each read
//! little-endian. The input is a list of 64-bit words, below:
//!
//! ```text
//! x = k0
//! for each word w:  x = (x ^ w) * 0x9e3779b97f4a7c15;  x = x ^ (x >> 32)
//! x = (x ^ k1) * 0xbf58476d1ce4e5b9;  x = x ^ (x >> 32)
//! x = x * 0x94d049bb133111eb
//! shard = x >> 56                      worker = shard_map[shard]
//! ```
//!
//! - IPv4: `le32(A) << 32 | le32(B)`, then L. IPv6: `le64(A[0..8])`, `le64(A[8..16])`, `le64(B[0..8])`,
//!   `le64(B[8..16])`, then L. `le32` and `le64` read octets in the order of the wire, little-endian.
//! - in2out flow: A is the pod's address, B the remote one, and
//!   L = `pod_l4_port << 48 | remote_l4_port << 32 | tenant << 16 | protocol`, the protocol being 0 for
//!   TCP, 1 for UDP, 2 for ICMP and ICMPv6. Of ICMP the pod's l4_port is the query id, the remote one 0.
//! - endpoint-independent mapping: the same with B and the remote l4_port 0.
//! - fragment: A is the source address, B the destination, and L = `id << 32 | protocol`, here the number
//!   in the IP header; in IPv6 that of the fragment header's Next Header field.
//!
//! The residue map needs no seed: `worker = residue_map[l4_port & (residues - 1)]`.
//!
//! # With the NIC's RSS
//!
//! Where the external port spreads packets by a key and a redirection table that are known, the table is the
//! residue map: `worker = residue_map[hash & (residues - 1)]`, the hash being that of the packet from the
//! world (remote address, egress IP, remote l4_port, external l4_port). So the owner is the worker whose queue
//! the NIC chooses. It is computed here all the same for every packet from the world: a NIC that does
//! otherwise than it says costs a handover, and no more. Of ICMP, whose ids no NIC looks at, it is the
//! residue of the id.

use crate::nat::{
    Allotment, Endpoint, ExternalEndpoint, FlowKey, InternalEndpoint, Protocol, RemoteEndpoint,
    flow::Address,
    l4_port::{L4PortShare, Prediction, UnfitKey},
};
use std::{fmt, str::FromStr, sync::Arc};

pub const MAX_WORKERS: usize = 64;
/// Entries of the shard map.
pub const SHARDS: usize = 256;
/// The most residues there are; as many as a share can tell apart.
pub const MAX_RESIDUES: usize = 1024;
/// The fewest residues where the workers are no power of two, and how many a worker has at least there:
/// so that no worker has more than a sixteenth above another.
const MIN_RESIDUES: usize = 64;
const RESIDUES_PER_WORKER: usize = 16;

// The published hash has these numbers in it.
const _: () = assert!(
    Protocol::Tcp as u8 == 0 && Protocol::Udp as u8 == 1 && Protocol::Icmp as u8 == 2,
    "the shard hash would change"
);

/// What the shard hash is keyed by: kept over restarts, the same for all who steer. As text: 32 hex
/// digits, in the order of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSeed(pub [u8; 16]);

impl fmt::Display for ShardSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shard seed is 32 hex digits")]
pub struct InvalidSeed;

impl FromStr for ShardSeed {
    type Err = InvalidSeed;

    fn from_str(text: &str) -> Result<Self, InvalidSeed> {
        // `from_str_radix` would take a sign.
        if text.len() != 32 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(InvalidSeed);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| InvalidSeed)?;
        Ok(ShardSeed(number.to_be_bytes()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} workers: from 1 to {MAX_WORKERS} can share the flows")]
pub struct WorkerCount(usize);

/// The packet that an ICMP error quotes, as it stands there. Of ICMP echo both l4_ports are the query
/// id, or the remote one is 0.
#[derive(Clone, Copy, Debug)]
pub struct Embedded<A> {
    pub protocol: Protocol,
    pub source: Endpoint<A>,
    pub destination: Endpoint<A>,
}

/// The owner of every packet. Each worker has a copy: it never changes while the gateway runs.
#[derive(Clone, Debug)]
pub struct Steering {
    seed: ShardSeed,
    keys: [u64; 2],
    workers: usize,
    residues: usize,
    shard_map: [u16; SHARDS],
    residue_map: [u16; MAX_RESIDUES],
    prediction: Option<Arc<Prediction>>,
}

/// Why packets from the world cannot be left to a NIC's RSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpredictable {
    #[error("its redirection table has {0} entries: a power of two up to {MAX_RESIDUES} is needed")]
    Entries(usize),
    #[error("entry {entry} of its redirection table names queue {queue}, of {queues}")]
    Queue { entry: usize, queue: u16, queues: usize },
    #[error("no entry of its redirection table names queue {0}")]
    Nothing(usize),
    #[error(transparent)]
    Key(#[from] UnfitKey),
}

impl Steering {
    /// Of the only worker of a gateway: everything is its own.
    pub fn alone() -> Self {
        Self::of_workers(ShardSeed([0; 16]), 1)
    }

    pub fn new(seed: ShardSeed, workers: usize) -> Result<Self, WorkerCount> {
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(WorkerCount(workers));
        }
        Ok(Self::of_workers(seed, workers))
    }

    fn of_workers(seed: ShardSeed, workers: usize) -> Self {
        let residues = if workers.is_power_of_two() {
            workers
        } else {
            (workers * RESIDUES_PER_WORKER).next_power_of_two().clamp(MIN_RESIDUES, MAX_RESIDUES)
        };
        let seed_words: [[u8; 8]; 2] = zerocopy::transmute!(seed.0);
        Steering {
            seed,
            keys: seed_words.map(u64::from_le_bytes),
            workers,
            residues,
            shard_map: std::array::from_fn(|shard| (shard % workers) as u16),
            residue_map: std::array::from_fn(|residue| (residue % workers) as u16),
            prediction: None,
        }
    }

    /// The same, but that TCP and UDP from the world belong to the worker whose queue the NIC's RSS brings
    /// them to; each worker serves the queue of its number. `reta`: hash modulo its length → queue.
    pub fn with_rss(mut self, key: &[u8], reta: &[u16]) -> Result<Self, Unpredictable> {
        if !reta.len().is_power_of_two() || reta.len() > MAX_RESIDUES {
            return Err(Unpredictable::Entries(reta.len()));
        }
        let queues = self.workers;
        if let Some(entry) = reta.iter().position(|queue| usize::from(*queue) >= queues) {
            return Err(Unpredictable::Queue { entry, queue: reta[entry], queues });
        }
        if let Some(queue) = (0..queues).find(|queue| !reta.contains(&(*queue as u16))) {
            return Err(Unpredictable::Nothing(queue));
        }
        self.prediction = Some(Arc::new(Prediction::new(key)?));
        self.residues = reta.len();
        self.residue_map[..reta.len()].copy_from_slice(reta);
        Ok(self)
    }

    /// By the flow's in2out key.
    #[inline(always)]
    pub fn of_in2out<A: Address>(&self, key: &FlowKey<A>) -> usize {
        self.of_words(key.words())
    }

    /// By the in2out key of any flow of the pod's l4_port: its remote endpoint does not count, so that
    /// all flows of a mapping have one owner.
    #[inline(always)]
    pub fn of_mapping<A: Address>(&self, key: &FlowKey<A>) -> usize {
        let anyone = RemoteEndpoint(Endpoint::new(A::UNSPECIFIED, 0));
        let internal = InternalEndpoint(key.ours());
        self.of_in2out(&FlowKey::in2out(key.tenant(), key.protocol(), internal, anyone))
    }

    /// By the packet's destination, the external l4_port or the query id of an echo reply; or by what a NIC's
    /// RSS makes of the packet.
    #[inline(always)]
    pub fn of_out2in<A: Address>(&self, key: &FlowKey<A>) -> usize {
        if self.workers == 1 {
            return 0;
        }
        self.of_residue(match &self.prediction {
            None => key.ours().l4_port,
            Some(prediction) => prediction.residue(key),
        })
    }

    /// By a number whose residue counts.
    #[inline(always)]
    pub fn of_residue(&self, number: u16) -> usize {
        // The mask beside the one that matters spares the bounds check.
        let residue = usize::from(number) & (self.residues - 1) & (MAX_RESIDUES - 1);
        self.residue_map[residue].into()
    }

    /// An ICMP error from a pod quotes a packet that went to it, so the flow's internal endpoint is the
    /// quoted destination.
    #[inline(always)]
    pub fn of_icmp_error_in2out<A: Address>(&self, tenant: u16, embedded: &Embedded<A>) -> usize {
        let Embedded { protocol, source: mut remote, destination } = *embedded;
        if protocol == Protocol::Icmp {
            remote.l4_port = 0;
        }
        let (internal, remote) = (InternalEndpoint(destination), RemoteEndpoint(remote));
        self.of_in2out(&FlowKey::in2out(tenant, protocol, internal, remote))
    }

    /// An ICMP error from the world quotes a packet that left from here, so the flow's external endpoint is
    /// the quoted source.
    #[inline(always)]
    pub fn of_icmp_error_out2in<A: Address>(&self, embedded: &Embedded<A>) -> usize {
        let Embedded { protocol, source, destination } = *embedded;
        let (external, remote) = (ExternalEndpoint(source), RemoteEndpoint(destination));
        self.of_out2in(&FlowKey::out2in(protocol, external, remote))
    }

    /// Where the fragments of one packet meet. `protocol`: the number in the IP header; `id`: the
    /// fragment identification, 16 bits of it in IPv4.
    #[inline(always)]
    pub fn of_fragment<A: Address>(
        &self,
        source: A,
        destination: A,
        protocol: u8,
        id: u32,
    ) -> usize {
        let l4 = u64::from(id) << 32 | u64::from(protocol);
        self.of_words(A::pack(source, destination, l4).as_ref())
    }

    #[inline(always)]
    fn of_words(&self, words: &[u64]) -> usize {
        if self.workers == 1 {
            return 0;
        }
        self.shard_map[usize::from(self.shard(words))].into()
    }

    /// The hash of the module's head. Each step is a bijection of `x`, so keys that differ in one word
    /// differ in `x` until the end; the shifts bring upper bits, where the l4_ports are, down to where the
    /// next multiplication spreads them. With one multiplication less, rows of neighbours fall on few
    /// shards.
    #[inline(always)]
    fn shard(&self, words: &[u64]) -> u8 {
        let [mut x, last] = self.keys;
        for word in words {
            x = (x ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x ^= x >> 32;
        }
        x = (x ^ last).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 32;
        (x.wrapping_mul(0x94d0_49bb_1331_11eb) >> 56) as u8
    }

    /// The external l4_ports that a worker may give its sessions: those whose packets come back to it.
    /// Empty for a worker that there is not.
    pub fn allotment(&self, worker: usize) -> Allotment {
        let share = self.share(worker);
        match &self.prediction {
            None => share.into(),
            Some(prediction) => Allotment::predicted(share, Arc::clone(prediction)),
        }
    }

    /// The numbers whose residues are a worker's: external l4_ports, query ids, or the names that a
    /// prediction gives l4_ports.
    pub fn share(&self, worker: usize) -> L4PortShare {
        let residues: Vec<u16> = (0..self.residues as u16)
            .filter(|residue| self.of_residue(*residue) == worker)
            .collect();
        L4PortShare::new(self.residues as u16, &residues)
            .expect("ascending residues below a power of two that is no larger than a share's")
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    pub fn seed(&self) -> ShardSeed {
        self.seed
    }

    /// Shard → worker.
    pub fn shard_map(&self) -> &[u16; SHARDS] {
        &self.shard_map
    }

    /// External l4_port, query id or hash modulo its length, a power of two → worker.
    pub fn residue_map(&self) -> &[u16] {
        &self.residue_map[..self.residues]
    }
}
