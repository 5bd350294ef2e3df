//! The devices between a system and the generator.

use super::{
    keeper::Keeper,
    namespace::{EXTERNAL, Namespace, TUNNEL},
    place::Place,
};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// Memory shared by two processes; frames are copied by the client, which is the generator.
    Memif,
    /// The client's own buffers are the shared memory, and nothing is copied by it: the system is the client,
    /// and copying is the generator's, the server's. It wants hugepages. As a client looks for its server
    /// only once, such a system starts when its generator is there, and serves no other one.
    MemifZeroCopy,
    /// Packet sockets on both ends of a veth.
    AfPacket,
    /// XDP sockets on the system's end of a veth, packet sockets on the generator's.
    AfXdp,
}

/// As results call it.
impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Io::Memif | Io::MemifZeroCopy => "memif",
            Io::AfPacket => "af_packet",
            Io::AfXdp => "af_xdp",
        })
    }
}

/// The number of receive ring entries: with the product's default of 512 a packet socket overflows
/// whenever its reader is off its CPU for a moment.
const RING: &str = "framecnt=8192,blocksz=16384";

#[derive(Debug)]
pub(super) struct Cable {
    io: Io,
    /// Device strings, tunnel and external.
    system: [String; 2],
    generator: [String; 2],
    /// Those of memif.
    sockets: [PathBuf; 2],
    namespace: Option<Namespace>,
}

impl Cable {
    /// For `queues` workers. What is of files is in `folder`, which has to be a fresh one: over a socket file
    /// that another left, nobody connects.
    pub(super) fn make(
        io: Io,
        place: &Place,
        queues: usize,
        folder: &Path,
        keeper: &mut Keeper,
    ) -> Result<Self> {
        let sockets = ["tunnel", "external"].map(|side| folder.join(format!("{side}.memif")));
        let memif = |role: &str, more: &str| {
            let device = |number: usize| {
                let socket = sockets[number].display();
                format!("net_memif{number},role={role},socket-abstract=no,socket={socket}{more}")
            };
            [device(0), device(1)]
        };
        let namespace = match io {
            Io::Memif | Io::MemifZeroCopy => None,
            Io::AfPacket | Io::AfXdp => {
                let namespace = Namespace::make(place, queues, folder, keeper)?;
                namespace.drop_behind_sockets()?;
                Some(namespace)
            }
        };
        let packet_sockets = |ends: [&str; 2], queues: usize| {
            [0, 1].map(|number| packet_socket(number, ends[number], queues))
        };
        let xdp_sockets = |number: usize, end: &str| {
            format!("net_af_xdp{number},iface={end},start_queue=0,queue_count={queues}")
        };
        let far = namespace.as_ref().map(|it| it.generator_ends().each_ref().map(String::as_str));
        let generator = match far {
            Some(ends) => packet_sockets(ends, 1),
            None if io == Io::MemifZeroCopy => memif("server", ""),
            None => memif("client", ""),
        };
        let system = match io {
            Io::Memif => memif("server", ""),
            Io::MemifZeroCopy => memif("client", ",zero-copy=yes"),
            Io::AfPacket => packet_sockets([TUNNEL, EXTERNAL], queues),
            Io::AfXdp => [xdp_sockets(0, TUNNEL), xdp_sockets(1, EXTERNAL)],
        };
        Ok(Cable { io, system, generator, sockets, namespace })
    }

    pub(super) fn system(&self) -> &[String; 2] {
        &self.system
    }

    pub(super) fn generator(&self) -> &[String; 2] {
        &self.generator
    }

    /// Further words for the system's EAL.
    pub(super) fn eal_arguments(&self) -> &[&str] {
        match self.io {
            // A client that copies nothing hands out its memory by file descriptors, of which few fit.
            Io::MemifZeroCopy => &["--single-file-segments"],
            Io::Memif | Io::AfPacket | Io::AfXdp => &[],
        }
    }

    /// Whether the generator has to be there before the system can start: a memif client looks for its
    /// server once.
    pub(super) fn generator_is_first(&self) -> bool {
        self.io == Io::MemifZeroCopy
    }

    /// Whether the system has opened both devices, of a system that is there before the generator.
    pub(super) fn is_held(&self) -> Result<bool> {
        let Some(namespace) = &self.namespace else { return Ok(self.has_sockets()) };
        Ok(match self.io {
            // A line for each socket, under a heading.
            Io::AfPacket => namespace.run("cat /proc/net/packet")?.lines().count() > 2,
            Io::AfXdp => namespace.run("ip -o link show")?.matches("prog/xdp").count() == 2,
            Io::Memif | Io::MemifZeroCopy => self.has_sockets(),
        })
    }

    /// Whether who serves memif has made both sockets.
    pub(super) fn has_sockets(&self) -> bool {
        self.sockets.iter().all(|socket| socket.exists())
    }

    /// Of memif, tunnel and external.
    pub(super) fn sockets(&self) -> &[PathBuf; 2] {
        &self.sockets
    }

    /// Begins a command where the system's devices are, on CPUs that are not the generator's; its words are
    /// still to come.
    pub(super) fn command(&self, place: &Place) -> Result<Command> {
        let command = place.command()?;
        Ok(match &self.namespace {
            Some(namespace) => namespace.enter(command),
            None => command,
        })
    }
}

/// DPDK's words for the interface.
pub(super) fn packet_socket(number: usize, interface: &str, queues: usize) -> String {
    format!("net_af_packet{number},iface={interface},qpairs={queues},{RING}")
}
