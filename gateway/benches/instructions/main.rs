//! How many instructions four fixed bursts take, counted by callgrind: `./dev test` holds them to
//! within 5 % of the committed figures, whatever else the machine does meanwhile.
//!
//! Run without arguments it runs itself under valgrind once per burst and compares; with `--accept` it
//! writes what it counted as the new figures. Counts depend on the compiler, so a new one may ask for
//! that; anything else that moves them wants a reason.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should panic")]

#[allow(dead_code, reason = "the other bench uses all of it")]
#[path = "../nat/world/mod.rs"]
mod world;

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};
use world::{BURST, Flow, Flows, World};

const FLOWS: u32 = 1000;
const TURNS: u64 = 64;
const TOLERANCE: f64 = 0.05;

/// Each burst: its name, and how its packets are put on a port.
type Fill = fn(&mut World, u32);
const BURSTS: [(&str, Fill); 4] = [
    ("in2out_hit", |world, i| world.receive_in2out(&world.flows.get(i * 31 % FLOWS))),
    ("out2in_hit", |world, i| world.receive_out2in(i * 31 % FLOWS)),
    ("new_session", |world, i| world.receive_in2out(&Flow::number(FLOWS + i))),
    // A scan of the egress IPs.
    ("no_session", |world, i| world.receive_stranger(i)),
];

/// Callgrind counts while this runs, and only then.
#[inline(never)]
fn counted_turn(world: &mut World) {
    world.worker.poll_once(&mut world.io, world.now);
}

fn run(fill: Fill) {
    let mut world = World::new(Flows::Numbered(FLOWS));
    for turn in 0..TURNS as u32 {
        (0..BURST as u32).for_each(|i| fill(&mut world, turn * BURST as u32 + i));
        counted_turn(&mut world);
        world.take_back();
    }
}

/// Instructions per packet.
fn count(name: &str) -> f64 {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let out = folder.join(format!("callgrind.{name}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_turn*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().unwrap())
        .args(["--run", name])
        .output()
        .expect("valgrind must be installed (./dev setup)");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "valgrind failed:\n{log}");
    let text = fs::read_to_string(out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    total.trim().parse::<f64>().unwrap() / (TURNS * BURST as u64) as f64
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let accept = match arguments.as_slice() {
        ["--run", name] => return run(BURSTS.iter().find(|(known, _)| known == name).unwrap().1),
        ["--accept"] => true,
        [] => false,
        other => panic!("what is {other:?}? Nothing or --accept is wanted"),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/expected.toml");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let expected: BTreeMap<String, f64> = toml::from_str(&text).unwrap();
    let mut lines = "# Instructions per packet, counted by callgrind: see main.rs.\n".to_owned();
    let mut moved = Vec::new();
    for (name, _) in BURSTS {
        let counted = count(name);
        let was = expected.get(name).copied().unwrap_or(f64::NAN);
        let change = counted / was - 1.0;
        let percent = change * 100.0;
        println!("{name:<12} {counted:>7.1} per packet, expected {was:>7.1} ({percent:+.1} %)");
        lines += &format!("{name} = {counted:.1}\n");
        // False for a figure that is missing, too.
        let holds = change.abs() <= TOLERANCE;
        if !holds {
            moved.push(name);
        }
    }
    if accept {
        fs::write(&file, lines).unwrap();
    } else if !moved.is_empty() {
        eprintln!(
            "error: {} moved by more than 5 %. If that is meant, run\n\
             cargo bench -p gateway --bench instructions -- --accept\n\
             and say in the commit why.",
            moved.join(", ")
        );
        std::process::exit(1);
    }
}
