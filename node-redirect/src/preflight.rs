//! What must hold before anything is set up: privileges, a bpf file system, and no other agent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, mount};

const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const USUAL_BPF_FS: &str = "/sys/fs/bpf";

/// Held for as long as the agent runs. The kernel gives it up with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

/// Changes nothing.
pub fn check(pin_path: &Path) -> Result<()> {
    check_capabilities()?;
    if is_locked(pin_path) {
        return Err(another_runs(pin_path));
    }
    Ok(())
}

pub fn take(pin_path: &Path) -> Result<Lock> {
    ensure_bpf_fs(pin_path)?;
    fs::create_dir_all(pin_path).with_context(|| format!("cannot make {}", pin_path.display()))?;
    lock(pin_path)
}

/// For `cleanup`: an agent that still runs would attach again what is taken away.
pub fn lock(pin_path: &Path) -> Result<Lock> {
    let folder = File::open(pin_path).with_context(|| pin_path.display().to_string())?;
    if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(another_runs(pin_path));
    }
    Ok(Lock { _folder: folder })
}

fn another_runs(pin_path: &Path) -> anyhow::Error {
    anyhow!(
        "another node-redirect is running with bpf.pin_path {}: stop it first",
        pin_path.display()
    )
}

pub fn is_locked(pin_path: &Path) -> bool {
    File::open(pin_path)
        .is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockShared).is_err())
}

pub fn check_capabilities() -> Result<()> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const BPF: u32 = 39;
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    if has(NET_ADMIN) && (has(BPF) || has(SYS_ADMIN)) {
        return Ok(());
    }
    bail!(
        "not permitted: run as root, or with CAP_BPF and CAP_NET_ADMIN (and CAP_SYS_ADMIN where a bpf file system must be mounted)"
    );
}

/// Mounts the usual one when it is missing. Anywhere else, whether a mount stays is for the operator to see to.
fn ensure_bpf_fs(pin_path: &Path) -> Result<()> {
    if is_on_bpf_fs(pin_path) {
        return Ok(());
    }
    if !pin_path.starts_with(USUAL_BPF_FS) {
        bail!(
            "bpf.pin_path {} is not on a bpf file system: mount one there (`mount -t bpf bpf DIRECTORY`)",
            pin_path.display()
        );
    }
    mount("bpf", USUAL_BPF_FS, "bpf", MountFlags::empty(), None).with_context(|| {
        format!("cannot mount a bpf file system: `mount -t bpf bpf {USUAL_BPF_FS}` as root")
    })
}

fn is_on_bpf_fs(path: &Path) -> bool {
    let existing: Option<PathBuf> = path.ancestors().find(|path| path.exists()).map(Into::into);
    existing.and_then(|path| statfs(&path).ok()).is_some_and(|fs| fs.f_type as u64 == BPF_FS_MAGIC)
}
