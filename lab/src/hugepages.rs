//! Hugepages for the gateway. The pool belongs to the whole machine, so the lab only lends an allowance: surplus pages, which the kernel
//! makes when DPDK maps them and takes back when its process dies, however it dies.
//!
//! Several labs may run at once: each holds a shared lock, and whoever can make it exclusive at its end was the last and restores the value.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

const SURPLUS: &str = "/proc/sys/vm/nr_overcommit_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const LOCK: &str = "/run/lock/egress-gateway-lab.hugepages";

/// 2 MiB pages. An upper bound, nothing is reserved by it.
const WANTED: u64 = 1024;

#[derive(Debug)]
pub struct Allowance {
    lock: Option<Flock<File>>,
}

impl Allowance {
    /// Makes sure that 2 MiB pages can be had. Must be called while /run is still the machine's.
    pub fn take() -> Result<Self> {
        if read(FREE)? >= WANTED {
            return Ok(Self { lock: None });
        }
        if let Some(folder) = Path::new(LOCK).parent() {
            fs::create_dir_all(folder)?;
        }
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(LOCK)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut alone) => {
                // a value in the file was left by a lab that could not clean up: it is older than what is set now
                if stored(&mut alone)?.is_none() {
                    store(&mut alone, &read(SURPLUS)?.to_string())?;
                }
                alone
            }
            Err((file, _)) => {
                Flock::lock(file, FlockArg::LockShared).map_err(|(_, errno)| errno).context(LOCK)?
            }
        };
        if read(SURPLUS)? < WANTED {
            fs::write(SURPLUS, WANTED.to_string()).with_context(|| format!("writing {SURPLUS}"))?;
        }
        lock.relock(FlockArg::LockShared).context(LOCK)?;
        Ok(Self { lock: Some(lock) })
    }

    /// Restores the machine's own value if this was the last lab.
    pub fn give_back(self) -> Result<()> {
        let Some(mut lock) = self.lock else { return Ok(()) };
        if lock.relock(FlockArg::LockExclusiveNonblock).is_err() {
            return Ok(());
        }
        if let Some(before) = stored(&mut lock)? {
            fs::write(SURPLUS, before.to_string())?;
            store(&mut lock, "")?;
        }
        Ok(())
    }
}

fn read(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.trim().parse().with_context(|| format!("{path} holds {text:?}"))
}

fn stored(file: &mut File) -> Result<Option<u64>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

fn store(file: &mut File, text: &str) -> Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    Ok(file.write_all(text.as_bytes())?)
}
