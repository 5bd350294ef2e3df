//! The accepted policy set on disk, so that a restart comes up with it.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

const FILE: &str = "accepted.json";
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
        let file = self.0.join(FILE);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about(&file, "cannot be read", error)),
        };
        let set: AcceptedSet = serde_json::from_str(&text)
            .map_err(|error| about(&file, "is not an accepted set", error.into()))?;
        if set.version != VERSION {
            let what = format!("has version {}, this program reads {VERSION}", set.version);
            return Err(about(&file, &what, io::ErrorKind::InvalidData.into()));
        }
        Ok(Some(set))
    }

    /// Replaces the kept set. After `Ok` a crash of the machine keeps the new one; after an error, or
    /// a crash in between, the old one is whole.
    pub fn store(&self, set: &AcceptedSet) -> io::Result<()> {
        let file = self.0.join(FILE);
        let new = self.0.join(format!("{FILE}.new"));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0)?;
            let mut out = File::create(&new)?;
            serde_json::to_writer(&mut out, set)?;
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
        let file = state.path().join(FILE);
        for (content, says) in [
            ("{", "is not an accepted set"),
            (r#"{"version":9,"generation":1,"documents":""}"#, "has version 9"),
        ] {
            fs::write(&file, content).unwrap();
            let error = state.load().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(FILE), "{error}");
        }
        let blocked = StateDir::new(&file);
        assert!(blocked.store(&AcceptedSet::new(3, String::new())).is_err());
    }
}
