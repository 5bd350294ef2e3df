//! Where steering is read: it comes, changes and goes, and is sometimes wrong.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use gateway::nat::Protocol;

use super::model::*;
use super::*;
use crate::common::frame;
use crate::common::in_private_namespaces;
use crate::{POD, WORLD};

/// Without its prefix.
const LAST_ANSWER: &str = "steering_last_answer_timestamp_seconds";

#[test]
fn steering_comes_changes_and_goes_while_a_flow_lives() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", FROM_FILE);
        node.start();
        let wire = Wire::tap("gateway");
        let pod = udp_socket("pod", "10.244.1.10:4000");
        let kind = Kind::Flow(Protocol::Udp, 4000, 53);
        let flow = Sent { packet: frame::udp(POD, WORLD, 4000, 53), kind };
        let port = || {
            let twice = [0; 2].map(|_| {
                pod.send_to(b"data", (WORLD, 53)).unwrap();
                wire.next_tunnelled()
            });
            assert_eq!(twice[0].sport, twice[1].sport, "one flow, one source port");
            twice[0].clone()
        };
        let spread = port().sport;
        assert_eq!(metrics(), [0, 0]);
        let mut random = Random(0x5eed_0003);
        let mut seen = BTreeSet::from([spread]);
        let put_and_wait = |text: &str| {
            let before = generation();
            put(text);
            wait_until("it is in force", || generation() != before);
        };
        for _ in 0..4 {
            let gateway = Gateway::new(&mut random, 8, 128);
            put_and_wait(&gateway.json());
            assert_eq!(gateway.receiver_of(&port()), gateway.owner_of(&flow));
            seen.insert(port().sport);
            assert_eq!(metrics(), [1, 1]);
        }
        assert!(seen.len() > 3, "{seen:?}");
        let status = status_line();
        let chosen = "steering gw-a: outer source ports are chosen; its last good answer is ";
        assert!(status.contains(chosen) && !status.contains("stale"), "{status}");

        let (chosen_port, chosen_at) = (port().sport, metric(LAST_ANSWER));
        assert_ne!(chosen_at, 0);
        put("{ \"workers\": [");
        wait_until_stale("gw-a.steering.json is not what a gateway answers at /v1/steering: EOF");
        assert_eq!((port().sport, metric(LAST_ANSWER)), (chosen_port, chosen_at), "as before");
        let status = status_line();
        assert!(status.contains(chosen) && status.contains(" s old; stale: "), "{status}");
        let later = Gateway::new(&mut random, 2, 128).json();
        put_and_wait(&later.replace("\"handoff\"", "\"telepathy\""));
        wait_for("its steering is in a mode that this version does not know");
        assert_eq!((port().sport, metrics()), (spread, [0, 1]), "as without");
        put_and_wait(&Gateway::new(&mut random, 2, 128).json());
        put_and_wait(&Gateway::new(&mut random, 1, 128).json());
        wait_for("it has one worker");
        assert_eq!((port().sport, metrics()), (spread, [0, 1]), "nothing is wrong with that");
        let status = status_line();
        assert!(status.contains("gw-a: outer source ports are spread: it has one"), "{status}");

        let gateway = Gateway::new(&mut random, 2, 128);
        put_and_wait(&gateway.json());
        node.kill();
        assert_eq!(gateway.receiver_of(&port()), gateway.owner_of(&flow), "without an agent");
        node.start();
        assert_eq!(gateway.receiver_of(&port()), gateway.owner_of(&flow), "with the next one");
        let chosen_port = port().sport;
        fs::remove_file(FILE).unwrap();
        wait_until_stale("cannot read /run/gw-a.steering.json");
        assert_eq!(port().sport, chosen_port);
        node.kill();
        node.start();
        wait_until_stale("cannot read /run/gw-a.steering.json");
        assert_eq!(port().sport, chosen_port, "the maps have it from the agent before");
        assert_eq!(metric(LAST_ANSWER), 0, "of another agent's, no date is known");
        node.kill();
        write_config("", "");
        node.start();
        assert_eq!(port().sport, spread, "nor does it stay when it is not configured any more");
        assert_eq!(state()["reason"], "steering.sources does not name it");
    });
}

/// Without its columns and line breaks.
fn status_line() -> String {
    let text = node_redirect_ok(&["status"]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Answers each request with what `answer` has, for as long as there is something.
fn serve(answer: Arc<Mutex<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:9480").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /v1/steering HTTP/1.1"));
            let Some(text) = answer.lock().unwrap().clone() else { continue };
            write!(stream, "HTTP/1.1 {text}").unwrap();
        }
    });
}

#[test]
fn an_api_is_asked_again_and_again() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        write_config("", "[steering]\nsources = {gw-a = 'http://127.0.0.1:9480'}\ninterval = 1");
        node.start();
        wait_for("nobody answers at http://127.0.0.1:9480");
        assert_eq!(metrics(), [0, 0]);
        let mut random = Random(0x5eed_0006);
        let answer = Arc::default();
        serve(Arc::clone(&answer));
        let say = |text: Option<String>| *answer.lock().unwrap() = text;
        let ok =
            |body: &str| Some(format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let wire = Wire::tap("gateway");
        for _ in 0..2 {
            let gateway = Gateway::new(&mut random, 4, 128);
            let before = generation();
            say(ok(&gateway.json()));
            wait_until("it is in force", || generation() != before);
            let sent: Vec<Sent> = (0..4).flat_map(|_| packets(&mut random, false)).collect();
            for (sent, outer) in send(&wire, &sent) {
                assert_eq!(gateway.receiver_of(&outer), gateway.owner_of(sent), "{sent:?}");
            }
            assert_eq!(metrics(), [1, 1]);
            let answered_at = metric(LAST_ANSWER);
            wait_until("the same answer again is dated again", || {
                metric(LAST_ANSWER) > answered_at
            });
            let in_force = generation();
            say(Some("404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()));
            wait_until_stale("http://127.0.0.1:9480/v1/steering answers 404");
            say(None);
            wait_until_stale("http://127.0.0.1:9480: ");
            assert_eq!(generation(), in_force, "no flow was decided anew");
            for (sent, outer) in send(&wire, &sent) {
                assert_eq!(gateway.receiver_of(&outer), gateway.owner_of(sent), "{sent:?}");
            }
        }
    });
}

#[test]
fn check_judges_what_sources_hold() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        let check = |config: &str| {
            write_config("", config);
            let output = node_redirect(&["check"]);
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let good = Gateway::new(&mut Random(0x5eed_0007), 4, 128);
        put(&good.json());
        assert_eq!(check(FROM_FILE), (Some(0), String::new()));
        let mut alone = good.report.clone();
        alone.ports[1].rss = None;
        let told = good.json();
        for (text, code, wanted) in [
            (
                told.replace("egress-shard-1", "egress-shard-2"),
                2,
                "\"egress-shard-2\", and this version knows",
            ),
            (told.replace("\"map\": [\n      0,", "\"map\": ["), 2, "255 entries: 256 are wanted"),
            (told.replace("\"id\": 0", "\"id\": -1"), 2, "is not what a gateway answers"),
            (
                told.replace("\"queue\": 3", "\"queue\": 9"),
                2,
                "names queue 3, which no worker polls",
            ),
            ("<html>".to_owned(), 2, "line 1 column 1"),
            (serde_json::to_string(&alone).unwrap(), 0, "spread: its tunnel port has no RSS"),
        ] {
            assert_ne!(text, told);
            put(&text);
            let (exit, error) = check(FROM_FILE);
            assert_eq!(exit, Some(code), "{error}");
            let places = [wanted, "steering.sources \"gw-a\"", if code == 2 { FILE } else { "" }];
            assert!(places.iter().all(|place| error.contains(place)), "{places:?}: {error}");
        }
        fs::remove_file(FILE).unwrap();
        let (exit, error) = check(FROM_FILE);
        assert!(
            exit == Some(2) && error.contains("cannot read /run/gw-a.steering.json"),
            "{error}"
        );
        let (exit, error) = check("[steering]\nsources = {gw-a = 'http://127.0.0.1:9480'}");
        assert!(exit == Some(0) && error.contains("nobody answers at"), "{error}");
        put(&told);
        let (exit, error) = check(&FROM_FILE.replace("gw-a =", "gw-x ="));
        assert!(
            exit == Some(0) && error.contains("\"gw-x\": there is no EgressGateway"),
            "{error}"
        );
    });
}
