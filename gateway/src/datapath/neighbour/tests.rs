use super::*;
use std::net::Ipv4Addr;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

fn tick(n: &mut Neighbours<Ipv4Addr, u32>, now: Tick) -> (Vec<Ask<Ipv4Addr>>, Vec<u32>) {
    let (mut asks, mut given_up) = (ArrayVec::<Ask<Ipv4Addr>, 8>::new(), Vec::new());
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
    let mut n: Neighbours<Ipv4Addr, u32> = Neighbours::new();
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
fn a_view_says_what_is_known_and_what_waits() {
    let mut n = Neighbours::new();
    assert!(n.view(A, Tick::from_secs(1)).is_none() && n.may_wait(A));
    for packet in 0..16 {
        assert!(n.may_wait(A));
        n.wait(A, Waiting { packet, epoch: 0 }, Tick::from_secs(1)).unwrap();
    }
    assert!(!n.may_wait(A));
    let view = |state, mac, age_millis, waiting| {
        Some(NeighbourView { address: A, mac, state, age_millis, waiting })
    };
    let incomplete = view(NeighbourState::Incomplete, None, 500, 16);
    assert_eq!(n.view(A, Tick::from_millis(1500)), incomplete);
    n.learn(A, MAC, false, Tick::from_secs(2));
    let reachable = view(NeighbourState::Reachable, Some(MAC), 29_999, 0);
    assert_eq!(n.view(A, Tick::from_millis(31_999)), reachable);
    let stale = view(NeighbourState::Stale, Some(MAC), 30_000, 0);
    assert_eq!((n.nth(0, Tick::from_secs(32)), n.nth(1, Tick::from_secs(32))), (stale, None));
}

#[test]
fn strangers_cannot_fill_the_table() {
    let mut n: Neighbours<Ipv4Addr, u32> = Neighbours::new();
    n.learn(A, MAC, false, Tick::default());
    assert!(n.is_empty());
    for i in 0..2 * CAPACITY as u32 {
        n.learn(Ipv4Addr::from_bits(i), MAC, true, Tick::default());
    }
    assert_eq!(n.len(), CAPACITY);
    n.learn(A, MAC, true, Tick::from_secs(60));
    assert_eq!(n.len(), 1, "the old ones made room");
}
