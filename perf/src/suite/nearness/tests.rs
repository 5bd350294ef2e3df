use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Of CPUs that are 100 cycles from each other at best.
fn nearness(budget: f64) -> Nearness {
    let mut nearness = Nearness::new(budget);
    nearness.see(100.0);
    nearness
}

/// How often a turn waits and repeats, where each repeat takes a second and CPUs stay where they are.
fn turn(nearness: &mut Nearness, distance: f64) -> (usize, usize) {
    nearness.begin_turn();
    let (mut waits, mut repeats) = (0, 0);
    loop {
        while nearness.waits(Some(distance)) {
            waits += 1;
        }
        if !nearness.repeats(Some(distance), SECOND) {
            return (waits, repeats);
        }
        repeats += 1;
    }
}

#[test]
fn cpus_are_apart_beyond_what_is_near() {
    let mut nearness = Nearness::new(60.0);
    assert!(!nearness.are_apart(Some(460.0)), "nothing is known yet");
    nearness.see(460.0);
    assert!(!nearness.are_apart(Some(460.0)));
    for (distance, are_apart) in
        [(Some(460.0), true), (Some(151.0), true), (Some(150.0), false), (None, false)]
    {
        nearness.see(100.0);
        nearness.see(460.0);
        assert_eq!(nearness.are_apart(distance), are_apart, "{distance:?}");
    }
    assert_eq!(nearness.near(), Some(100.0));
}

#[test]
fn near_cpus_cost_nothing() {
    let mut nearness = nearness(60.0);
    nearness.begin_round(1);
    assert_eq!(turn(&mut nearness, 120.0), (0, 0));
    nearness.begin_turn();
    assert!(!nearness.waits(None) && !nearness.repeats(None, SECOND));
    assert_eq!(nearness.budget, Duration::from_secs(60));
}

#[test]
fn a_turn_waits_some_seconds_before_each_of_three_repeats() {
    let mut nearness = nearness(60.0);
    nearness.begin_round(1);
    assert_eq!(turn(&mut nearness, 460.0), (150, 2));
    assert_eq!(nearness.budget, Duration::from_secs(60 - 15 - 2));
}

#[test]
fn cpus_that_come_near_are_waited_for_no_longer() {
    let mut nearness = nearness(60.0);
    nearness.begin_round(1);
    nearness.begin_turn();
    assert!(nearness.waits(Some(460.0)) && !nearness.waits(Some(110.0)));
    // They went apart meanwhile, and came back.
    assert!(nearness.repeats(Some(460.0), SECOND) && !nearness.waits(Some(110.0)));
    assert!(!nearness.repeats(Some(110.0), SECOND));
    assert_eq!(nearness.budget, Duration::from_secs(59) - LOOK);
}

#[test]
fn systems_of_a_round_may_wait_alike_and_a_run_never_longer_than_its_budget() {
    let mut nearness = nearness(8.0);
    nearness.begin_round(2);
    // Four seconds each, and then there is nothing for a repeat.
    let round = [460.0, 460.0].map(|distance| turn(&mut nearness, distance));
    assert_eq!(round, [(40, 0), (40, 0)]);
    assert_eq!(nearness.budget, Duration::ZERO);
    nearness.begin_round(2);
    assert_eq!(turn(&mut nearness, 460.0), (0, 0));
}

#[test]
fn a_repeat_that_is_longer_than_what_is_left_is_kept() {
    let mut nearness = nearness(20.0);
    nearness.begin_round(2);
    nearness.begin_turn();
    assert!(!nearness.repeats(Some(460.0), Duration::from_secs(11)));
    assert!(nearness.repeats(Some(460.0), Duration::from_secs(10)));
    assert!(!nearness.waits(Some(460.0)));
}

#[test]
fn budgets_that_are_none_are_empty() {
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut nearness = nearness(seconds);
        nearness.begin_round(0);
        assert_eq!(turn(&mut nearness, 460.0), (0, 0), "{seconds}");
    }
}
