use super::*;

const OLD: &str = include_str!("../../tests/data/old.json");
const NEW: &str = include_str!("../../tests/data/new.json");

fn results(text: &str) -> Results {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_measurement_of_either_is_marked() {
    let compared = compare(&results(OLD), &results(NEW), 0.05);
    let told: Vec<_> = compared
        .iter()
        .map(|of| {
            let scenario = of.run.split(", ").nth(1).unwrap();
            (scenario, of.of.as_str(), of.ratio, of.overlap, of.mark)
        })
        .collect();
    assert_eq!(
        told,
        [
            // 200 cycles (198–204) to 180 (178–181).
            ("throughput", "cycles_per_packet", Some(0.9), Some(false), Mark::Better),
            // 1.6 M/s (1.55–1.7) to 1.2 (1.1–1.3).
            ("new sessions", "sessions_per_second", Some(0.75), Some(false), Mark::Worse),
            // 20 µs (15–30) to 25 (18–40).
            ("latency at 50 %", "latency_us.p99", Some(1.25), Some(true), Mark::Same),
            // 4.0 Mpps to 4.1: apart, but within the tolerance.
            ("ndr", "mpps", Some(1.025), Some(false), Mark::Same),
            // Cycles in the old, packets in the new: 0.5 to 0.6 Mpps.
            ("throughput with zero checksums", "mpps", Some(1.2), Some(false), Mark::Better),
            ("capacity", "sessions", None, None, Mark::OnlyInOld),
            // One worker as before, two from 39 Mpps (38–40) to 30 (29–31).
            ("scaling", "mpps", Some(1.0), Some(true), Mark::Same),
            ("scaling", "mpps", Some(30.0 / 39.0), Some(false), Mark::Worse),
            ("churn", "turn_p999_us", None, None, Mark::OnlyInNew),
        ]
    );
    let wide = compare(&results(OLD), &results(NEW), 0.3);
    assert!(wide.iter().all(|of| !matches!(of.mark, Mark::Better | Mark::Worse)), "{wide:?}");
    assert!(compare(&results(OLD), &results(OLD), 0.0).iter().all(|of| of.mark == Mark::Same));
}
