//! The crate's own hash and each worker's share of l4_ports, against DPDK's `rte_softrss`.

use super::*;

fn address(is_v6: bool, number: u128) -> IpAddr {
    if is_v6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}

fn check_allotments<A: Address>(steering: &Steering, nic: &Nic, egress: A, remote: (A, u16)) {
    let external = ExternalEndpoint(Endpoint::new(egress, 0));
    let pool =
        FlowKey::out2in(Protocol::Tcp, external, RemoteEndpoint(Endpoint::new(remote.0, remote.1)));
    let mut owners = vec![None; 65_536];
    for worker in 0..steering.workers() {
        let allotment = steering.allotment(worker);
        let share = allotment.of(&pool);
        for number in 0..share.len() {
            let l4_port = share.nth(number).unwrap();
            assert_eq!(share.index_of(l4_port), Some(number));
            assert_eq!(owners[usize::from(l4_port)].replace(worker), None, "given by two");
        }
        assert_eq!(share.nth(share.len()), None);
    }
    let source = SocketAddr::new(remote.0.into(), remote.1);
    for l4_port in 0..=u16::MAX {
        let destination = SocketAddr::new(egress.into(), l4_port);
        let owner = (l4_port >= 1024).then(|| nic.queue(source, destination));
        assert_eq!(owners[usize::from(l4_port)], owner, "{source} → {destination}");
        let key = ExternalEndpoint(Endpoint::new(egress, l4_port));
        let remote = RemoteEndpoint(Endpoint::new(remote.0, remote.1));
        let key = FlowKey::out2in(Protocol::Tcp, key, remote);
        assert_eq!(steering.of_out2in(&key), nic.queue(source, destination));
    }
}

proptest! {
    /// The crate's hash is DPDK's.
    #[test]
    fn toeplitz_is_rte_softrss(
        key in prop::collection::vec(any::<u8>(), 40..=52),
        is_v6: bool,
        (source, destination) in any::<(u128, u128)>(),
        (sport, dport) in any::<(u16, u16)>(),
    ) {
        let toeplitz = Toeplitz::new(&key).unwrap();
        let (source, destination) = (address(is_v6, source), address(is_v6, destination));
        let hash = toeplitz.of_addresses(source, destination).unwrap()
            ^ toeplitz.of_l4_ports(source, sport, dport);
        let (from, to) = (SocketAddr::new(source, sport), SocketAddr::new(destination, dport));
        prop_assert_eq!(Some(hash), SoftRss::new(&key).hash(from, to));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Of any pool, each l4_port from 1024 on is given by the worker whose queue the NIC brings its packets to,
    /// and by no other.
    #[test]
    fn every_l4_port_is_given_by_the_worker_of_its_queue(
        seed: u8,
        workers in 1usize..=9,
        entries in prop::sample::select(vec![16u16, 64, 128, 512, 1024]),
        is_v6: bool,
        (egress, remote) in any::<(u128, u128)>(),
        remote_l4_port: u16,
    ) {
        // Every queue once, then as it comes.
        let mut random = ChaCha8Rng::from_seed([seed; 32]);
        let reta: Vec<u16> = (0..entries)
            .map(|i| if usize::from(i) < workers { i } else { (random.next_u32() % workers as u32) as u16 })
            .collect();
        let fits = |key: [u8; 40]| Some((no_rss(workers).with_rss(&key, &reta).ok()?, key));
        let (steering, key) = keys(seed).take(200).find_map(fits).unwrap();
        let nic = Nic::new(&key, &reta);
        if is_v6 {
            let v6 = |number| Ipv6Addr::from(number);
            check_allotments(&steering, &nic, v6(egress), (v6(remote), remote_l4_port));
        } else {
            let v4 = |number: u128| Ipv4Addr::from(number as u32);
            check_allotments(&steering, &nic, v4(egress), (v4(remote), remote_l4_port));
        }
    }
}
