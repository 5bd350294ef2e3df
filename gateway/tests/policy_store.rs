//! The policy store by itself: what it starts with, keeps, and compares. With workers it is tested
//! through the API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use gateway::{
    config::Config,
    control::{ApplyError, PolicyStore, policies::ApplyOptions, state_dir::StateDir},
};
use harness::{EGRESS, EGRESS_2, POLICY, POLICY_2};
use policy::{Format, LoadError};
use running::{documents, hosts, only_payments, policy};
use std::{fs, io, path::Path};

fn store(state: &Path) -> PolicyStore {
    let (config, _) = Config::parse(running::CONFIG).unwrap();
    PolicyStore::new("gw-a", config.policy_limits(), Vec::new(), StateDir::new(state))
}

fn apply(store: &PolicyStore, text: &str) -> Result<gateway::control::Applied, ApplyError> {
    store.apply(text, Format::Yaml, ApplyOptions::default(), &[])
}

fn no_file() -> io::Result<Option<String>> {
    Ok(None)
}

#[test]
fn a_start_takes_the_kept_set_and_else_the_file() {
    let state = tempfile::tempdir().unwrap();
    let fresh = store(state.path());
    assert_eq!(fresh.load_at_start(no_file).unwrap().generation, 0);
    assert_eq!(fresh.published().load().generation(), 0);

    let first = store(state.path());
    let applied = first.load_at_start(|| Ok(Some(only_payments()))).unwrap();
    assert_eq!((applied.generation, applied.added), (1, vec!["payments".to_owned()]));
    assert_eq!(apply(&first, &documents()).unwrap().generation, 2);

    let second = store(state.path());
    let unread = || -> io::Result<Option<String>> { panic!("the file is not looked at") };
    let applied = second.load_at_start(unread).unwrap();
    assert_eq!((applied.generation, applied.added.len()), (2, 2));
    assert_eq!(second.accepted().set, first.accepted().set);
    assert_eq!(second.published().load().policies().count(), 2);
}

#[test]
fn a_start_with_what_cannot_be_run_fails_and_keeps_nothing() {
    let state = tempfile::tempdir().unwrap();
    let start = |text: &str| {
        let text = text.to_owned();
        store(state.path()).load_at_start(|| Ok(Some(text))).unwrap_err()
    };
    assert!(matches!(start("kind: ["), ApplyError::Load(LoadError::Syntax { .. })));
    assert!(matches!(start("kind: Pod"), ApplyError::Load(LoadError::Invalid(_))));
    let outside = documents().replace("203.0.113.17", "198.51.100.1");
    assert!(matches!(start(&outside), ApplyError::Load(LoadError::Invalid(_))));
    let unreadable = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
    let error = store(state.path()).load_at_start(unreadable).unwrap_err();
    assert!(matches!(error, ApplyError::Store(_)), "{error}");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn policies_are_compared_by_name() {
    let state = tempfile::tempdir().unwrap();
    let store = store(state.path());
    let set = |policies: &[String]| [policies, &[hosts()]].concat().join("---\n");
    let a = policy("a", POLICY, EGRESS);
    let steps: [(&[String], [&[&str]; 3]); 8] = [
        (std::slice::from_ref(&a), [&["a"], &[], &[]]),
        (&[a.clone(), policy("b", POLICY_2, EGRESS_2)], [&["b"], &[], &[]]),
        // Another egress IP, and another id: both end the sessions of the policy.
        (&[a.clone(), policy("b", POLICY_2, EGRESS)], [&[], &["b"], &[]]),
        (&[a.clone(), policy("b", 9, EGRESS)], [&[], &["b"], &[]]),
        // What only nodes obey is a change as well.
        (
            &[a.clone(), policy("b", 9, EGRESS).replace("0.0.0.0/0", "198.51.100.0/24")],
            [&[], &["b"], &[]],
        ),
        (&[a.clone(), policy("b", 9, EGRESS)], [&[], &["b"], &[]]),
        // One id with another name is another policy.
        (&[policy("c", POLICY, EGRESS), policy("b", 9, EGRESS)], [&["c"], &[], &["a"]]),
        (&[], [&[], &[], &["b", "c"]]),
    ];
    for (step, (policies, expected)) in steps.into_iter().enumerate() {
        let applied = apply(&store, &set(policies)).unwrap();
        assert_eq!(applied.generation, step as u64 + 1);
        let names = [applied.added, applied.changed, applied.removed];
        assert_eq!(names, expected.map(|names| names.to_vec()), "step {step}");
    }
}

#[test]
fn a_refused_set_changes_neither_memory_nor_disk() {
    let state = tempfile::tempdir().unwrap();
    let store = store(state.path());
    apply(&store, &documents()).unwrap();
    let kept = || fs::read(state.path().join("accepted.json")).unwrap();
    let before = kept();
    let stale = ApplyOptions { expected: Some(7), ..ApplyOptions::default() };
    let refused = store.apply(&only_payments(), Format::Yaml, stale, &[]);
    assert!(matches!(refused, Err(ApplyError::Outdated { current: 1, expected: 7 })));
    let dry = ApplyOptions { dry_run: true, expected: Some(1) };
    let applied = store.apply(&only_payments(), Format::Yaml, dry, &[]).unwrap();
    assert_eq!((applied.generation, applied.removed), (1, vec!["reports".to_owned()]));
    apply(&store, "kind: [").unwrap_err();
    assert_eq!(store.published().load().policies().count(), 2);
    assert_eq!(store.accepted().generation, 1);
    assert_eq!(kept(), before);
    assert_eq!(fs::read_dir(state.path().join("sets")).unwrap().count(), 1);
}

#[test]
fn state_that_cannot_be_trusted_is_moved_aside_and_nothing_older_is_run() {
    let damaged = || {
        let state = tempfile::tempdir().unwrap();
        let before = store(state.path());
        apply(&before, &documents()).unwrap();
        apply(&before, &only_payments()).unwrap();
        fs::write(state.path().join("sets/0000000002.yaml"), documents()).unwrap();
        state
    };
    let state = damaged();
    let after = store(state.path());
    assert_eq!(after.refused_state(), None);
    assert_eq!(after.load_at_start(no_file).unwrap().generation, 0);
    let reason = after.refused_state().unwrap();
    assert!(reason.contains("sets/0000000002.yaml is not the set that was accepted"), "{reason}");
    assert!(reason.contains("moved to") && reason.contains("accepted.json.refused-"), "{reason}");
    assert_eq!(after.published().load().policies().count(), 0);
    // Its number is not given to another set.
    assert_eq!(apply(&after, &documents()).unwrap().generation, 3);
    let again = store(state.path());
    assert_eq!(again.load_at_start(no_file).unwrap().generation, 3);
    assert_eq!(again.refused_state(), None);

    let state = damaged();
    let with_file = store(state.path());
    let applied = with_file.load_at_start(|| Ok(Some(documents()))).unwrap();
    assert_eq!((applied.generation, applied.added.len()), (3, 2));
}

#[test]
fn sets_before_are_read_as_they_were_accepted() {
    let state = tempfile::tempdir().unwrap();
    let store = store(state.path());
    apply(&store, &documents()).unwrap();
    let json = serde_json::to_string(&store.accepted().set).unwrap();
    store.apply(&json, Format::Json, ApplyOptions::default(), &[]).unwrap();
    apply(&store, &only_payments()).unwrap();
    let accepted = store.accepted();
    let told: Vec<_> = accepted
        .history
        .iter()
        .map(|set| (set.generation, set.policies, set.added.len(), set.removed.len()))
        .collect();
    assert_eq!(told, [(3, 1, 0, 1), (2, 2, 0, 0), (1, 2, 2, 0)]);
    let sets: Vec<_> = accepted.history.iter().map(|set| store.read(set).unwrap()).collect();
    assert_eq!(sets[0], accepted.set);
    assert_eq!(sets[1], sets[2]);
    assert_eq!(sets[2].policies.len(), 2);
}
