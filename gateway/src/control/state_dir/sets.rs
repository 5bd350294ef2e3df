//! The accepted policy sets: the one in force, and those before it.
//!
//! The set's own file is written first, `accepted.json` names it: the rename of that one is the moment
//! from which a restart comes up with the new set.

use super::{SetAside, StateDir, about, decode, sync_directory, write_through};
use policy::Format;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::warn;

/// How many sets are kept, the one in force included.
pub const KEPT: usize = 20;

const INDEX: &str = "accepted.json";
const INDEX_VERSION: u32 = 2;
const SETS: &str = "sets";

/// What is told of an accepted set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetRecord {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub accepted_at: String,
    /// Policies of all gateways in the set.
    pub policies: usize,
    /// Names of policies of this gateway, against the set before.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub format: SetFormat,
    /// Of the set's file, in hex: a bit that a disk has lost must not become another egress IP.
    pub sha256: String,
}

/// How a set was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetFormat {
    Yaml,
    Json,
}

impl From<Format> for SetFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Yaml => SetFormat::Yaml,
            Format::Json => SetFormat::Json,
        }
    }
}

impl From<SetFormat> for Format {
    fn from(format: SetFormat) -> Self {
        match format {
            SetFormat::Yaml => Format::Yaml,
            SetFormat::Json => Format::Json,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    version: u32,
    /// The set in force first.
    sets: Vec<SetRecord>,
}

/// The sets of a state directory, for its one writer.
#[derive(Debug)]
pub struct KeptSets {
    state: StateDir,
    records: Arc<[SetRecord]>,
    /// The highest generation that ever had a file here, readable or not: a number is never used for
    /// two sets, or an `If-Match` could fit a set that its sender has not seen.
    last_generation: u64,
}

/// What was found in the directory.
#[derive(Debug)]
pub enum Opened {
    /// No set was ever accepted.
    Empty,
    /// The set that was accepted last.
    Set { generation: u64, text: String, format: Format },
    /// There was something that cannot be trusted.
    Refused(SetAside),
}

impl KeptSets {
    /// Of a directory that was not read yet.
    pub fn new(state: StateDir) -> Self {
        KeptSets { state, records: Arc::default(), last_generation: 0 }
    }

    /// Reads the directory. An error is one of the machine: what is wrong with the files' content is
    /// told as [`Opened::Refused`], after `accepted.json` was moved aside.
    pub fn open(&mut self) -> io::Result<Opened> {
        self.last_generation = self.highest_file()?;
        match self.read() {
            Ok(opened) => Ok(opened),
            Err(reason) => Ok(Opened::Refused(self.state.set_aside(INDEX, reason)?)),
        }
    }

    /// Newest first, at most [`KEPT`].
    pub fn records(&self) -> Arc<[SetRecord]> {
        Arc::clone(&self.records)
    }

    /// The generation of the next set.
    pub fn next_generation(&self) -> u64 {
        self.last_generation + 1
    }

    /// Keeps a set and makes it the one that a restart comes up with. `record.sha256` is computed
    /// here. After an error the set before is that one.
    pub fn store(&mut self, mut record: SetRecord, text: &str) -> io::Result<()> {
        record.sha256 = digest(text.as_bytes());
        let file = file_of(self.state.path(), &record);
        let folder = self.state.path().join(SETS);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            write_through(&file, text.as_bytes())?;
            sync_directory(&folder)
        };
        let generation = record.generation;
        let older = self.records.iter().filter(|older| older.generation < generation);
        let sets: Vec<SetRecord> = [record].into_iter().chain(older.cloned()).take(KEPT).collect();
        let index = Index { version: INDEX_VERSION, sets };
        write()
            .map_err(|error| about(&file, "cannot be written", error))
            .and_then(|()| self.state.replace(INDEX, &index))
            .inspect_err(|_| {
                // On a full disk its remains would be in the way of the next attempt.
                let _ = fs::remove_file(&file);
            })?;
        self.records = index.sets.into();
        self.last_generation = self.last_generation.max(generation);
        self.prune(&folder);
        Ok(())
    }

    /// Not told to whoever sent the set: it is in force, and only room on the disk is lost.
    fn prune(&self, folder: &Path) {
        let Some(oldest) = self.records.last().map(|record| record.generation) else { return };
        let files = generations(folder).unwrap_or_default();
        // What no record names and is not older than these was kept before `accepted.json` was set
        // aside, and goes in its turn.
        let limit = oldest.min(self.last_generation.saturating_sub(KEPT as u64 - 1));
        for (_, file) in files.into_iter().filter(|(generation, _)| *generation < limit) {
            if let Err(error) = fs::remove_file(&file) {
                warn!("an old policy set cannot be removed: {}: {error}", file.display());
            }
        }
    }

    fn highest_file(&self) -> io::Result<u64> {
        let files = generations(&self.state.path().join(SETS))?;
        Ok(files.into_iter().map(|(generation, _)| generation).max().unwrap_or(0))
    }

    fn read(&mut self) -> io::Result<Opened> {
        let Some(text) = self.state.read(INDEX)? else { return Ok(Opened::Empty) };
        let file = self.state.path().join(INDEX);
        let Index { sets, .. } =
            decode(&file, &text, INDEX_VERSION, "is not a list of accepted sets")?;
        let Some(first) = sets.first() else {
            return Err(about(&file, "names no set", io::ErrorKind::InvalidData.into()));
        };
        let (generation, format) = (first.generation, first.format.into());
        self.last_generation = self.last_generation.max(generation);
        let text = read_set(self.state.path(), first)?;
        self.records = sets.into();
        Ok(Opened::Set { generation, text, format })
    }
}

/// The text of a set, if it is what was accepted.
pub(crate) fn read_set(state_dir: &Path, record: &SetRecord) -> io::Result<String> {
    let file = file_of(state_dir, record);
    let bytes = fs::read(&file).map_err(|error| about(&file, "cannot be read", error))?;
    let damaged = || {
        let error = io::Error::new(io::ErrorKind::InvalidData, "its SHA-256 is another");
        about(&file, "is not the set that was accepted", error)
    };
    if digest(&bytes) != record.sha256 {
        return Err(damaged());
    }
    String::from_utf8(bytes).map_err(|_| damaged())
}

fn file_of(state_dir: &Path, record: &SetRecord) -> PathBuf {
    let extension = match record.format {
        SetFormat::Yaml => "yaml",
        SetFormat::Json => "json",
    };
    state_dir.join(SETS).join(format!("{:010}.{extension}", record.generation))
}

/// The files of sets, with the generation that each is named by.
fn generations(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(about(folder, "cannot be read", error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| about(folder, "cannot be read", error))?.path();
        let generation = file.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        files.extend(generation.map(|generation| (generation, file)));
    }
    Ok(files)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64) -> SetRecord {
        SetRecord {
            generation,
            accepted_at: "2026-01-02T03:04:05Z".to_owned(),
            policies: 0,
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            format: SetFormat::Yaml,
            sha256: String::new(),
        }
    }

    fn open(state: &StateDir) -> (KeptSets, Opened) {
        let mut kept = KeptSets::new(state.clone());
        let opened = kept.open().unwrap();
        (kept, opened)
    }

    fn files(state: &StateDir) -> Vec<u64> {
        let mut files: Vec<u64> =
            generations(&state.path().join(SETS)).unwrap().into_iter().map(|(g, _)| g).collect();
        files.sort_unstable();
        files
    }

    #[test]
    fn keeps_the_last_sets_and_opens_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("not/yet/there"));
        let (mut kept, opened) = open(&state);
        assert!(matches!(opened, Opened::Empty));
        for generation in 1..=25 {
            assert_eq!(kept.next_generation(), generation);
            kept.store(record(generation), &format!("set {generation}")).unwrap();
            let (again, opened) = open(&state);
            let Opened::Set { generation: found, text, format } = opened else {
                panic!("{opened:?}")
            };
            assert_eq!(
                (found, text, format),
                (generation, format!("set {generation}"), Format::Yaml)
            );
            assert_eq!(again.records(), kept.records());
        }
        assert_eq!(files(&state), (6..=25).collect::<Vec<_>>());
        let generations: Vec<u64> = kept.records().iter().map(|record| record.generation).collect();
        assert_eq!(generations, (6..=25).rev().collect::<Vec<_>>());
        let oldest = kept.records().last().cloned().unwrap();
        assert_eq!(read_set(state.path(), &oldest).unwrap(), "set 6");
    }

    #[test]
    fn what_is_not_what_was_written_is_moved_aside_and_its_number_not_used_again() {
        type Damage = fn(&Path);
        let cases: [(&str, Damage); 7] = [
            ("is not a list of accepted sets", |dir| fs::write(dir.join(INDEX), "{").unwrap()),
            ("has version 9, this program reads 2", |dir| {
                fs::write(dir.join(INDEX), r#"{"version":9,"sets":[]}"#).unwrap();
            }),
            ("has version 1, this program reads 2", |dir| {
                fs::write(dir.join(INDEX), r#"{"version":1,"generation":1,"documents":""}"#)
                    .unwrap();
            }),
            ("names no set", |dir| {
                fs::write(dir.join(INDEX), r#"{"version":2,"sets":[]}"#).unwrap();
            }),
            ("is not the set that was accepted", |dir| {
                fs::write(dir.join("sets/0000000003.yaml"), "set 4").unwrap();
            }),
            ("cannot be read", |dir| fs::remove_file(dir.join("sets/0000000003.yaml")).unwrap()),
            ("cannot be read", |dir| {
                fs::remove_file(dir.join(INDEX)).unwrap();
                fs::create_dir(dir.join(INDEX)).unwrap();
            }),
        ];
        for (says, damage) in cases {
            let folder = tempfile::tempdir().unwrap();
            let state = StateDir::new(folder.path());
            let (mut kept, _) = open(&state);
            for generation in 1..=3 {
                kept.store(record(generation), &format!("set {generation}")).unwrap();
            }
            damage(folder.path());
            let (mut kept, opened) = open(&state);
            let Opened::Refused(SetAside { reason, moved_to }) = opened else {
                panic!("{opened:?}")
            };
            assert!(reason.to_string().contains(says), "{reason}");
            assert!(moved_to.exists() && !folder.path().join(INDEX).exists());
            assert_eq!(kept.next_generation(), 4, "{says}");
            let next = kept.next_generation();
            kept.store(record(next), "anew").unwrap();
            assert!(matches!(open(&state).1, Opened::Set { generation, .. } if generation == next));
        }
    }

    #[test]
    fn a_set_that_cannot_be_written_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let (mut kept, _) = open(&state);
        kept.store(record(1), "set 1").unwrap();
        // In the way of the index alone: the set's own file is taken back.
        fs::create_dir(folder.path().join("accepted.json.new")).unwrap();
        let error = kept.store(record(2), "set 2").unwrap_err().to_string();
        assert!(error.contains("accepted.json cannot be written"), "{error}");
        assert_eq!((files(&state), kept.next_generation()), (vec![1], 2));
        assert!(matches!(open(&state).1, Opened::Set { generation: 1, .. }));
    }
}
