//! What a restart comes up with: the accepted policy sets, and the seed of the shard hash.
//!
//! ```text
//! state_dir/
//!   accepted.json             which sets were accepted, the one in force first
//!   sets/0000000042.yaml      the last 20 of them, as they were sent
//!   shard-seed.json
//! ```
//!
//! A file comes into being by write, fsync and rename, so a crash leaves the old one or the new one.
//! One that is not what was written (another version of the program, a bad disk) is never obeyed: it
//! is moved aside under a name of its own, for whoever wants to look.

mod sets;

pub(crate) use sets::read_set;
pub use sets::{KEPT, KeptSets, Opened, SetFormat, SetRecord};

use crate::datapath::steering::ShardSeed;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const SEED: &str = "shard-seed.json";
const SEED_VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptSeed {
    version: u32,
    seed: String,
}

/// The directory `[policy] state_dir`.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Held by the process that the directory belongs to. A directory that was made for it and where
/// nothing was kept goes with it.
#[derive(Debug)]
pub struct StateLock {
    /// The lock is held while it is open.
    _directory: File,
    made: Option<PathBuf>,
}

impl Drop for StateLock {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Fails where it is not empty.
            let _ = fs::remove_dir(path);
        }
    }
}

/// A file that was moved aside.
#[derive(Debug)]
pub struct SetAside {
    /// Why it is not obeyed, with its name.
    pub reason: io::Error,
    pub moved_to: PathBuf,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; it was moved to {}", self.reason, self.moved_to.display())
    }
}

impl StateDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        StateDir(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the directory for this process, and makes it where it is missing. Two gateways that
    /// write to one directory would each restart with the other's policies.
    pub fn lock(&self) -> io::Result<StateLock> {
        let lock = || {
            let made = (!self.0.exists()).then(|| self.0.clone());
            fs::create_dir_all(&self.0)?;
            let directory = File::open(&self.0)?;
            directory.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another egress-gateway uses it: give each a state_dir of its own",
                ),
                TryLockError::Error(error) => error,
            })?;
            Ok(StateLock { _directory: directory, made })
        };
        lock().map_err(|error| about(&self.0, "cannot be used as state_dir", error))
    }

    /// What the shard hash of this gateway is keyed by; `None` before it was kept, and when what was
    /// kept cannot be used and was moved aside.
    pub fn shard_seed(&self) -> io::Result<(Option<ShardSeed>, Option<SetAside>)> {
        match self.read_shard_seed() {
            Ok(seed) => Ok((seed, None)),
            Err(reason) => Ok((None, Some(self.set_aside(SEED, reason)?))),
        }
    }

    /// Keeps it over restarts.
    pub fn keep_shard_seed(&self, seed: ShardSeed) -> io::Result<()> {
        self.replace(SEED, &KeptSeed { version: SEED_VERSION, seed: seed.to_string() })
    }

    fn read_shard_seed(&self) -> io::Result<Option<ShardSeed>> {
        let Some(text) = self.read(SEED)? else { return Ok(None) };
        let file = self.0.join(SEED);
        let kept: KeptSeed = decode(&file, &text, SEED_VERSION, "is not a shard seed")?;
        kept.seed.parse().map(Some).map_err(|error| {
            about(&file, "cannot be used", io::Error::new(io::ErrorKind::InvalidData, error))
        })
    }

    /// The bytes of a file; `None` where there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = self.0.join(name);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(about(&file, "cannot be read", error)),
        }
    }

    /// Replaces a file of JSON. After `Ok` a crash of the machine keeps the new one; after an error, or
    /// a crash in between, the old one is whole.
    fn replace(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let file = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0)?;
            write_through(&new, &serde_json::to_vec(content)?)?;
            fs::rename(&new, &file)?;
            sync_directory(&self.0)
        };
        write().map_err(|error| {
            // On a full disk its remains would be in the way of the next attempt.
            let _ = fs::remove_file(&new);
            about(&file, "cannot be written", error)
        })
    }

    /// Moves a file out of the way, as `name.refused-` and the seconds since 1970.
    fn set_aside(&self, name: &str, reason: io::Error) -> io::Result<SetAside> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let moved_to = self.0.join(format!("{name}.refused-{}", since_1970.as_secs()));
        fs::rename(self.0.join(name), &moved_to).map_err(|error| {
            io::Error::new(error.kind(), format!("{reason}; and it cannot be moved aside: {error}"))
        })?;
        Ok(SetAside { reason, moved_to })
    }
}

/// JSON of a version that this program reads.
fn decode<T: DeserializeOwned>(
    file: &Path,
    text: &[u8],
    version: u32,
    wrong: &str,
) -> io::Result<T> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head =
        serde_json::from_slice(text).map_err(|error| about(file, wrong, error.into()))?;
    if head.version != version {
        let what = format!("has version {}, this program reads {version}", head.version);
        return Err(about(file, &what, io::ErrorKind::InvalidData.into()));
    }
    serde_json::from_slice(text).map_err(|error| about(file, wrong, error.into()))
}

/// Writes a whole file and waits until the disk has it.
fn write_through(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut out = File::create(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// A file's name is in its directory: a rename is safe when the directory is.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn about(file: &Path, what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_seed_and_moves_a_bad_one_aside() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("not/yet/there"));
        assert!(matches!(state.shard_seed().unwrap(), (None, None)));
        let seed = ShardSeed(*b"0123456789abcdef");
        let file = state.path().join(SEED);
        for (content, says) in [
            ("", "is not a shard seed"),
            (r#"{"version":1}"#, "is not a shard seed"),
            (r#"{"version":2,"seed":"00"}"#, "has version 2"),
            (r#"{"version":1,"seed":"+0112233445566778899aabbccddeef"}"#, "32 hex digits"),
            (r#"{"version":1,"seed":"00"}"#, "32 hex digits"),
        ] {
            state.keep_shard_seed(seed).unwrap();
            assert_eq!(state.shard_seed().unwrap().0, Some(seed));
            fs::write(&file, content).unwrap();
            let (none, aside) = state.shard_seed().unwrap();
            let aside = aside.unwrap();
            let reason = aside.reason.to_string();
            assert!(none.is_none() && reason.contains(says) && reason.contains(SEED), "{reason}");
            assert_eq!(fs::read_to_string(&aside.moved_to).unwrap(), content);
            assert!(!file.exists());
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("state"));
        let lock = state.lock().unwrap();
        let error = state.lock().unwrap_err().to_string();
        assert!(error.contains("another egress-gateway uses it"), "{error}");
        drop(lock);
        assert!(!state.path().exists(), "made for the lock, and empty");
        let lock = state.lock().unwrap();
        state.keep_shard_seed(ShardSeed([1; 16])).unwrap();
        drop(lock);
        assert!(state.path().exists());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = StateDir::new(&file).lock().unwrap_err().to_string();
        assert!(error.contains("cannot be used as state_dir"), "{error}");
    }
}
