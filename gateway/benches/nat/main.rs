#![allow(unreachable_pub)]
mod world;
use world::*;

fn main() {
    for flows in std::env::var("F").map_or(vec![1u32, 10_000, 1_000_000], |f| vec![f.parse().unwrap()]) {
        let mut w = World::new(flows, flows.max(1000), 16_384); println!("{:?}", w.worker.nat().memory()); empty(&mut w);
        for cold in [false, true] {
            for dir in ["in2out", "out2in"] { if let Ok(o) = std::env::var("ONLY") { if o != format!("{dir}{}", u8::from(cold)) { continue } }
                let per_round = if cold { 300 } else { 1 };
                let mut samples = vec![];
                let mut k = 0u64;
                for round in 0..(if cold { 40 } else if std::env::var("ONLY").is_ok() { std::env::var("N").map_or(200_000, |n| n.parse().unwrap()) } else { 6000 }) {
                    for _ in 0..per_round * BURST {
                        let i = (mix(k) % u64::from(flows)) as u32;
                        k += 1;
                        if dir == "in2out" { w.receive_in2out(&Flow::number(i)) } else { w.receive_out2in(i) }
                    }
                    for _ in 0..per_round {
                        let c = w.timed_turn();
                        if round > 5 { samples.push(c as f64 / 32.0); }
                    }
                    w.take_back();
                }
                samples.sort_by(f64::total_cmp);
                println!("{dir} flows {flows} cold {cold}: min {:.1} median {:.1} mean {:.1} p99 {:.1}", samples[0], samples[samples.len()/2], samples.iter().sum::<f64>() / samples.len() as f64, samples[samples.len()*99/100]);
            }
        }
    }
}
#[allow(dead_code)]
pub fn empty(w: &mut World) { let mut v=vec![]; for _ in 0..20000 { let s=gateway::tsc::cycles(); w.worker.poll_once(&mut w.io, w.now); v.push(gateway::tsc::cycles()-s); } v.sort(); println!("empty turn median {} min {}", v[10000], v[0]); }
