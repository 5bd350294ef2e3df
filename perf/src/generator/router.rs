//! A twin of the gateway that does all that the gateway does, but for the NAT: it shows what generator and
//! devices can do. Tunnelled packets leave without their tunnel, towards the router; packets to pods go
//! into a tunnel to their node.

use super::{
    ends::{BUFFER_ROOM, BUFFERS, open_device},
    forward::Forward,
};
use anyhow::{Context, Result};
use gateway::{
    datapath::{Burst, PacketBuf, PacketIo},
    dpdk::{DpdkIo, Eal, EalOptions, Mbuf, Mempool},
    verdict::Side,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often the main thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Runs on `core` between the devices `tunnel` and `external`, in DPDK's words, until SIGTERM or SIGINT.
/// It never sleeps.
pub fn router(
    tunnel: &str,
    external: &str,
    core: usize,
    hugepages: bool,
    eal_args: &[String],
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("no signal handler")?;
    }
    let options = EalOptions {
        worker_cores: vec![core],
        hugepages,
        memory_mib: 256,
        extra_args: eal_args.to_vec(),
        ..EalOptions::default()
    };
    let eal = Eal::start(&options).context("the EAL does not start")?;
    let pool = Mempool::new(&eal, BUFFERS, BUFFER_ROOM, -1)?;
    let tunnel = open_device(&eal, tunnel, &pool)?;
    let external = open_device(&eal, external, &pool)?;
    let macs = [tunnel.mac, external.mac];
    let io = DpdkIo::new(tunnel.queues, external.queues, pool);
    let lcore = *eal.worker_lcores().first().context("no lcore for the router")?;
    let told = Arc::clone(&stop);
    let lcore = eal.launch(lcore, move || work(io, Forward::new(macs), &told))?;
    // Waiting for an lcore burns a CPU, so that only its end is waited for.
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
    }
    lcore.join();
    Ok(())
}

fn work(mut io: DpdkIo, mut forward: Forward, stop: &AtomicBool) {
    let mut bursts: [Burst<Mbuf>; 2] = Default::default();
    while !stop.load(Ordering::Relaxed) {
        for side in Side::ALL {
            let mut received = Burst::new();
            io.rx(side, &mut received);
            received.iter().for_each(PacketBuf::prefetch_buffer);
            received.iter().for_each(|packet| packet.prefetch(side));
            let [tunnel, external] = &mut bursts;
            let (back, across) = match side {
                Side::Tunnel => (tunnel, external),
                Side::External => (external, tunnel),
            };
            for mut packet in received {
                if forward.forward(side, &mut packet) {
                    // A burst that did not go out last time leaves less room.
                    let _ = across.try_push(packet);
                } else if let Some(answer) = forward.listen(side, packet.data())
                    && packet.fill(&answer)
                {
                    let _ = back.try_push(packet);
                }
            }
        }
        for (side, burst) in Side::ALL.into_iter().zip(&mut bursts) {
            if !burst.is_empty() {
                io.tx(side, burst);
                // As a NIC's full ring: what it does not take is lost.
                Mbuf::free_bulk(burst);
            }
        }
    }
}
