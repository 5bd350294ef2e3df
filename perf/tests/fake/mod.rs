//! Systems that are none, and a generator that is a shell script: it answers each step with what its
//! system's device is called after.

use anyhow::{Result, bail};
use perf::{
    child::Generator,
    job::{Ends, Event, FarSide, Job, Measured},
    suite::{
        Settings,
        group::{Spec, Timing},
        scenarios::Kind,
        start::Start,
    },
    system::{Sample, System},
};
use std::{
    collections::{BTreeMap, VecDeque},
    process::Command,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

pub(crate) const TSC_HZ: u64 = 2_000_000_000;
/// Of each fake system's every packet.
pub(crate) const CYCLES: u64 = 200;

/// Speaks as `perf::job` says. Drivers print where they like.
const GENERATOR: &str = r#"
    read -r job
    echo 'EAL: a driver says something'
    echo 'EAL: something else' >&2
    [ -z "$DIES" ] || { echo 'EAL: cannot have this device' >&2; exit 3; }
    echo '"ready"'
    while read -r step; do
        case "$step" in
            '"establish"') echo '{"established":{"flows":1,"seconds":0.1}}' ;;
            *capacity*) echo '{"capacity":{"opened":1000,"refused":10,"seconds":0.5}}' ;;
            *new_sessions*per_second*) [ -z "$REFUSES" ] || { echo '{"failed":"no session opens"}'; continue; }
                echo "$MEASURED" ;;
            *) [ -z "$HANGS" ] || { while :; do sleep 1; done; }
                echo '{"second":{"tx_packets":[1,2],"tx_bytes":[3,4],"rx_packets":[5,6],"rx_bytes":[7,8]}}'
                echo "$MEASURED" ;;
        esac
    done
"#;

/// What happened, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// Starts fakes.
#[derive(Default)]
pub(crate) struct Fakes {
    pub log: Log,
    /// Kinds that this machine cannot have.
    pub missing: Vec<Kind>,
    /// A variable of the generator's script, and the kind whose generator gets it.
    pub trouble: Option<(Kind, &'static str)>,
    pub wrong: u64,
    /// What the CPUs' distance is, one look after the other; then it is not known.
    pub distances: VecDeque<Option<f64>>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        generator_core: 0,
        system_core: 1,
        cpus: vec![0, 1],
        hugepages: false,
        gateway: None,
        peer: None,
        timing: Timing { repeats: 3, seconds: 1.0, warm_up: 0.1, patience: 0.5 },
        tsc_hz: TSC_HZ,
    }
}

impl Start for Fakes {
    fn system(&mut self, spec: &Spec) -> Result<Box<dyn System>> {
        let kind = spec.subject.kind;
        if self.missing.contains(&kind) {
            bail!("it is not installed");
        }
        self.log.lock().unwrap().push(format!("{} starts", kind.name()));
        let sessions = u64::from(spec.max_sessions);
        Ok(Box::new(Fake { kind, log: self.log.clone(), packets: 0, sessions }))
    }

    fn generator(&mut self, job: &Job, stop: &AtomicBool) -> Result<Generator> {
        let (tunnel, inside, workers) = match &job.ends {
            Ends::Devices { tunnel, .. } => (tunnel.as_str(), None, 1),
            Ends::Ring { .. } => ("gateway", Some(sample(1000, 10)), 1),
            Ends::Memory { worker_cores, .. } => {
                ("gateway", Some(sample(1000, 10)), worker_cores.len() as u64)
            }
        };
        // Others than these are half as fast as the generator can send.
        let received = match job.far_side {
            FarSide::Wire | FarSide::Router => 10_000_000,
            FarSide::Nat => 5_000_000 * workers,
        };
        let measured = Measured {
            seconds: 1.0,
            tsc_hz: TSC_HZ,
            sent: [received, 0],
            received: [received, 0],
            received_bytes: [received * 64, 0],
            wrong: self.wrong,
            inside,
            ..Measured::default()
        };
        let mut command = Command::new("sh");
        command.args(["-c", GENERATOR]);
        command.env("MEASURED", serde_json::to_string(&Event::Measured(measured.into())).unwrap());
        if let Some((kind, variable)) = self.trouble
            && kind.name() == tunnel
        {
            command.env(variable, "1");
        }
        Generator::start(command, job, stop)
    }

    fn distance(&mut self) -> Option<f64> {
        let distance = self.distances.pop_front().flatten()?;
        self.log.lock().unwrap().push(format!("CPUs are at {distance}"));
        Some(distance)
    }
}

struct Fake {
    kind: Kind,
    log: Log,
    packets: u64,
    sessions: u64,
}

impl Fake {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{} {what}", self.kind.name()));
    }
}

impl System for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn devices(&self) -> ([String; 2], Vec<String>) {
        ([self.kind.name().to_owned(), "external".to_owned()], Vec::new())
    }

    fn ready(&mut self) -> Result<()> {
        self.note("is ready");
        Ok(())
    }

    /// Only a gateway tells.
    fn sample(&mut self) -> Result<Option<Sample>> {
        self.packets += 1000;
        Ok(self.kind.is_gateway().then(|| sample(self.packets, self.sessions)))
    }

    fn pause(&mut self) -> Result<()> {
        self.note("pauses");
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        self.note("resumes");
        Ok(())
    }

    fn flush(&mut self) -> Result<Option<f64>> {
        self.note("is flushed");
        Ok(Some(0.5))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.note("ends");
    }
}

fn sample(packets: u64, sessions: u64) -> Sample {
    Sample {
        busy_cycles: packets * CYCLES,
        packets,
        turns: packets / 32,
        stages: BTreeMap::from([("rewrite".to_owned(), packets * 40)]),
        turn_cycles: vec![(4096, packets / 32)],
        sessions,
        sessions_created: packets / 10,
        sessions_ended: 0,
        session_bytes: sessions * 128,
        drops: BTreeMap::new(),
    }
}
