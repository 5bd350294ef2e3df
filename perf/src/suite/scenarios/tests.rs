use super::{super::group::Timing, *};

fn minutes(quick: bool, peer: bool, timing: &Timing) -> f64 {
    groups(quick, peer, 16, &[]).iter().map(|group| group.estimate(timing)).sum::<f64>() / 60.0
}

#[test]
fn the_sets_take_as_long_as_they_may() {
    for (quick, timing, most) in
        [(true, Timing::QUICK, [5.0, 6.0]), (false, Timing::FULL, [40.0; 2])]
    {
        // Of CPUs that never come near, where nobody asks for more than the set.
        let longest = minutes(quick, false, &timing) + timing.patience / 60.0;
        assert!(longest < most[0], "{longest}");
        let minutes = minutes(quick, true, &timing);
        assert!(minutes < most[1], "{minutes}");
    }
}

#[test]
fn the_short_set_is_a_part_of_the_full_one() {
    let names = |quick| -> Vec<String> {
        let groups = groups(quick, true, 2, &[]);
        let all = groups.iter().flat_map(|group| &group.measurements);
        all.map(|of| format!("{} {:?}", of.name(), of.subjects)).collect()
    };
    let (quick, full) = (names(true), names(false));
    assert!(quick.iter().all(|name| full.contains(name)));
    assert!(quick.len() < full.len());
}

#[test]
fn results_can_tell_all_rows_apart() {
    let mut seen = Vec::new();
    for group in groups(false, true, 2, &[]) {
        for measurement in &group.measurements {
            for subject in &measurement.subjects {
                let name = format!("{}, {}", subject.title(), measurement.name());
                assert!(!seen.contains(&name), "{name} is twice in the table");
                seen.push(name);
            }
        }
    }
}

#[test]
fn systems_of_a_group_have_devices_of_one_sort() {
    for group in groups(false, true, 2, &[]) {
        let subjects = group.subjects();
        let first = subjects[0];
        assert!(subjects.iter().all(|subject| subject.io.is_veth() == first.io.is_veth()));
        for io in [Io::Ring, Io::None] {
            assert!(subjects.iter().all(|s| (s.io == io) == (first.io == io)));
        }
    }
}

#[test]
fn there_are_no_more_workers_than_cpus() {
    for (cpus, expected) in
        [(1, vec![1]), (2, vec![1, 2]), (5, vec![1, 2, 4]), (200, vec![1, 2, 4, 8, 16, 32, 64])]
    {
        let groups = groups(false, false, cpus, &["none".into()]);
        assert_eq!(groups.len(), 2);
        for group in groups {
            let workers: Vec<usize> = group.subjects().iter().map(|s| s.workers).collect();
            assert_eq!(workers, expected, "{cpus}");
        }
    }
}

#[test]
fn a_part_is_selected_by_what_describes_it() {
    let of = |only: &[&str]| -> Vec<String> {
        let only: Vec<String> = only.iter().map(|only| only.to_string()).collect();
        let groups = groups(false, false, 2, &only);
        let all = groups.iter().flat_map(|group| &group.measurements);
        all.flat_map(|of| {
            of.subjects.iter().map(|s| format!("{} {}", s.title(), of.scenario.name()))
        })
        .collect()
    };
    let churn =
        ["1.0", "1.5", "2.0"].map(|m| format!("gateway over memif churn of {m} M a second"));
    assert_eq!(of(&["churn"]), churn);
    assert_eq!(of(&["churn", "capacity"]).len(), 4);
    assert!(of(&["kernel"]).iter().all(|title| title.starts_with("kernel over veth")));
    assert!(of(&["nothing of the sort"]).is_empty());
    let crews = [1, 2].map(|n| format!("gateway with {} over none scaling", super::workers(n)));
    assert_eq!(of(&["none, scaling, 1,000 flows"]), crews);
    assert_eq!(of(&["none, scaling, 1,000 flows, in2out, smallest, random, 2 w"]), crews[1..]);
    // Without a peer there is none.
    assert!(of(&["peer"]).is_empty());
}
