//! Who has which MAC on one side: ARP's cache, with a few waiting packets per unknown neighbour.

use crate::{nat::Tick, wire::MacAddress};
use arrayvec::ArrayVec;
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    net::Ipv4Addr,
};

/// Neighbours of one side; more than any L2 segment should have.
const CAPACITY: usize = 4096;
/// Packets that wait for one neighbour, so that the first of a flow is not lost (RFC 1122 section
/// 2.3.2.2 asks for at least the latest one): as many as traceroute sends at once.
const WAITING: usize = 16;
/// Neighbours that can be asked for at the same time.
const ASKED: usize = 256;
/// A MAC is asked for again this long after the last answer, while it stays in use.
const FRESH_MILLIS: u64 = 30_000;
/// RFC 1122 section 2.3.2.1: no more than one request a second for one neighbour.
const ASK_MILLIS: u64 = 1_000;
const TRIES: u8 = 3;

/// A packet that waits, with the policy epoch under which it was let through.
#[derive(Debug)]
pub struct Waiting<B> {
    pub packet: B,
    pub epoch: u16,
}

pub type WaitingPackets<B> = ArrayVec<Waiting<B>, WAITING>;

#[derive(Debug)]
struct Neighbour<B> {
    mac: Option<MacAddress>,
    /// When the MAC was last confirmed, or the neighbour first asked for.
    since: Tick,
    asked: u8,
    ask_next: Tick,
    waiting: WaitingPackets<B>,
}

/// A fresh neighbour that a packet was sent to lately.
#[derive(Clone, Copy, Debug)]
struct Recent {
    address: Ipv4Addr,
    /// Seconds; 0 for an empty place.
    fresh_until: u32,
    mac: MacAddress,
}

/// Neighbours of one prefix, as far as there are not more of them, each have a place of their own.
const RECENT: usize = 256;
const NOT_RECENT: Recent =
    Recent { address: Ipv4Addr::UNSPECIFIED, fresh_until: 0, mac: MacAddress([0; 6]) };

#[inline(always)]
fn recent_place(address: Ipv4Addr) -> usize {
    address.to_bits() as usize % RECENT
}

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Known(MacAddress),
    /// Known, but the answer is old: use it, and ask for a new one.
    Stale(MacAddress),
    Unknown,
}

/// Why a packet cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A question to be sent: broadcast, or to the MAC that answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub target: Ipv4Addr,
    pub mac: Option<MacAddress>,
}

#[derive(Debug)]
pub struct Neighbours<B> {
    /// By the last byte of the address: what nearly every packet needs, in one line.
    recent: Box<[Recent; RECENT]>,
    entries: HashMap<Ipv4Addr, Neighbour<B>, BuildHasherDefault<AddressHasher>>,
    /// The ones with a question open; only these need a look at the clock.
    asked: ArrayVec<Ipv4Addr, ASKED>,
}

impl<B> Neighbours<B> {
    pub fn new() -> Self {
        let entries = HashMap::with_capacity_and_hasher(CAPACITY, BuildHasherDefault::default());
        Neighbours { recent: Box::new([NOT_RECENT; RECENT]), entries, asked: ArrayVec::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline(always)]
    pub fn lookup(&mut self, address: Ipv4Addr, now: Tick) -> Lookup {
        let recent = &self.recent[recent_place(address)];
        if recent.address == address && now.seconds() < recent.fresh_until {
            return Lookup::Known(recent.mac);
        }
        self.lookup_slow(address, now)
    }

    #[cold]
    fn lookup_slow(&mut self, address: Ipv4Addr, now: Tick) -> Lookup {
        let Some(Neighbour { mac: Some(mac), since, .. }) = self.entries.get(&address) else {
            return Lookup::Unknown;
        };
        let fresh_until = since.millis() + FRESH_MILLIS;
        if now.millis() >= fresh_until {
            return Lookup::Stale(*mac);
        }
        let fresh_until = (fresh_until / 1000) as u32;
        self.recent[recent_place(address)] = Recent { address, fresh_until, mac: *mac };
        Lookup::Known(*mac)
    }

    /// Keeps `packet` until `address` answers; the question goes out with the next [`Self::tick`].
    pub fn wait(
        &mut self,
        address: Ipv4Addr,
        packet: Waiting<B>,
        now: Tick,
    ) -> Result<(), (QueueFull, B)> {
        if !self.ask(address, now) {
            return Err((QueueFull, packet.packet));
        }
        match self.entries.get_mut(&address) {
            Some(entry) => {
                entry.waiting.try_push(packet).map_err(|full| (QueueFull, full.element().packet))
            }
            None => Err((QueueFull, packet.packet)),
        }
    }

    /// Opens a question about `address`, if none is open; false where there is no room for it.
    pub fn ask(&mut self, address: Ipv4Addr, now: Tick) -> bool {
        if self.asked.contains(&address) {
            return true;
        }
        if self.asked.is_full() || !self.make_room_for(address, now) {
            return false;
        }
        let entry = self.entries.entry(address).or_insert_with(|| Neighbour {
            mac: None,
            since: now,
            asked: 0,
            ask_next: now,
            waiting: ArrayVec::new(),
        });
        entry.asked = 0;
        entry.ask_next = now;
        self.asked.push(address);
        true
    }

    /// The address said that its MAC is this. Returns the packets that waited for it.
    ///
    /// An address that nobody asked for and that is not known is noted only when `create`: else
    /// strangers could fill the table.
    pub fn learn(
        &mut self,
        address: Ipv4Addr,
        mac: MacAddress,
        create: bool,
        now: Tick,
    ) -> WaitingPackets<B> {
        let may_note = self.is_known(address) || create && self.make_room_for(address, now);
        if !may_note {
            return ArrayVec::new();
        }
        let entry = self.entries.entry(address).or_insert_with(|| Neighbour {
            mac: None,
            since: now,
            asked: 0,
            ask_next: now,
            waiting: ArrayVec::new(),
        });
        entry.mac = Some(mac);
        entry.since = now;
        self.recent[recent_place(address)] = NOT_RECENT;
        self.asked.retain(|asked| *asked != address);
        std::mem::take(&mut entry.waiting)
    }

    pub fn is_known(&self, address: Ipv4Addr) -> bool {
        self.entries.contains_key(&address)
    }

    pub fn has_questions(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Puts the questions that are due into `asks`, as many as it has room for, and calls `give_up`
    /// with the packets of each neighbour that did not answer.
    pub fn tick<const N: usize>(
        &mut self,
        now: Tick,
        asks: &mut ArrayVec<Ask, N>,
        mut give_up: impl FnMut(WaitingPackets<B>),
    ) {
        let entries = &mut self.entries;
        self.asked.retain(|address| {
            let Some(entry) = entries.get_mut(address) else { return false };
            if now < entry.ask_next || asks.is_full() {
                return true;
            }
            if entry.asked == TRIES {
                if let Some(silent) = entries.remove(address) {
                    give_up(silent.waiting);
                }
                return false;
            }
            entry.asked += 1;
            entry.ask_next = now.plus_millis(ASK_MILLIS);
            // The last try is a broadcast: the address may have moved to another MAC.
            let mac = entry.mac.filter(|_| entry.asked < TRIES);
            asks.push(Ask { target: *address, mac });
            true
        });
    }

    /// Room for one more entry, if need be by forgetting those that nobody asked for lately.
    fn make_room_for(&mut self, address: Ipv4Addr, now: Tick) -> bool {
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&address) {
            let asked = &self.asked;
            self.entries.retain(|known, entry| {
                now.millis() < entry.since.millis() + FRESH_MILLIS || asked.contains(known)
            });
        }
        self.entries.len() < CAPACITY || self.entries.contains_key(&address)
    }
}

impl<B> Default for Neighbours<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// Four bytes by multiplication. The keys are on-link addresses, of which there are few, and the
/// table is bounded, so there is nothing to gain by making them collide.
#[derive(Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        let x = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^ x >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    fn tick(n: &mut Neighbours<u32>, now: Tick) -> (Vec<Ask>, Vec<u32>) {
        let (mut asks, mut given_up) = (ArrayVec::<Ask, 8>::new(), Vec::new());
        n.tick(now, &mut asks, |w| given_up.extend(w.into_iter().map(|w| w.packet)));
        (asks.to_vec(), given_up)
    }

    #[test]
    fn first_packets_wait_for_the_answer_in_order_and_one_too_many_is_refused() {
        let mut n = Neighbours::new();
        let now = Tick::from_secs(1);
        assert_eq!(n.lookup(A, now), Lookup::Unknown);
        for packet in 0..16 {
            assert_eq!(n.wait(A, Waiting { packet, epoch: 0 }, now), Ok(()));
        }
        assert_eq!(n.wait(A, Waiting { packet: 16, epoch: 0 }, now), Err((QueueFull, 16)));
        assert_eq!(tick(&mut n, now), (vec![Ask { target: A, mac: None }], vec![]));
        assert_eq!(tick(&mut n, now).0, [], "one question a second");
        let waited: Vec<_> = n.learn(A, MAC, false, now).into_iter().map(|w| w.packet).collect();
        assert_eq!(waited, (0..16).collect::<Vec<_>>());
        assert_eq!(n.lookup(A, now), Lookup::Known(MAC));
    }

    #[test]
    fn a_silent_neighbour_is_given_up_after_three_questions() {
        let mut n = Neighbours::new();
        n.wait(A, Waiting { packet: 7, epoch: 0 }, Tick::from_secs(0)).unwrap();
        for second in 0..3 {
            assert_eq!(tick(&mut n, Tick::from_secs(second)).0.len(), 1);
        }
        assert_eq!(tick(&mut n, Tick::from_secs(3)), (vec![], vec![7]));
        assert!(n.is_empty());
    }

    #[test]
    fn an_old_answer_is_used_while_it_is_asked_for_again_by_unicast_and_last_by_broadcast() {
        let mut n: Neighbours<u32> = Neighbours::new();
        n.learn(A, MAC, true, Tick::from_secs(0));
        let later = Tick::from_secs(31);
        assert_eq!(n.lookup(A, later), Lookup::Stale(MAC));
        assert!(n.ask(A, later));
        assert_eq!(tick(&mut n, later).0, [Ask { target: A, mac: Some(MAC) }]);
        assert_eq!(tick(&mut n, Tick::from_secs(32)).0, [Ask { target: A, mac: Some(MAC) }]);
        assert_eq!(tick(&mut n, Tick::from_secs(33)).0, [Ask { target: A, mac: None }]);
        let moved = MacAddress([2, 0, 0, 0, 0, 9]);
        n.learn(A, moved, false, Tick::from_secs(33));
        assert_eq!(n.lookup(A, Tick::from_secs(33)), Lookup::Known(moved));
    }

    #[test]
    fn strangers_cannot_fill_the_table() {
        let mut n: Neighbours<u32> = Neighbours::new();
        n.learn(A, MAC, false, Tick::default());
        assert!(n.is_empty());
        for i in 0..2 * CAPACITY as u32 {
            n.learn(Ipv4Addr::from_bits(i), MAC, true, Tick::default());
        }
        assert_eq!(n.len(), CAPACITY);
        n.learn(A, MAC, true, Tick::from_secs(60));
        assert_eq!(n.len(), 1, "the old ones made room");
    }
}
