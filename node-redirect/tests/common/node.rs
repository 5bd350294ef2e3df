//! A node with a pod and an underlay, in network namespaces: the test's own is the node's, `pod` and `gateway` have their names.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use node_redirect::counters::Reason;
use node_redirect::maps::Maps;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};

use super::frame::{Outer, parse_outer};
use super::sh;

pub const VXLAN_PORT: u16 = 4790;
pub const CONFIG: &str = "/run/node-redirect.toml";
pub const POLICY: &str = "/run/policy/policy.yaml";
const PINS: &str = "/sys/fs/bpf/node-redirect";
const PATIENCE: Duration = Duration::from_secs(20);

/// VNI 4711 for pod 10.244.1.10, everything but 8.8.0.0/16.
pub const DOCUMENTS: &str = "\
apiVersion: egress-gateway.io/v1alpha1
kind: EgressPolicy
metadata: {name: payments}
spec:
  selectors: [{podSelector: {matchLabels: {app: payments}}}]
  destinationCIDRs: [0.0.0.0/0]
  excludedCIDRs: [8.8.0.0/16]
  egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]
  policyID: 4711
---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressGateway
metadata: {name: gw-a}
spec: {tunnelAddress: 192.0.2.10}
---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressNode
metadata: {name: node1}
spec: {tunnelAddress: 192.0.2.1, podCIDRs: [10.244.1.0/24]}
---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressEndpoint
metadata: {name: pod-a, namespace: shop, labels: {app: payments}}
spec: {ips: [10.244.1.10], node: node1}
---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressEndpoint
metadata: {name: gone, namespace: shop, labels: {app: payments}}
spec: {ips: [10.244.1.99], node: node1}
";

/// Which addresses the tunnel is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    V4,
    V6,
}

impl Underlay {
    pub fn node(self) -> &'static str {
        if self == Self::V4 { "192.0.2.1" } else { "2001:db8:1::1" }
    }

    pub fn gateway(self) -> &'static str {
        if self == Self::V4 { "192.0.2.10" } else { "2001:db8:1::10" }
    }

    /// On the underlay, and no gateway.
    pub fn stranger(self) -> &'static str {
        if self == Self::V4 { "192.0.2.66" } else { "2001:db8:1::66" }
    }

    pub fn tunnel_mtu(self) -> usize {
        if self == Self::V4 { 1450 } else { 1430 }
    }

    /// [`DOCUMENTS`] for pods with addresses of both families: all but 8.8.0.0/16 and 2001:db8:8::/48.
    pub fn documents(self) -> String {
        DOCUMENTS
            .replace("[0.0.0.0/0]", "[0.0.0.0/0, '::/0']")
            .replace("[8.8.0.0/16]", "[8.8.0.0/16, '2001:db8:8::/48']")
            .replace("[203.0.113.16]", "[203.0.113.16, '2001:db8:113::10']")
            .replace("[10.244.1.0/24]", "[10.244.1.0/24, 'fd00:244:1::/64']")
            .replace("[10.244.1.10]", "[10.244.1.10, 'fd00:244:1::10']")
            .replace("[10.244.1.99]", "[10.244.1.99, 'fd00:244:1::99']")
            .replace("192.0.2.10}", &format!("'{}'}}", self.gateway()))
            .replace("192.0.2.1,", &format!("'{}',", self.node()))
    }
}

#[derive(Debug)]
pub struct Node {
    agent: Option<Child>,
}

impl Node {
    pub fn new(hook: &str) -> Self {
        for command in [
            "sysctl -qw net.ipv4.ip_forward=1",
            "ip netns add pod",
            // What a pod says of IPv6 by itself would be counted.
            "ip netns exec pod sysctl -qw net.ipv6.conf.default.disable_ipv6=1",
            "ip netns add gateway",
            "ip link add vethpod type veth peer name eth0 netns pod",
            "ip link add uplink type veth peer name eth0 netns gateway",
            "ip addr add 192.0.2.1/24 dev uplink",
            "ip link set uplink up",
            "ip -n gateway addr add 192.0.2.10/24 dev eth0",
            "ip -n gateway addr add 192.0.2.66/24 dev eth0",
            "ip -n gateway link set eth0 up",
            "ip route add default via 192.0.2.10",
            "ip addr add 10.244.1.1/32 dev vethpod",
            "ip link set vethpod up",
            "ip route add 10.244.1.10/32 dev vethpod",
            "ip -n pod link set eth0 up",
            "ip -n pod addr add 10.244.1.10/24 dev eth0",
            "ip -n pod route add default via 10.244.1.1",
        ] {
            sh(command);
        }
        fs::create_dir(Path::new(POLICY).parent().unwrap()).unwrap();
        fs::write(POLICY, DOCUMENTS).unwrap();
        write_config(&format!("hook = '{hook}'"), "");
        Self { agent: None }
    }

    /// The pod, the node and the gateway have addresses of both families; the tunnel is of one.
    pub fn dual(hook: &str, underlay: Underlay) -> Self {
        let node = Self::new(hook);
        for command in [
            "sysctl -qw net.ipv6.conf.all.forwarding=1",
            "ip addr add 2001:db8:1::1/64 dev uplink nodad",
            "ip -n gateway addr add 2001:db8:1::10/64 dev eth0 nodad",
            "ip -n gateway addr add 2001:db8:1::66/64 dev eth0 nodad",
            "ip route add default via 2001:db8:1::10",
            "ip addr add fd00:244:1::1/128 dev vethpod nodad",
            "ip route add fd00:244:1::10/128 dev vethpod",
            "ip netns exec pod sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0",
            "ip -n pod addr add fd00:244:1::10/64 dev eth0 nodad",
            "ip -n pod route add default via fd00:244:1::1",
        ] {
            sh(command);
        }
        fs::write(POLICY, underlay.documents()).unwrap();
        write_config_at(underlay.node(), &format!("hook = '{hook}'"), "");
        node
    }

    pub fn start(&mut self) {
        let child = command(&["run"]).stdin(Stdio::null()).spawn().unwrap();
        self.agent = Some(child);
        wait_until("the agent is ready", || {
            let agent = self.agent.as_mut().unwrap();
            assert!(agent.try_wait().unwrap().is_none(), "the agent ended");
            get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    /// SIGKILL: it can neither clean up nor say goodbye.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.agent.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn wait_for_end(&mut self) -> Option<i32> {
        self.agent.take().unwrap().wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
        }
    }
}

pub fn write_config(attach: &str, more: &str) {
    write_config_at("192.0.2.1", attach, more);
}

pub fn write_config_at(vtep: &str, attach: &str, more: &str) {
    let text = format!(
        "[node]\nname = 'node1'\nvtep = '{vtep}'\n[attach]\ninterfaces = ['veth*']\n{attach}\n\
         [policy]\nfiles = ['{POLICY}']\n{more}"
    );
    fs::write(CONFIG, text).unwrap();
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-redirect"));
    command.args(args).args(["--config", CONFIG]);
    command
}

/// A subcommand to its end.
pub fn node_redirect(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub fn node_redirect_ok(args: &[&str]) -> String {
    let output = node_redirect(args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The agent's answer, head and all.
pub fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect("127.0.0.1:9481").ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn maps() -> Maps {
    Maps::open(Path::new(PINS)).unwrap()
}

pub fn count(reason: Reason) -> u64 {
    maps().reason(reason).unwrap()
}

pub fn wait_for_count(reason: Reason, wanted: u64) {
    wait_until(&format!("{reason:?} is counted {wanted} times"), || count(reason) >= wanted);
    assert_eq!(count(reason), wanted, "{reason:?}");
}

/// Runs in a thread of that namespace. Sockets made there stay of it.
pub fn inside<T: Send + 'static>(namespace: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        body()
    });
    thread.join().unwrap()
}

pub fn udp_socket(namespace: &str, local: &'static str) -> UdpSocket {
    udp_socket_at(namespace, local.parse().unwrap())
}

pub fn udp_socket_at(namespace: &str, local: SocketAddr) -> UdpSocket {
    let socket = inside(namespace, move || UdpSocket::bind(local).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What comes in at the gateway's interface.
#[derive(Debug)]
pub struct Wire(OwnedFd);

impl Wire {
    pub fn tap(namespace: &str) -> Self {
        const ETH_P_ALL: u16 = 3;
        let protocol = Protocol::from_raw(u32::from(ETH_P_ALL.to_be()).try_into().unwrap());
        let socket = inside(namespace, move || {
            let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
            rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK, Some(protocol)).unwrap()
        });
        Self(socket)
    }

    fn try_next(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65536];
        let (length, _) =
            rustix::net::recv(&self.0, frame.as_mut_slice(), RecvFlags::empty()).ok()?;
        frame.truncate(length);
        Some(frame)
    }

    pub fn next_tunnelled(&self) -> Outer {
        let mut found = None;
        wait_until("a tunnel packet is on the wire", || {
            found = self.try_next().and_then(|frame| parse_outer(&frame, VXLAN_PORT));
            found.is_some()
        });
        found.unwrap()
    }

    /// All that is there. Ask only when what should be last has been seen.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.try_next()).collect()
    }
}

/// Frames of any kind and length, from an interface in the namespace. Perl, as Rust's safe sockets have no link-layer addresses, and every Debian has it.
pub fn send_frames(namespace: &str, interface: &str, frames: &[Vec<u8>]) {
    const SENDER: &str = r#"
        my ($ifindex) = @ARGV;
        socket(my $s, 17, 3, 0) or die "socket: $!";
        bind($s, pack("SnlSCCa8", 17, 0, $ifindex, 0, 0, 0, "")) or die "bind: $!";
        while (<STDIN>) { chomp; defined(send($s, pack("H*", $_), 0)) or die "send: $!"; }
    "#;
    let links = sh(&format!("ip -n {namespace} -o link show dev {interface}"));
    let ifindex = links.split(':').next().unwrap();
    let mut sender = Command::new("ip")
        .args(["netns", "exec", namespace, "perl", "-e", SENDER, ifindex])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = sender.stdin.take().unwrap();
    for frame in frames {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(input, "{hex}").unwrap();
    }
    drop(input);
    assert!(sender.wait().unwrap().success());
}
