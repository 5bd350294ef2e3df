//! Receive side scaling: with which key, and over which table, a NIC spreads packets over its queues.
//!
//! It only brings a packet near its owner; who that is, the workers compute themselves. So a device
//! without RSS, or one that does not say what it does, is no error.
//!
//! The key is one with which the l4_port of a packet decides its queue as evenly as can be, so that workers can
//! choose l4_ports by it: see [`Toeplitz::spreads_l4_ports`].
//!
//! Tested on `net_null`, whose driver keeps key and table as a NIC does, but spreads nothing; what a NIC would
//! do with them is told by [`super::SoftRss`], DPDK's own computation. Not run on a NIC.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_rss_conf, rte_eth_rss_reta_entry64};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use steering::toeplitz::Toeplitz;

/// What a port's RSS does, as its driver tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// Of the Toeplitz hash.
    pub key: Vec<u8>,
    /// The redirection table: the queue for each value of the hash's lowest bits. Empty where the driver
    /// has RSS but no such table.
    pub reta: Vec<u16>,
    /// The kinds of packets that it spreads, by the names that testpmd gives them.
    pub types: Vec<&'static str>,
}

/// Why a port has no RSS that is known.
pub type NoRss = String;

/// What a device is asked for.
#[derive(Debug)]
pub(super) struct RssPlan {
    key: Vec<u8>,
    types: u64,
    reta: Vec<u16>,
}

/// The tunnel's outer headers and the world's packets: addresses, and l4_ports where there are any.
static TYPES: [(u64, &str); 12] = [
    (dpdk_sys::RSS_IPV4, "ipv4"),
    (dpdk_sys::RSS_FRAG_IPV4, "ipv4-frag"),
    (dpdk_sys::RSS_NONFRAG_IPV4_TCP, "ipv4-tcp"),
    (dpdk_sys::RSS_NONFRAG_IPV4_UDP, "ipv4-udp"),
    (dpdk_sys::RSS_NONFRAG_IPV4_SCTP, "ipv4-sctp"),
    (dpdk_sys::RSS_NONFRAG_IPV4_OTHER, "ipv4-other"),
    (dpdk_sys::RSS_IPV6, "ipv6"),
    (dpdk_sys::RSS_FRAG_IPV6, "ipv6-frag"),
    (dpdk_sys::RSS_NONFRAG_IPV6_TCP, "ipv6-tcp"),
    (dpdk_sys::RSS_NONFRAG_IPV6_UDP, "ipv6-udp"),
    (dpdk_sys::RSS_NONFRAG_IPV6_SCTP, "ipv6-sctp"),
    (dpdk_sys::RSS_NONFRAG_IPV6_OTHER, "ipv6-other"),
];

/// Entries of one `rte_eth_rss_reta_entry64`.
const GROUP: usize = 64;
/// Where a driver does not say how long its key is, it is as long as Microsoft's RSS wants it.
const USUAL_KEY: usize = 40;

impl RssPlan {
    /// For `queues` queues of a device; the key comes from `seed` alone, so that it is the same after a
    /// restart.
    pub(super) fn new(
        info: &rte_eth_dev_info,
        driver: &str,
        queues: u16,
        seed: [u8; 16],
    ) -> Result<Self, NoRss> {
        if queues < 2 {
            return Err("the port has one queue".to_owned());
        }
        let wanted: u64 = TYPES.iter().map(|(bit, _)| bit).sum();
        let types = info.flow_type_rss_offloads & wanted;
        if types == 0 {
            return Err(format!("the driver {driver} has no RSS"));
        }
        let key = match usize::from(info.hash_key_size) {
            0 => USUAL_KEY,
            len => len,
        };
        let reta = (0..info.reta_size).map(|entry| entry % queues).collect();
        Ok(RssPlan { key: derive_key(seed, key), types, reta })
    }

    /// Asks for it in a configuration, which points into `self` from then on.
    pub(super) fn configure(&mut self, conf: &mut rte_eth_conf) {
        conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf = self.conf();
    }

    /// Sets key and table of a started port, and reads back what it took.
    ///
    /// # Safety
    /// The port exists, is started, and stays so during the call.
    pub(super) unsafe fn apply(mut self, port: u16) -> Result<Rss, NoRss> {
        // SAFETY: the caller vouches for the port.
        let mut read = unsafe { read_key(port, self.key.len()) };
        if read.as_ref().is_ok_and(|(key, types)| (key, *types) != (&self.key, self.types)) {
            let mut conf = self.conf();
            // SAFETY: as above; the key lives longer than the call.
            let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_update(port, &mut conf) };
            told("rte_eth_dev_rss_hash_update", code)?;
            // SAFETY: as above.
            read = unsafe { read_key(port, self.key.len()) };
        }
        let (key, types) = read?;
        if !self.reta.is_empty() {
            let (mut entries, size) = (groups(&self.reta), self.reta.len() as u16);
            // SAFETY: as above, and the groups hold `size` entries.
            let code =
                unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(port, entries.as_mut_ptr(), size) };
            told("rte_eth_dev_rss_reta_update", code)?;
            // What is read is nothing that was written here.
            entries.iter_mut().for_each(|group| group.reta = [u16::MAX; GROUP]);
            // SAFETY: as above.
            let code =
                unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(port, entries.as_mut_ptr(), size) };
            told("rte_eth_dev_rss_reta_query", code)?;
            let read = entries.iter().flat_map(|group| group.reta);
            self.reta = read.take(usize::from(size)).collect();
        }
        let names = TYPES.iter().filter(|(bit, _)| types & bit != 0).map(|(_, name)| *name);
        Ok(Rss { key, reta: self.reta, types: names.collect() })
    }

    #[allow(clippy::needless_update, reason = "DPDK 23.11 has one field more")]
    fn conf(&mut self) -> rte_eth_rss_conf {
        rte_eth_rss_conf {
            rss_key: self.key.as_mut_ptr(),
            rss_key_len: self.key.len() as u8,
            rss_hf: self.types,
            ..rte_eth_rss_conf::default()
        }
    }
}

/// Key and types that a port has.
///
/// # Safety
/// As for [`RssPlan::apply`].
unsafe fn read_key(port: u16, len: usize) -> Result<(Vec<u8>, u64), NoRss> {
    let mut key = vec![0; len];
    let mut conf = rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: len as u8,
        ..rte_eth_rss_conf::default()
    };
    // SAFETY: the caller vouches for the port; the driver writes a key of its own length, which `len` is.
    let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(port, &mut conf) };
    told("rte_eth_dev_rss_hash_conf_get", code)?;
    Ok((key, conf.rss_hf))
}

fn told(call: &'static str, code: i32) -> Result<(), NoRss> {
    super::DpdkError::check(call, code, "RSS").map_err(|error| error.to_string())
}

/// A table in the form of DPDK, every entry marked.
fn groups(reta: &[u16]) -> Vec<rte_eth_rss_reta_entry64> {
    let group = |entries: &[u16]| {
        let mut group = rte_eth_rss_reta_entry64 {
            mask: u64::MAX >> (GROUP - entries.len()),
            ..rte_eth_rss_reta_entry64::default()
        };
        group.reta[..entries.len()].copy_from_slice(entries);
        group
    };
    reta.chunks(GROUP).map(group).collect()
}

/// Keys that are tried. One of four fits, so that not one in 10^30 seeds finds none; what is taken then is as good
/// as any for spreading, and nothing is foretold by it.
const KEYS: u64 = 256;

/// `len` bytes that look random and follow from `seed`.
fn derive_key(seed: [u8; 16], len: usize) -> Vec<u8> {
    // The label keeps apart what else is derived from the seed.
    let mut input = *b"................egress rss key 1";
    input[..16].copy_from_slice(&seed);
    let mut random = ChaCha20Rng::from_seed(input);
    let mut key = vec![0; len];
    for stream in 0..KEYS {
        random.set_stream(stream);
        random.set_word_pos(0);
        random.fill_bytes(&mut key);
        if Toeplitz::new(&key).map_or(true, |toeplitz| toeplitz.spreads_l4_ports()) {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(offloads: u64, key: u8, reta: u16) -> rte_eth_dev_info {
        rte_eth_dev_info {
            flow_type_rss_offloads: offloads,
            hash_key_size: key,
            reta_size: reta,
            ..rte_eth_dev_info::default()
        }
    }

    #[test]
    fn a_plan_keeps_to_what_the_device_can_do() {
        let plan = |offloads, key, reta, queues| {
            RssPlan::new(&info(offloads, key, reta), "net_x", queues, [1; 16])
        };
        let udp = dpdk_sys::RSS_NONFRAG_IPV4_UDP;
        for (offloads, queues, says) in [
            (0, 4, "the driver net_x has no RSS"),
            // A bit that is none of ours.
            (1 << 60, 4, "the driver net_x has no RSS"),
            (udp, 1, "the port has one queue"),
        ] {
            assert_eq!(plan(offloads, 40, 128, queues).unwrap_err(), says);
        }
        let plan4 = plan(udp | 1 << 60, 52, 130, 4).unwrap();
        assert_eq!((plan4.types, plan4.key.len(), plan4.reta.len()), (udp, 52, 130));
        assert_eq!(plan4.reta[..6], [0, 1, 2, 3, 0, 1]);
        let groups = groups(&plan4.reta);
        assert_eq!(groups.iter().map(|g| g.mask).collect::<Vec<_>>(), [u64::MAX, u64::MAX, 3]);
        assert_eq!((groups[2].reta[0], groups[2].reta[1]), (0, 1));
        assert_eq!(plan(udp, 0, 0, 2).unwrap().key.len(), 40);
    }

    #[test]
    fn the_key_follows_from_the_seed_and_does_not_change_between_versions() {
        let hex: String =
            derive_key([7; 16], 40).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "ce2e0f5e8a00679e3ed3d891ccb6060d2f21c40c5641e29923fe94525011ed54188ba229a7f6fc55"
        );
        assert_ne!(derive_key([8; 16], 40), derive_key([7; 16], 40));
        assert_eq!(derive_key([7; 16], 52)[..40], derive_key([7; 16], 40));
        assert_eq!(derive_key([7; 16], 16).len(), 16);
    }

    #[test]
    fn every_seed_has_a_key_by_which_l4_ports_can_be_chosen() {
        for seed in 0..100 {
            let key = Toeplitz::new(&derive_key([seed; 16], 40)).unwrap();
            assert!(key.spreads_l4_ports(), "{seed}");
        }
    }
}
