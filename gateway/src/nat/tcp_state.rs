//! TCP as a table: state × direction × what the segment says → state.
//!
//! The translator follows a connection only as far as timeouts need it. It never judges a segment:
//! whatever the table says, the segment is translated and sent on.

use super::{
    Direction,
    session::SessionState::{
        self, TcpAnswered, TcpClosedByPod, TcpClosedByRemote, TcpEstablished, TcpOpening, TcpReset,
        TcpTimeWait,
    },
};
use crate::wire::tcp::{ACK, FIN, RST, SYN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Syn,
    SynAck,
    /// Payload, and none of SYN, FIN, RST.
    Data,
    /// None of those.
    Ack,
    Fin,
    Rst,
}

impl Segment {
    fn of(flags: u8, has_payload: bool) -> Self {
        match flags {
            f if f & RST != 0 => Segment::Rst,
            f if f & SYN != 0 && f & ACK != 0 => Segment::SynAck,
            f if f & SYN != 0 => Segment::Syn,
            f if f & FIN != 0 => Segment::Fin,
            _ if has_payload => Segment::Data,
            _ => Segment::Ack,
        }
    }
}

/// The state after a segment. States that are not TCP's stay as they are.
pub(super) fn next(
    state: SessionState,
    direction: Direction,
    flags: u8,
    has_payload: bool,
) -> SessionState {
    let segment = Segment::of(flags, has_payload);
    match direction {
        Direction::In2out => from_pod(state, segment),
        Direction::Out2in => from_remote(state, segment),
    }
}

/// What the pod sends is beyond doubt: its node vouches for it.
fn from_pod(state: SessionState, segment: Segment) -> SessionState {
    match (state, segment) {
        // A pod may use the same l4_port again at once; its SYN starts the session's life anew.
        (TcpTimeWait | TcpReset, Segment::Syn) => TcpOpening,
        (_, Segment::Rst) => TcpReset,
        // RFC 5382 REQ-5: established once the handshake is complete, which the pod's ACK says.
        (TcpAnswered, Segment::Ack | Segment::Data) => TcpEstablished,
        // Data after a RST or FIN from outside shows that the pod still lives in its connection:
        // whoever sent that from off the path has torn nothing down.
        (TcpReset | TcpClosedByRemote, Segment::Data) => TcpEstablished,
        (TcpClosedByRemote, Segment::Fin) => TcpTimeWait,
        (TcpOpening | TcpAnswered | TcpEstablished, Segment::Fin) => TcpClosedByPod,
        (unchanged, _) => unchanged,
    }
}

/// What comes from the world may be forged: it never lengthens a session's life beyond what the
/// pod's own next segment would.
fn from_remote(state: SessionState, segment: Segment) -> SessionState {
    match (state, segment) {
        // A bare SYN is the other half of a simultaneous open (RFC 5382 REQ-2).
        (TcpOpening, Segment::SynAck | Segment::Syn) => TcpAnswered,
        (TcpTimeWait, _) => TcpTimeWait,
        // RFC 7857 section 2.2: translate a RST, keep the session for the transitory timeout.
        (_, Segment::Rst) => TcpReset,
        (TcpClosedByPod, Segment::Fin) => TcpTimeWait,
        (TcpOpening | TcpAnswered | TcpEstablished, Segment::Fin) => TcpClosedByRemote,
        (unchanged, _) => unchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{In2out, Out2in};

    fn play(start: SessionState, segments: &[(Direction, u8, bool)]) -> SessionState {
        segments.iter().fold(start, |state, (direction, flags, payload)| {
            next(state, *direction, *flags, *payload)
        })
    }

    #[test]
    fn lives() {
        let established = [(Out2in, SYN | ACK, false), (In2out, ACK, false)];
        type Life = (&'static str, SessionState, Vec<(Direction, u8, bool)>, SessionState);
        let cases: &[Life] = &[
            ("handshake", TcpOpening, established.to_vec(), TcpEstablished),
            (
                "a forged SYN-ACK alone is not established",
                TcpOpening,
                vec![(Out2in, SYN | ACK, false), (Out2in, ACK, true)],
                TcpAnswered,
            ),
            (
                "simultaneous open",
                TcpOpening,
                vec![(Out2in, SYN, false), (In2out, SYN | ACK, false), (In2out, ACK, false)],
                TcpEstablished,
            ),
            (
                "pod closes first",
                TcpEstablished,
                vec![
                    (In2out, FIN | ACK, false),
                    (Out2in, ACK, false),
                    (Out2in, FIN | ACK, false),
                    (In2out, ACK, false),
                ],
                TcpTimeWait,
            ),
            (
                "remote closes first",
                TcpEstablished,
                vec![
                    (Out2in, FIN | ACK, false),
                    (In2out, ACK, false),
                    (In2out, FIN | ACK, false),
                    (Out2in, ACK, false),
                ],
                TcpTimeWait,
            ),
            (
                "half-closed by the pod, the remote goes on",
                TcpEstablished,
                vec![(In2out, FIN | ACK, false), (Out2in, ACK, true)],
                TcpClosedByPod,
            ),
            (
                "off-path RST, the pod goes on",
                TcpEstablished,
                vec![(Out2in, RST, false), (In2out, ACK, true)],
                TcpEstablished,
            ),
            (
                "off-path FIN, the pod goes on",
                TcpEstablished,
                vec![(Out2in, FIN | ACK, false), (In2out, ACK, false), (In2out, ACK, true)],
                TcpEstablished,
            ),
            (
                "RST, silence",
                TcpEstablished,
                vec![(Out2in, RST, false), (In2out, ACK, false)],
                TcpReset,
            ),
            ("remote data does not revive", TcpReset, vec![(Out2in, ACK, true)], TcpReset),
            ("pod RST", TcpEstablished, vec![(In2out, RST | ACK, false)], TcpReset),
            ("l4_port used again", TcpTimeWait, vec![(In2out, SYN, false)], TcpOpening),
            ("old RST in TIME_WAIT", TcpTimeWait, vec![(Out2in, RST, false)], TcpTimeWait),
            ("refused", TcpOpening, vec![(Out2in, RST | ACK, false)], TcpReset),
        ];
        for (description, start, segments, end) in cases {
            assert_eq!(play(*start, segments), *end, "{description}");
        }
    }
}
