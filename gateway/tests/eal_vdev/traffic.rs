//! Packets through devices, and a whole worker between two of them.

use super::*;

/// A ring device gives back what is sent to it, in order; what it has no room for stays with the
/// caller.
#[test]
fn bursts_go_through_a_port_and_the_unsent_stay() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let ((mut rx, mut tx), watch) = port(&eal, "net_ring0", &pool);

    let mut next = 0u32;
    let mut stuck = loop {
        let mut burst: Burst<Mbuf> =
            (0..BURST as u32).map(|i| packet(&pool, &(next + i).to_be_bytes())).collect();
        let sent = tx.tx(&mut burst) as u32;
        next += sent;
        if !burst.is_empty() {
            break burst;
        }
        assert!(next < BUFFERS, "the ring never filled up");
    };
    assert_eq!(stuck[0].data(), next.to_be_bytes(), "the first of the unsent is the next one");
    stuck.clear();

    let mut expected = 0u32;
    let mut burst = ArrayVec::<Mbuf, 7>::new();
    while rx.rx(&mut burst) > 0 {
        for packet in burst.drain(..) {
            assert_eq!(packet.data(), expected.to_be_bytes());
            expected += 1;
        }
    }
    assert_eq!(expected, next);
    assert_eq!(watch.stats().rx_packets, u64::from(next));
    drop((rx, tx, watch));
    assert_eq!(pool.available(), BUFFERS);
}

#[test]
fn a_burst_is_filled_behind_what_it_holds() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    let ((mut rx, mut tx), _watch) = port(&eal, "net_ring0", &pool);
    let mut burst: Burst<Mbuf> = [1u8, 2, 3].iter().map(|b| packet(&pool, &[*b])).collect();
    assert_eq!(tx.tx(&mut burst), 3);
    burst.push(packet(&pool, &[0]));
    assert_eq!(rx.rx(&mut burst), 3);
    let bytes: Vec<u8> = burst.iter().map(|p| p.data()[0]).collect();
    assert_eq!(bytes, [0, 1, 2, 3]);
    drop(burst);
    assert_eq!(pool.available(), BUFFERS);
}

#[test]
fn packets_left_in_a_device_go_back_when_it_closes() {
    let eal = start(vec![]);
    let pool = pool(&eal);
    // net_null hands out empty packets from the pool, without end.
    let ((mut rx, tx), watch) = port(&eal, "net_null0,size=64", &pool);
    let mut burst = Burst::new();
    assert_eq!(rx.rx(&mut burst), BURST);
    assert!(burst.iter().all(|p| p.data().len() == 64));
    assert_eq!(pool.available(), BUFFERS - BURST as u32);
    drop((burst, rx, tx, watch));
    assert_eq!(pool.available(), BUFFERS);
}

/// The whole worker on two pcap devices: a pod's question in, and what left in the other's file.
#[test]
fn a_worker_translates_between_two_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // The driver's own MACs: 02:'p':'c':'a':'p':index.
    let [tunnel_mac, external_mac] = [0, 1].map(|index| [2, 0x70, 0x63, 0x61, 0x70, index]);
    let question = udp((POD, 4000), (REMOTE, 53), 64, b"question");
    let mut from_node = tunnelled(NODE, POLICY, &question);
    from_node[..6].copy_from_slice(&tunnel_mac);
    // The router asks for us: it is answered, and known from then on.
    let from_router = arp_frame(1, [0xff; 6], (ROUTER_MAC, ROUTER), ([0; 6], EXTERNAL));
    write_pcap(&path("tunnel-in"), &[from_node]);
    write_pcap(&path("external-in"), &[from_router]);

    let eal = start(vec![]);
    let pool = pool(&eal);
    let start = |index: u8, side: &str, mac: [u8; 6]| {
        let (rx, tx) = (path(&format!("{side}-in")), path(&format!("{side}-out")));
        let device = format!("net_pcap{index},rx_pcap={rx},tx_pcap={tx}");
        let port = Port::probe(&eal, &device).unwrap();
        assert_eq!(port.mac().0, mac);
        port.start(settings(1), &pool).unwrap().queues.pop().unwrap()
    };
    let tunnel = start(0, "tunnel", tunnel_mac);
    let mut io = DpdkIo::new(tunnel, start(1, "external", external_mac), pool);
    let setup = Setup { tunnel_mac, external_mac, ..Setup::default() };
    let mut worker = Parts::<Mbuf>::new(setup).worker;
    assert_eq!(worker.poll_once(&mut io, Tick::from_secs(1)), 2);
    drop((worker, io));
    assert_eq!(pool.available(), BUFFERS);

    let out = read_pcap(&path("external-out"));
    let answer = arp_frame(2, ROUTER_MAC, (external_mac, EXTERNAL), (ROUTER_MAC, ROUTER));
    assert!(out.contains(&answer), "{out:02x?}");
    let translated: Vec<_> =
        out.iter().filter(|f| f[12..14] == [8, 0]).map(|f| Seen::of(f)).collect();
    assert_eq!(translated.len(), 1);
    assert_eq!((translated[0].source, &translated[0].payload[..]), (EGRESS, &b"question"[..]));
    assert!(translated[0].l4_checksum_ok);
}

fn write_pcap(path: &str, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4u32.to_ne_bytes());
    file.extend([2u16, 4].map(u16::to_ne_bytes).concat());
    file.extend([0u32, 0, 65_535, 1].map(u32::to_ne_bytes).concat());
    for frame in frames {
        let len = frame.len() as u32;
        file.extend([0, 0, len, len].map(u32::to_ne_bytes).concat());
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

fn read_pcap(path: &str) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        frames.push(behind[..len].to_vec());
        rest = &behind[len..];
    }
    frames
}
