//! What a restart comes up with: the accepted policy set, and the seed of the shard hash.

use crate::datapath::steering::ShardSeed;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

const ACCEPTED: &str = "accepted.json";
const SEED: &str = "shard-seed.json";
const VERSION: u32 = 1;

/// What is kept: the documents as they were accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedSet {
    version: u32,
    pub generation: u64,
    /// YAML documents.
    pub documents: String,
}

impl AcceptedSet {
    pub fn new(generation: u64, documents: String) -> Self {
        AcceptedSet { version: VERSION, generation, documents }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptSeed {
    version: u32,
    seed: String,
}

/// The directory `[policy] state_dir`.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        StateDir(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The set that was accepted last; `None` where none ever was.
    pub fn load(&self) -> io::Result<Option<AcceptedSet>> {
        let Some(set) = self.read::<AcceptedSet>(ACCEPTED, "is not an accepted set")? else {
            return Ok(None);
        };
        self.check_version(ACCEPTED, set.version)?;
        Ok(Some(set))
    }

    /// Replaces the kept set. After `Ok` a crash of the machine keeps the new one; after an error, or
    /// a crash in between, the old one is whole.
    pub fn store(&self, set: &AcceptedSet) -> io::Result<()> {
        self.replace(ACCEPTED, set)
    }

    /// What the shard hash of this gateway is keyed by; `None` before it was kept.
    pub fn shard_seed(&self) -> io::Result<Option<ShardSeed>> {
        let Some(kept) = self.read::<KeptSeed>(SEED, "is not a shard seed")? else {
            return Ok(None);
        };
        self.check_version(SEED, kept.version)?;
        let seed = kept.seed.parse().map_err(|error| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            about(&self.0.join(SEED), "cannot be used (without it the next start draws one)", error)
        })?;
        Ok(Some(seed))
    }

    /// Keeps it over restarts.
    pub fn keep_shard_seed(&self, seed: ShardSeed) -> io::Result<()> {
        self.replace(SEED, &KeptSeed { version: VERSION, seed: seed.to_string() })
    }

    fn read<T: DeserializeOwned>(&self, name: &str, wrong: &str) -> io::Result<Option<T>> {
        let file = self.0.join(name);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about(&file, "cannot be read", error)),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| about(&file, wrong, error.into()))
    }

    fn check_version(&self, name: &str, version: u32) -> io::Result<()> {
        if version == VERSION {
            return Ok(());
        }
        let what = format!("has version {version}, this program reads {VERSION}");
        Err(about(&self.0.join(name), &what, io::ErrorKind::InvalidData.into()))
    }

    fn replace(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let file = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0)?;
            let mut out = File::create(&new)?;
            serde_json::to_writer(&mut out, content)?;
            out.flush()?;
            out.sync_all()?;
            fs::rename(&new, &file)?;
            // The rename itself is in the directory.
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| about(&file, "cannot be written", error))
    }
}

fn about(file: &Path, what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_set_and_says_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("not/yet/there"));
        assert_eq!(state.load().unwrap(), None);
        for generation in [1, 2] {
            let set = AcceptedSet::new(generation, "documents".into());
            state.store(&set).unwrap();
            assert_eq!(state.load().unwrap(), Some(set));
        }
        let file = state.path().join(ACCEPTED);
        for (content, says) in [
            ("{", "is not an accepted set"),
            (r#"{"version":9,"generation":1,"documents":""}"#, "has version 9"),
        ] {
            fs::write(&file, content).unwrap();
            let error = state.load().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(ACCEPTED), "{error}");
        }
        let blocked = StateDir::new(&file);
        assert!(blocked.store(&AcceptedSet::new(3, String::new())).is_err());
    }

    #[test]
    fn keeps_the_seed_and_says_what_is_wrong_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("not/yet/there"));
        assert_eq!(state.shard_seed().unwrap(), None);
        let seed = ShardSeed(*b"0123456789abcdef");
        state.keep_shard_seed(seed).unwrap();
        assert_eq!(state.shard_seed().unwrap(), Some(seed));
        let file = state.path().join(SEED);
        for (content, says) in [
            ("", "is not a shard seed"),
            (r#"{"version":1}"#, "is not a shard seed"),
            (r#"{"version":2,"seed":"00"}"#, "has version 2"),
            (r#"{"version":1,"seed":"+0112233445566778899aabbccddeef"}"#, "32 hex digits"),
            (r#"{"version":1,"seed":"00"}"#, "32 hex digits"),
        ] {
            fs::write(&file, content).unwrap();
            let error = state.shard_seed().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(SEED), "{error}");
        }
    }
}
