//! Tells when policy files have changed, in whatever way: written in place, renamed over, removed and put back, or behind a link that leads
//! elsewhere, as Kubernetes does with a ConfigMap (`policy.yaml -> ..data/policy.yaml`, `..data -> ..2026_11_23`).
//!
//! Folders are watched, not files, each on the way from the root to a file. A burst of changes is told once, when it is over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

/// So long after the last change a burst is over.
pub const QUIET: Duration = Duration::from_millis(100);
/// A stream of changes that does not end, or a file that somebody keeps open after writing to it, is read after so long.
pub const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Watch {
    changes: UnboundedReceiver<Change>,
    burst: Option<Burst>,
    _watcher: notify::RecommendedWatcher,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// A file that may have more to come: it is open.
    Written(PathBuf),
    Closed(PathBuf),
    /// Whole, in one step.
    Replaced,
}

#[derive(Debug)]
struct Burst {
    began: Instant,
    latest: Instant,
    open: BTreeSet<PathBuf>,
}

impl Watch {
    /// From here on, nothing that happens to the files goes unnoticed: read them afterwards.
    pub fn start(files: &[PathBuf]) -> Result<Self> {
        for file in files {
            let folder = folder_of(file);
            if !folder.is_dir() {
                bail!("{} is not a folder: cannot watch {}", folder.display(), file.display());
            }
        }
        Self::open(files)
    }

    /// As [`Self::start`], also of files in folders that are not there yet.
    pub fn start_anyway(files: &[PathBuf]) -> Result<Self> {
        Self::open(files)
    }

    /// Before the files are read again: links may lead elsewhere, and folders may be others of the same name.
    pub fn renew(&mut self, files: &[PathBuf]) -> Result<()> {
        *self = Self::open(files)?;
        Ok(())
    }

    fn open(files: &[PathBuf]) -> Result<Self> {
        let mut places = places_of(files);
        loop {
            let watch = Self::of(&places)?;
            // What has changed before the watcher was there leads elsewhere.
            let places_by_now = places_of(files);
            if places_by_now == places {
                return Ok(watch);
            }
            places = places_by_now;
        }
    }

    fn of(places: &BTreeSet<PathBuf>) -> Result<Self> {
        let (sender, changes) = unbounded_channel();
        let of_interest = places.clone();
        let mut watcher = notify::recommended_watcher(move |event| {
            if let Some(change) = change_of(event, &of_interest) {
                let _ = sender.send(change);
            }
        })
        .context("cannot watch files (inotify)")?;
        let folders: BTreeSet<&Path> = places.iter().filter_map(|place| place.parent()).collect();
        for folder in folders.into_iter().filter(|folder| folder.is_dir()) {
            watcher
                .watch(folder, RecursiveMode::NonRecursive)
                .with_context(|| format!("cannot watch {}", folder.display()))?;
        }
        Ok(Self { changes, burst: None, _watcher: watcher })
    }

    /// Returns when a burst of changes is over. Nothing is lost when it is dropped before.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            let change = match &self.burst {
                None => self.changes.recv().await,
                Some(burst) => {
                    let end = burst.end();
                    if Instant::now() >= end {
                        self.burst = None;
                        return Ok(());
                    }
                    match timeout_at(end, self.changes.recv()).await {
                        Ok(change) => change,
                        Err(_) => continue,
                    }
                }
            };
            let change = change.context("the file watcher ended")?;
            self.burst.get_or_insert_with(Burst::new).add(change);
        }
    }
}

impl Burst {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, latest: now, open: BTreeSet::new() }
    }

    fn add(&mut self, change: Change) {
        self.latest = Instant::now();
        match change {
            Change::Written(file) => drop(self.open.insert(file)),
            Change::Closed(file) => drop(self.open.remove(&file)),
            Change::Replaced => {}
        }
    }

    fn end(&self) -> Instant {
        let longest = self.began + LONGEST;
        if self.open.is_empty() { longest.min(self.latest + QUIET) } else { longest }
    }
}

/// None for what changes no file's content.
fn change_of(event: notify::Result<Event>, places: &BTreeSet<PathBuf>) -> Option<Change> {
    // Events were lost: what they said must be looked for.
    let Ok(event) = event else { return Some(Change::Replaced) };
    if event.need_rescan() {
        return Some(Change::Replaced);
    }
    let place = event.paths.iter().find(|path| places.contains(*path))?;
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => Some(Change::Written(place.clone())),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            Some(Change::Closed(place.clone()))
        }
        EventKind::Access(_) => None,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => Some(Change::Replaced),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// As the kernel's own bound of path look-ups.
const MOST_LINKS: usize = 40;

/// Everything whose replacement may change what the files hold: they, their folders, and the same of what links among them lead to.
fn places_of(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    for file in files {
        let mut path = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        for _ in 0..=MOST_LINKS {
            places
                .extend(path.ancestors().filter(|place| place.parent().is_some()).map(Into::into));
            match first_link_of(&path) {
                Some(target) => path = target,
                None => break,
            }
        }
    }
    places
}

/// `path` with its first link replaced by what that leads to.
fn first_link_of(path: &Path) -> Option<PathBuf> {
    let link = path.ancestors().filter(|place| place.is_symlink()).last()?;
    let target = link.parent()?.join(std::fs::read_link(link).ok()?);
    let rest = path.strip_prefix(link).ok()?;
    Some(if rest.as_os_str().is_empty() { target } else { target.join(rest) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_way_through_links_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("..1")).unwrap();
        fs::write(at("..1/policy.yaml"), "").unwrap();
        symlink("..1", at("..data")).unwrap();
        symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
        let places = places_of(&[at("policy.yaml")]);
        for wanted in ["policy.yaml", "..data", "..data/policy.yaml", "..1", "..1/policy.yaml"] {
            assert!(places.contains(&at(wanted)), "{wanted:?} is not in {places:?}");
        }
        assert!(places.contains(folder.path().canonicalize().unwrap().as_path()));
        symlink("round", at("round")).unwrap();
        assert!(places_of(&[at("round")]).contains(&at("round")), "and it ends");
        assert!(Watch::start(&[at("nowhere/policy.yaml")]).is_err());
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    }

    fn watch() -> (tokio::sync::mpsc::UnboundedSender<Change>, Watch) {
        let (sender, changes) = unbounded_channel();
        let watcher = notify::recommended_watcher(|_| ()).unwrap();
        (sender, Watch { changes, burst: None, _watcher: watcher })
    }

    #[test]
    fn a_burst_is_told_once_when_it_is_over() {
        runtime().block_on(async {
            let (sender, mut watch) = watch();
            let began = Instant::now();
            let writer = async {
                for _ in 0..5 {
                    sender.send(Change::Replaced).unwrap();
                    tokio::time::sleep(QUIET / 2).await;
                }
                std::future::pending::<()>().await;
            };
            // A reload of something else interrupts the wait, as in the agent's loop.
            let reader = async {
                while tokio::time::timeout(QUIET / 3, watch.changed()).await.is_err() {}
                Instant::now()
            };
            tokio::select! {
                () = writer => unreachable!(),
                told = reader => assert_eq!((told - began).as_millis() / 50, 6),
            }
            assert!(tokio::time::timeout(LONGEST * 2, watch.changed()).await.is_err(), "once");
        });
    }

    #[test]
    fn a_stream_without_end_is_read_all_the_same() {
        runtime().block_on(async {
            let (sender, mut watch) = watch();
            for _ in 0..3 {
                let began = Instant::now();
                tokio::select! {
                    () = send_without_end(&sender) => unreachable!(),
                    told = watch.changed() => told.unwrap(),
                }
                assert!(began.elapsed() <= LONGEST + QUIET, "{:?}", began.elapsed());
            }
        });
    }

    async fn send_without_end(sender: &tokio::sync::mpsc::UnboundedSender<Change>) {
        loop {
            sender.send(Change::Replaced).unwrap();
            tokio::time::sleep(QUIET / 10).await;
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        runtime().block_on(async {
            let (sender, mut watch) = watch();
            let file = PathBuf::from("/policy.yaml");
            let began = Instant::now();
            sender.send(Change::Written(file.clone())).unwrap();
            let writer = async {
                tokio::time::sleep(QUIET * 10).await;
                sender.send(Change::Closed(file.clone())).unwrap();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = writer => unreachable!(),
                told = watch.changed() => told.unwrap(),
            }
            assert_eq!(began.elapsed().as_millis() / 100, 11);
            let began = Instant::now();
            sender.send(Change::Written(file)).unwrap();
            watch.changed().await.unwrap();
            assert_eq!(began.elapsed().as_millis() / 100, 20, "and no longer than that");
        });
    }
}
