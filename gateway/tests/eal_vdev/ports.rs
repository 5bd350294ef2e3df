//! What a device is asked and told before packets flow: queues, RSS, flow rules.

use super::*;

#[test]
fn limits_of_a_device_are_told_before_it_is_configured() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let error = Port::probe(&eal, "net_ring0").unwrap().start(settings(99), &pool).unwrap_err();
    assert!(error.to_string().contains("99 queue pairs"), "{error}");
    let tiny = PortSettings { mtu: 9, ..settings(1) };
    let error = Port::probe(&eal, "net_null0").unwrap().start(tiny, &pool).unwrap_err();
    assert!(error.to_string().contains("mtu 9"), "{error}");
}

/// Queue pairs that a device does not have; the error says how it gets them.
#[test]
fn too_few_queues_are_told_with_the_way_to_more() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    for (device, queues, has, more) in [
        ("net_af_packet0,iface=lo".to_owned(), 2, "has 1", "add ,qpairs=2 to the device"),
        (format!("net_pcap0,rx_iface=lo,tx_pcap={out}"), 2, "has 1", "one rx_pcap= and tx_pcap="),
        ("net_tap0,iface=egtest0".to_owned(), 17, "has 16", "at most 16"),
    ] {
        let error = Port::probe(&eal, &device).unwrap().start(settings(queues), &pool).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(has) && error.contains(more), "{error}");
    }
    let device = "net_af_packet1,iface=lo,qpairs=2";
    assert_eq!(started(&eal, device, 2, &pool).queues.len(), 2);
}

/// `net_null` keeps a key and a table as a NIC does; they are read back from it, not remembered.
#[test]
fn rss_is_set_up_where_the_driver_has_it() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let rss = started(&eal, "net_null0", 3, &pool).rss.unwrap();
    assert_eq!(rss.key.len(), 40);
    assert!(rss.key.iter().any(|byte| *byte != 0));
    assert!(["ipv4-udp", "ipv4-tcp", "ipv6-udp"].iter().all(|t| rss.types.contains(t)), "{rss:?}");
    assert!(rss.reta.len() >= 64);
    let share = |queue| rss.reta.iter().filter(|entry| **entry == queue).count();
    let shares = [share(0), share(1), share(2)];
    assert_eq!(shares.iter().sum::<usize>(), rss.reta.len(), "{:?}", rss.reta);
    assert!(shares.iter().all(|n| n.abs_diff(shares[0]) <= 1), "{shares:?}");

    let same = started(&eal, "net_null1", 2, &pool).rss.unwrap();
    assert_eq!(same.key, rss.key, "the same seed, the same key");
    let other = PortSettings { rss_seed: [8; 16], ..settings(2) };
    let other = Port::probe(&eal, "net_null2").unwrap().start(other, &pool).unwrap();
    assert_ne!(other.rss.unwrap().key, rss.key);
}

#[test]
fn a_driver_without_rss_says_so() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    for (device, queues, reason) in [
        ("net_ring0", 1, "the port has one queue"),
        ("net_af_packet0,iface=lo,qpairs=2", 2, "the driver net_af_packet has no RSS"),
        (
            "net_memif0,role=server,socket-abstract=no,socket=SOCKET",
            2,
            "the driver net_memif has no RSS",
        ),
        ("net_tap0,iface=egtest1", 2, "not supported"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("memif").display().to_string();
        let rss = started(&eal, &device.replace("SOCKET", &socket), queues, &pool).rss;
        let said = rss.unwrap_err();
        assert!(said.contains(reason), "{device}: {said}");
    }
}

#[test]
fn a_driver_without_flow_rules_refuses_the_first_one_and_says_so() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let devices = ["net_null0", "net_af_packet0,iface=lo,qpairs=2"];
    for device in devices {
        let port = started(&eal, device, 2, &pool);
        let refused = FlowRules::install(&port.watch, &[0, 1], false).unwrap_err();
        let rule = "rule 1 of 8 (ipv4 tcp dst & 0x0001 == 0 → queue 0) was refused";
        assert!(refused.contains(rule) && refused.contains("rte_flow_validate"), "{refused}");
        assert!(refused.contains("not implemented"), "{refused}");
    }
}

/// The only virtual device with flow rules; it wants the kernel's multiq qdisc for them, and without it
/// finds every rule good and then makes none.
#[test]
fn a_tap_takes_all_rules_or_refuses_when_they_are_made() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let port = started(&eal, "net_tap0,iface=egtest2", 2, &pool);
    match FlowRules::install(&port.watch, &[0, 1], false) {
        Ok(rules) => assert_eq!(rules.len(), 8),
        Err(refused) => {
            assert!(refused.contains("of 8 (ipv"), "{refused}");
            assert!(refused.contains("rte_flow_create"), "{refused}");
        }
    }
}
