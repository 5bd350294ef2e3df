//! The agent's API: where it may be, what it refuses, and whom it answers while others are idle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::common::node::*;
use crate::common::{in_private_namespaces, sh};

const SOCKET: &str = "/run/node-redirect.sock";

fn ask(request: &str) -> (String, serde_json::Value) {
    let mut stream = TcpStream::connect("127.0.0.1:9481").unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
}

#[test]
fn what_the_api_does_not_know_is_told_in_json() {
    in_private_namespaces(|| {
        let mut node = Node::new("auto");
        node.start();
        let (head, body) = ask("GET /v1/sessions");
        assert!(head.starts_with("http/1.1 404") && head.contains("application/json"), "{head}");
        assert_eq!(body["error"], "there is no /v1/sessions");
        assert!(body["hint"].as_str().unwrap().contains("/v1/map"), "{body}");
        let (head, body) = ask("DELETE /v1/map");
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get,head"), "{head}");
        assert_eq!(body["error"], "/v1/map does not take DELETE");

        // More than are served at a time, none of which ever asks.
        let idle: Vec<TcpStream> =
            (0..400).map(|_| TcpStream::connect("127.0.0.1:9481").unwrap()).collect();
        assert!(node_redirect_ok(&["status"]).contains("agent        ready"));
        let (head, body) = ask("GET /v1/status");
        assert!(head.starts_with("http/1.1 200") && body["ready"] == true, "{head} {body}");
        drop(idle);
    });
}

#[test]
fn the_api_may_be_a_socket_file_and_no_address_of_the_node() {
    in_private_namespaces(|| {
        let _node = Node::new("auto");
        for listen in ["0.0.0.0:9481", "192.0.2.1:9481"] {
            write_config("", &format!("[api]\nlisten = '{listen}'"));
            for command in ["run", "check"] {
                let output = node_redirect(&[command]);
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(2), "{error}");
                assert!(error.contains("is not a loopback address"), "{error}");
            }
        }
        write_config("", &format!("[api]\nlisten = 'unix:{SOCKET}'"));
        let mut agent = Command::new(env!("CARGO_BIN_EXE_node-redirect"))
            .args(["run", "--config", CONFIG])
            .spawn()
            .unwrap();
        let mut answer = String::new();
        wait_until("the agent is ready", || {
            let Ok(mut stream) = UnixStream::connect(SOCKET) else { return false };
            let asked =
                stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            answer.clear();
            asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok()
                && answer.starts_with("HTTP/1.1 200")
        });
        assert!(node_redirect_ok(&["status"]).contains("agent        ready"));
        sh(&format!("kill -TERM {}", agent.id()));
        assert!(agent.wait().unwrap().success());
        assert!(!Path::new(SOCKET).exists());
        assert!(node_redirect_ok(&["status"]).contains("not running"));
    });
}
