//! Outer source ports that bring each packet to the worker which owns its flow. What a gateway would do is computed by the gateway's own
//! code; frames come from the pod's interface and are judged as they are on the wire.

use std::fs;

use crate::common::node::*;

mod model;
mod packets;
mod sources;

const FILE: &str = "/run/gw-a.steering.json";
const FROM_FILE: &str = "[steering]\nsources = {gw-a = '/run/gw-a.steering.json'}";

fn put(text: &str) {
    fs::write(format!("{FILE}.new"), text).unwrap();
    fs::rename(format!("{FILE}.new"), FILE).unwrap();
}

fn generation() -> u32 {
    maps().settings().unwrap().generation
}

/// The agent's own view of the first gateway.
fn state() -> serde_json::Value {
    let answer = get("/v1/status").unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    status["steering"][0].clone()
}

fn wait_for(reason: &str) {
    wait_until(&format!("it is told why ports are spread: {reason}"), || {
        state()["reason"].as_str().is_some_and(|told| told.contains(reason))
    });
    assert_eq!(state()["portsChosen"], false);
}

/// The source cannot be used, and ports stay chosen by what it told before.
fn wait_until_stale(problem: &str) {
    wait_until(&format!("it is told what is wrong with the source: {problem}"), || {
        state()["problem"].as_str().is_some_and(|told| told.contains(problem))
    });
    let state = state();
    assert_eq!((&state["portsChosen"], &state["sourceValid"]), (&true.into(), &false.into()));
    assert_eq!(metrics(), [1, 0]);
}

fn metrics() -> [i64; 2] {
    ["steering", "steering_source_valid"].map(metric)
}

fn metric(name: &str) -> i64 {
    let text = get("/metrics").unwrap();
    let name = format!("node_redirect_{name}{{gateway=\"gw-a\"}} ");
    let line = text.lines().find(|line| line.starts_with(&name)).unwrap();
    line[name.len()..].parse().unwrap()
}
