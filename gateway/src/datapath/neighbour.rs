//! Who has which MAC on one side: the cache of ARP or Neighbor Discovery, with a few waiting packets per
//! unknown neighbour.

use crate::{
    nat::Tick,
    wire::{Address, MacAddress, PerFamily},
};
use arrayvec::ArrayVec;
use indexmap::IndexMap;
use std::{
    hash::{BuildHasherDefault, Hasher},
    marker::PhantomData,
};

/// Neighbours of one side; more than any L2 segment should have.
pub const CAPACITY: usize = 4096;
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

impl<B> Neighbour<B> {
    fn view<A>(&self, address: A, now: Tick) -> NeighbourView<A> {
        let age_millis = now.millis().saturating_sub(self.since.millis());
        let state = match self.mac {
            None => NeighbourState::Incomplete,
            Some(_) if age_millis < FRESH_MILLIS => NeighbourState::Reachable,
            Some(_) => NeighbourState::Stale,
        };
        NeighbourView { address, mac: self.mac, state, age_millis, waiting: self.waiting.len() }
    }
}

/// A fresh neighbour that a packet was sent to lately.
#[derive(Clone, Copy, Debug)]
struct Recent<A> {
    address: A,
    /// Seconds; 0 for an empty place.
    fresh_until: u32,
    mac: MacAddress,
}

/// Neighbours of one prefix, as far as there are not more of them, each have a place of their own.
const RECENT: usize = 256;

impl<A: Address> Recent<A> {
    const NONE: Self = Recent { address: A::UNSPECIFIED, fresh_until: 0, mac: MacAddress([0; 6]) };
}

#[inline(always)]
fn recent_place<A: Address>(address: A) -> usize {
    address.number() as usize % RECENT
}

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Known(MacAddress),
    /// Known, but the answer is old: use it, and ask for a new one.
    Stale(MacAddress),
    Unknown,
}

/// How sure it is that a neighbour has its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// It was asked for and did not answer yet.
    Incomplete,
    /// It answered lately.
    Reachable,
    /// Its answer is old: it is used, and asked for again with the next packet.
    Stale,
}

impl NeighbourState {
    /// As the API and the command line show it.
    pub fn label(self) -> &'static str {
        match self {
            NeighbourState::Incomplete => "incomplete",
            NeighbourState::Reachable => "reachable",
            NeighbourState::Stale => "stale",
        }
    }
}

/// A neighbour at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourView<A> {
    pub address: A,
    pub mac: Option<MacAddress>,
    pub state: NeighbourState,
    /// Since its last answer, or where there was none since it was first asked for. Milliseconds.
    pub age_millis: u64,
    /// Packets that wait for its MAC.
    pub waiting: usize,
}

/// Why a packet cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A question to be sent: broadcast, or to the MAC that answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<A> {
    pub target: A,
    pub mac: Option<MacAddress>,
}

#[derive(Debug)]
pub struct Neighbours<A, B> {
    /// By the last byte of the address: what nearly every packet needs, in one line.
    recent: Box<[Recent<A>; RECENT]>,
    /// Each has a number, so that they can be listed a few at a time.
    entries: IndexMap<A, Neighbour<B>, BuildHasherDefault<AddressHasher>>,
    /// The ones with a question open; only these need a look at the clock.
    asked: ArrayVec<A, ASKED>,
}

/// [`Neighbours`] of each family, with packets of type `B`.
#[derive(Debug)]
pub struct NeighboursWith<B>(PhantomData<B>);

impl<B> PerFamily for NeighboursWith<B> {
    type Of<A: Address> = Neighbours<A, B>;
}

impl<A: Address, B> Neighbours<A, B> {
    pub fn new() -> Self {
        let entries = IndexMap::with_capacity_and_hasher(CAPACITY, BuildHasherDefault::default());
        Neighbours { recent: Box::new([Recent::NONE; RECENT]), entries, asked: ArrayVec::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline(always)]
    pub fn lookup(&mut self, address: A, now: Tick) -> Lookup {
        let recent = &self.recent[recent_place(address)];
        if recent.address == address && now.seconds() < recent.fresh_until {
            return Lookup::Known(recent.mac);
        }
        self.lookup_slow(address, now)
    }

    #[cold]
    fn lookup_slow(&mut self, address: A, now: Tick) -> Lookup {
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
        address: A,
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
    pub fn ask(&mut self, address: A, now: Tick) -> bool {
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
        address: A,
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
        self.recent[recent_place(address)] = Recent::NONE;
        self.asked.retain(|asked| *asked != address);
        std::mem::take(&mut entry.waiting)
    }

    pub fn is_known(&self, address: A) -> bool {
        self.entries.contains_key(&address)
    }

    /// What it said its MAC is, however long ago.
    pub fn mac(&self, address: A) -> Option<MacAddress> {
        self.entries.get(&address)?.mac
    }

    /// The neighbour with this number, from 0 to [`Self::len`]; when one is forgotten, the last takes its
    /// number.
    pub fn nth(&self, number: usize, now: Tick) -> Option<NeighbourView<A>> {
        let (address, entry) = self.entries.get_index(number)?;
        Some(entry.view(*address, now))
    }

    /// What is known of `address`; unlike [`Self::lookup`] it leaves no trace.
    pub fn view(&self, address: A, now: Tick) -> Option<NeighbourView<A>> {
        Some(self.entries.get(&address)?.view(address, now))
    }

    /// Whether [`Self::wait`] would keep a packet for an address whose MAC is not known.
    pub fn may_wait(&self, address: A) -> bool {
        match self.entries.get(&address) {
            Some(entry) => {
                let may_ask = !self.asked.is_full() || self.asked.contains(&address);
                may_ask && !entry.waiting.is_full()
            }
            // Where the table is full, old entries may still make room: that is not tried out here.
            None => !self.asked.is_full(),
        }
    }

    pub fn has_questions(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Puts the questions that are due into `asks`, as many as it has room for, and calls `give_up`
    /// with the packets of each neighbour that did not answer.
    pub fn tick<const N: usize>(
        &mut self,
        now: Tick,
        asks: &mut ArrayVec<Ask<A>, N>,
        mut give_up: impl FnMut(WaitingPackets<B>),
    ) {
        let entries = &mut self.entries;
        self.asked.retain(|address| {
            let Some(entry) = entries.get_mut(address) else { return false };
            if now < entry.ask_next || asks.is_full() {
                return true;
            }
            if entry.asked == TRIES {
                if let Some(silent) = entries.swap_remove(address) {
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
    fn make_room_for(&mut self, address: A, now: Tick) -> bool {
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&address) {
            let asked = &self.asked;
            self.entries.retain(|known, entry| {
                now.millis() < entry.since.millis() + FRESH_MILLIS || asked.contains(known)
            });
        }
        self.entries.len() < CAPACITY || self.entries.contains_key(&address)
    }
}

impl<A: Address, B> Default for Neighbours<A, B> {
    fn default() -> Self {
        Self::new()
    }
}

/// Multiplication of the address's words. The keys are on-link addresses, of which there are few, and the
/// table is bounded, so there is nothing to gain by making them collide.
#[derive(Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let number = word.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            self.0 = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests;
