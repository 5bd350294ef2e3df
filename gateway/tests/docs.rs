//! What the documents say of the code is true.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use gateway::verdict::DropReason;
use std::{fs, path::Path};

fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn every_drop_reason_is_a_line_of_its_document() {
    let text = document("docs/drops.md");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> =
        DropReason::ALL.iter().map(|r| format!("| `{}` | {} |", r.label(), r.help())).collect();
    assert_eq!(lines, expected, "docs/drops.md lists the reasons as verdict.rs does");
}

/// The walls between the rooms: who may know whom.
#[test]
fn rooms_keep_to_themselves() {
    let forbidden: &[(&str, &[&str])] = &[
        (
            "src/wire",
            &["crate::nat", "crate::datapath", "crate::control", "crate::dpdk", "Instant"],
        ),
        (
            "src/nat",
            &["crate::datapath", "crate::control", "crate::dpdk", "Instant", "std::thread"],
        ),
        ("src/datapath", &["crate::control", "crate::dpdk", "Instant::now", "tracing::"]),
        ("src/dpdk", &["crate::control", "crate::nat"]),
        ("src/control", &["crate::dpdk"]),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (room, words) in forbidden {
        for file in files(&root.join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for word in *words {
                assert!(!text.contains(word), "{} mentions {word}", file.display());
            }
        }
    }
}

/// `unsafe` lives in one folder.
#[test]
fn unsafe_stays_in_its_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&root) {
        let text = fs::read_to_string(&file).unwrap();
        let is_unsafe = text.contains("unsafe {") || text.contains("unsafe fn");
        assert!(!is_unsafe || file.starts_with(root.join("dpdk")), "{}", file.display());
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| self::files(folder))).collect()
}
