//! The flows of a storm: each sends at a steady rate as long as it lasts and notes what becomes of every packet.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::gate::Gate;
use crate::daemon::Daemon;
use crate::echo::ECHO_PORT;
use crate::family::Family;
use crate::marker::Marker;
use crate::probe;
use crate::stack::Lab;
use crate::topology::{Pod, WORLD};

/// Between two datagrams of one flow.
const PACE_UDP: Duration = Duration::from_millis(10);
const PACE_TCP: Duration = Duration::from_millis(20);
/// Of `ping`, in seconds.
const PACE_PING: f64 = 0.05;
/// For the last answers.
const DRAIN: Duration = Duration::from_secs(3);

/// Room for the packets of one flow: a flow's sequences begin at its number times this.
const PACKETS_PER_FLOW: u32 = 1 << 20;

/// Who speaks, under which policy.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    pub pod: Pod,
    pub family: Family,
    pub policy: u32,
    /// What the world must see.
    pub egress_ip: IpAddr,
    /// In the markers, and what a finding names.
    pub flow: u32,
}

impl Speaker {
    fn marker(&self, packet: u32) -> Marker {
        let sequence = self.flow * PACKETS_PER_FLOW + packet;
        let pod = self.own().into();
        Marker { pod, policy: self.policy, generation: 1, sequence }
    }

    fn own(&self) -> IpAddr {
        self.pod.address.of(self.family)
    }

    fn world(&self) -> IpAddr {
        WORLD.of(self.family)
    }

    pub(super) fn name(&self, protocol: &str) -> String {
        format!("{} of {} over {}", protocol, self.pod.name, self.family)
    }
}

/// The flow that a marker's sequence belongs to.
pub(super) fn flow_of(sequence: u32) -> u32 {
    sequence / PACKETS_PER_FLOW
}

/// A UDP flow.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    pub said: Datagram,
}

/// What was sent over UDP, and what came back.
#[derive(Debug)]
pub(super) struct Datagram {
    pub speaker: Speaker,
    pub sent: u32,
    /// Sequence → the source that the world saw.
    pub answers: BTreeMap<u32, SocketAddr>,
    /// Answers to what was answered, or never sent.
    pub strange: u32,
    /// Sequences of what must not have left the gateway.
    pub while_removed: BTreeSet<u32>,
}

impl Datagrams {
    pub(super) fn open(lab: &Lab, speaker: Speaker) -> Result<Self> {
        let (own, world) = (speaker.own(), speaker.world());
        let socket = lab.host(speaker.pod.name)?.within(|| {
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect((world, ECHO_PORT))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        let (answers, while_removed) = Default::default();
        Ok(Self { socket, said: Datagram { speaker, sent: 0, answers, strange: 0, while_removed } })
    }

    /// Waits for the answer to one datagram: whatever the worker had got before, it has dealt with after this.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.socket.set_nonblocking(false)?;
        let marker = self.said.speaker.marker(self.said.sent);
        self.said.sent += 1;
        let source = probe::udp_over(&self.socket, marker, probe::TIMEOUT)?;
        self.said.answers.insert(marker.sequence, source);
        Ok(self.socket.set_nonblocking(true)?)
    }

    /// Until `end`, and then for as long as answers are missing.
    pub(super) fn speak(mut self, end: &AtomicBool, gate: &Gate) -> Result<Datagram> {
        let mut next = Instant::now();
        while !end.load(Ordering::SeqCst) {
            let marker = self.said.speaker.marker(self.said.sent);
            let bytes = marker.to_bytes();
            // an error is that of an earlier datagram (an ICMP message came), and this one was not sent
            let send = || self.socket.send(&bytes).or_else(|_| self.socket.send(&bytes));
            let (sent, was_shut) = gate.was_shut(send);
            sent.with_context(|| self.said.speaker.name("UDP"))?;
            self.said.sent += 1;
            if was_shut {
                self.said.while_removed.insert(marker.sequence);
            }
            self.hear()?;
            wait_for(&mut next, PACE_UDP);
        }
        let deadline = Instant::now() + DRAIN;
        while self.said.answers.len() < self.said.sent as usize && Instant::now() < deadline {
            self.hear()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.said)
    }

    fn hear(&mut self) -> Result<()> {
        let mut buffer = [0; 256];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                // nothing more, or an ICMP message: what it is about misses its answer
                Err(_) => return Ok(()),
            };
            let (echoed, source) =
                buffer[..length].split_at_checked(Marker::LENGTH).context("a short answer")?;
            let source = std::str::from_utf8(source)?.trim().parse()?;
            let first = self.said.speaker.marker(0).sequence;
            let sequence = Marker::read(echoed).map(|marker| marker.sequence);
            let sequence = sequence.filter(|s| (first..first + self.said.sent).contains(s));
            let known = sequence.map(|sequence| self.said.answers.insert(sequence, source));
            self.said.strange += u32::from(known != Some(None));
        }
    }
}

/// A TCP connection, whose other end sends everything back.
#[derive(Debug)]
pub(super) struct Connection {
    pub speaker: Speaker,
    pub stream: TcpStream,
    pub local: SocketAddr,
    pub sent: u32,
    /// Records that came back, in order and unchanged.
    pub answered: u32,
    pub broken: Option<String>,
}

/// A marker and as much again, so that each segment begins with one.
const RECORD: usize = 2 * Marker::LENGTH;

impl Connection {
    pub(super) fn open(lab: &Lab, speaker: Speaker) -> Result<Self> {
        let to = SocketAddr::new(speaker.world(), ECHO_PORT);
        let stream = lab
            .host(speaker.pod.name)?
            .within(|| Ok(TcpStream::connect_timeout(&to, probe::TIMEOUT)?))
            .with_context(|| speaker.name("TCP"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let local = stream.local_addr()?;
        Ok(Self { speaker, stream, local, sent: 0, answered: 0, broken: None })
    }

    /// Until `end`, and then for as long as answers are missing. The connection stays open: its end has segments too.
    pub(super) fn speak(mut self, end: &AtomicBool) -> Self {
        if let Err(error) = self.try_to_speak(end) {
            self.broken = Some(format!("{error:#}"));
        }
        self
    }

    fn try_to_speak(&mut self, end: &AtomicBool) -> Result<()> {
        let mut next = Instant::now();
        let mut heard = Vec::new();
        while !end.load(Ordering::SeqCst) {
            // a whole record or none: the socket's buffer holds thousands
            let written = self.stream.write(&self.record(self.sent)).context("cannot send")?;
            ensure!(written == RECORD, "{written} bytes of a record were sent");
            self.sent += 1;
            self.hear(&mut heard)?;
            wait_for(&mut next, PACE_TCP);
        }
        let deadline = Instant::now() + DRAIN;
        while self.answered < self.sent && Instant::now() < deadline {
            self.hear(&mut heard)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn record(&self, packet: u32) -> [u8; RECORD] {
        let mut record = [0x5a; RECORD];
        record[..Marker::LENGTH].copy_from_slice(&self.speaker.marker(packet).to_bytes());
        record
    }

    fn hear(&mut self, heard: &mut Vec<u8>) -> Result<()> {
        let mut buffer = [0; 16 * RECORD];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                ensure!(length > 0, "the other end has closed it");
                heard.extend_from_slice(&buffer[..length]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        while let Some((record, rest)) = heard.split_first_chunk::<RECORD>() {
            ensure!(*record == self.record(self.answered), "record {} is wrong", self.answered);
            self.answered += 1;
            *heard = rest.to_vec();
        }
        Ok(())
    }
}

/// Echo requests of one identifier.
#[derive(Debug)]
pub(super) struct Pings {
    pub speaker: Speaker,
    ping: Daemon,
}

/// What `ping` said at its end.
#[derive(Debug)]
pub(super) struct Pinged {
    pub speaker: Speaker,
    pub sent: u32,
    pub answered: u32,
    pub twice: bool,
}

impl Pings {
    /// For so long.
    pub(super) fn open(lab: &Lab, speaker: Speaker, time: Duration) -> Result<Self> {
        let marker = speaker.marker(0).to_bytes();
        let pattern: String = marker.iter().map(|byte| format!("{byte:02x}")).collect();
        let count = (time.as_secs_f64() / PACE_PING).ceil();
        let command =
            format!("ping -n -q -i {PACE_PING} -c {count} -W 3 -p {pattern} {}", speaker.world());
        let words: Vec<&str> = command.split(' ').collect();
        let name = format!("ping.{}", speaker.flow);
        let ping = lab.host(speaker.pod.name)?.daemon(&name, &words)?;
        Ok(Self { speaker, ping })
    }

    pub(super) fn finish(mut self) -> Result<Pinged> {
        self.ping.ended()?;
        let log = self.ping.log();
        let number = |what: &str| -> Result<u32> {
            let before = log.split(what).next().filter(|before| before.len() < log.len());
            let word = before.and_then(|text| text.trim_end().rsplit([' ', '\n']).next());
            word.and_then(|word| word.parse().ok()).with_context(|| format!("ping said: {log}"))
        };
        let (sent, answered) = (number("packets transmitted")?, number("received")?);
        Ok(Pinged { speaker: self.speaker, sent, answered, twice: log.contains("duplicates") })
    }
}

/// Until the next packet is due; one that is late does not hurry the next ones.
fn wait_for(next: &mut Instant, pace: Duration) {
    *next = (*next + pace).max(Instant::now());
    std::thread::sleep(next.saturating_duration_since(Instant::now()));
}
