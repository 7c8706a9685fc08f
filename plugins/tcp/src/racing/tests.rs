use std::fs;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn families_take_turns_and_keep_their_order() {
    let order = |texts: &[&str]| -> Vec<String> {
        interleave(addresses(texts), |address| *address).iter().map(ToString::to_string).collect()
    };
    assert_eq!(order(&[]), [""; 0]);
    assert_eq!(order(&["192.0.2.1:1"]), ["192.0.2.1:1"]);
    assert_eq!(
        order(&["[::1]:1", "[::2]:1", "[::3]:1", "192.0.2.1:1", "192.0.2.2:1"]),
        ["[::1]:1", "192.0.2.1:1", "[::2]:1", "192.0.2.2:1", "[::3]:1"]
    );
    assert_eq!(order(&["192.0.2.1:1", "192.0.2.2:1", "[::1]:1"]), ["192.0.2.1:1", "[::1]:1", "192.0.2.2:1"]);
    assert_eq!(order(&["[::2]:1", "[::1]:1"]), ["[::2]:1", "[::1]:1"]);
}

#[test]
fn attempts_join_after_the_delay() {
    let mut race = Race::new(3, ms(250));
    assert_eq!(race.next(ms(0)), Next::Start(0));
    assert_eq!(race.next(ms(0)), Next::Wait(Some(ms(250))));
    assert_eq!(race.next(ms(249)), Next::Wait(Some(ms(250))));
    // Late, as clocks are: the delay counts from the start.
    assert_eq!(race.next(ms(260)), Next::Start(1));
    assert_eq!(race.next(ms(260)), Next::Wait(Some(ms(510))));
    assert_eq!(race.next(ms(510)), Next::Start(2));
    assert_eq!(race.next(ms(510)), Next::Wait(None));
}

#[test]
fn after_a_failure_the_next_starts_at_once() {
    let mut race = Race::new(3, ms(250));
    assert_eq!(race.next(ms(0)), Next::Start(0));
    race.failed();
    assert_eq!(race.next(ms(10)), Next::Start(1));
    assert_eq!(race.next(ms(10)), Next::Wait(Some(ms(260))));
    assert_eq!(race.next(ms(260)), Next::Start(2));
    race.failed();
    assert_eq!(race.next(ms(300)), Next::Wait(None));
    race.failed();
    assert_eq!(race.next(ms(301)), Next::Lost);
    assert_eq!(Race::new(0, ms(250)).next(ms(0)), Next::Lost);
}

/// What becomes of an attempt, and how long after its start; `None`: it hangs.
type Fate = Option<(bool, Duration)>;

#[derive(Debug, PartialEq)]
struct Run {
    starts: Vec<Duration>,
    /// When it was over, and who won.
    over: Option<(Duration, Option<usize>)>,
}

/// Races with a clock that jumps to whatever happens next.
fn run(fates: &[Fate], delay: Duration) -> Run {
    let mut race = Race::new(fates.len(), delay);
    let mut now = Duration::ZERO;
    let mut starts = Vec::new();
    let mut running: Vec<(Duration, usize, bool)> = Vec::new();
    loop {
        let until = match race.next(now) {
            Next::Start(place) => {
                assert_eq!(place, starts.len(), "in order, and each once");
                starts.push(now);
                if let Some((succeeds, after)) = fates[place] {
                    running.push((now + after, place, succeeds));
                }
                continue;
            }
            Next::Lost => return Run { starts, over: Some((now, None)) },
            Next::Wait(until) => until,
        };
        assert!(until.is_none_or(|until| until > now), "no waiting for the past");
        let first = running.iter().copied().enumerate().min_by_key(|(_, (at, ..))| *at);
        match first {
            Some((index, (at, place, succeeds))) if until.is_none_or(|until| at <= until) => {
                now = at;
                if succeeds {
                    return Run { starts, over: Some((now, Some(place))) };
                }
                running.remove(index);
                race.failed();
            }
            _ => match until {
                Some(until) => now = until,
                None => return Run { starts, over: None },
            },
        }
    }
}

/// The recorded races; what the times of Twisted mean for us says the README beside them.
#[test]
fn recorded_races_are_won_no_later() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/happy_eyeballs.jsonl");
    let cases = fs::read_to_string(path).expect("the recorded cases");
    let mut count = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        check(&case);
        count += 1;
    }
    assert_eq!(count, 112);
}

fn check(case: &Value) {
    let id = &case["id"];
    let seconds = |value: &Value| value.as_f64().map(Duration::from_secs_f64);
    let limit = seconds(&case["timeout"]);
    let fates: Vec<Fate> = case["fates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fate| {
            let after = seconds(&fate[1]).unwrap();
            let ended = match fate[0].as_str().unwrap() {
                "hang" => None,
                "ok" => Some((true, after)),
                _ => Some((false, after)),
            };
            // Their time limit is one for each attempt.
            match (ended, limit) {
                (Some((_, after)), Some(limit)) if after > limit => Some((false, limit)),
                (None, Some(limit)) => Some((false, limit)),
                (ended, _) => ended,
            }
        })
        .collect();
    let delay = seconds(&case["attemptDelay"]).unwrap_or(ms(300));
    let resolve = seconds(&case["resolve"]).unwrap();
    let ours = run(&fates, delay);

    // Recorded to the hundredth; whoever starts earlier than theirs is not late.
    let tolerance = ms(1);
    let cancel = seconds(&case["cancel"]);
    for event in case["trace"].as_array().unwrap() {
        if event[1] == "start" {
            let place = usize::try_from(event[2].as_u64().unwrap()).unwrap();
            let theirs = seconds(&event[0]).unwrap();
            match ours.starts.get(place) {
                Some(start) => {
                    assert!(resolve + *start <= theirs + tolerance, "{id}: start {place} of {ours:?}");
                }
                // Only where somebody had won before.
                None => assert!(
                    ours.over
                        .is_some_and(|(at, winner)| winner.is_some() && resolve + at <= theirs + tolerance),
                    "{id}: {place} was never started: {ours:?}"
                ),
            }
        }
    }
    let theirs = seconds(&case["result"]["at"]).unwrap();
    let Some((at, winner)) = ours.over else {
        assert!(cancel.is_some(), "{id}: {ours:?} never ends");
        return;
    };
    let at = resolve + at;
    if let Some(cancel) = cancel {
        // Given up before its end, or ended sooner than theirs.
        assert!(at <= theirs + tolerance || at >= cancel, "{id}: {ours:?}");
        return;
    }
    assert!(at <= theirs + tolerance, "{id}: over at {at:?}, theirs at {theirs:?}");
    let their_winner = case["result"]["winner"].as_u64().map(|place| usize::try_from(place).unwrap());
    if winner != their_winner {
        let sooner = winner.is_some() && at + tolerance < theirs;
        assert!(sooner, "{id}: {winner:?} in place of {their_winner:?} wins");
    }
}

proptest! {
    #[test]
    fn laws_of_racing(
        fates in prop::collection::vec(prop::option::of((any::<bool>(), (0..2000_u64).prop_map(ms))), 0..8),
        delay in (10..2000_u64).prop_map(ms),
    ) {
        let ours = run(&fates, delay);
        // Nobody starts before the delay is over, unless somebody failed.
        let failures: Vec<Duration> = fates.iter().zip(&ours.starts)
            .filter_map(|(fate, start)| match fate { Some((false, after)) => Some(*start + *after), _ => None })
            .collect();
        for pair in ours.starts.windows(2) {
            prop_assert!(
                pair[1] == pair[0] + delay || failures.iter().any(|at| (pair[0]..pair[0] + delay).contains(at) && pair[1] == *at),
                "{ours:?}"
            );
        }
        match ours.over {
            // Lost when all have failed, at the moment of the last failure.
            Some((at, None)) => {
                prop_assert!(fates.iter().all(|fate| matches!(fate, Some((false, _)))));
                prop_assert_eq!(at, failures.iter().max().copied().unwrap_or_default());
            }
            // Won by the first of those that were started to succeed.
            Some((at, Some(winner))) => {
                prop_assert_eq!(fates[winner].map(|(_, after)| ours.starts[winner] + after), Some(at));
                for (fate, start) in fates.iter().zip(&ours.starts) {
                    if let Some((true, after)) = fate {
                        prop_assert!(*start + *after >= at);
                    }
                }
            }
            // Endless only where none succeeds and one hangs.
            None => {
                prop_assert!(fates.iter().all(|fate| !matches!(fate, Some((true, _)))));
                prop_assert!(fates.iter().any(Option::is_none));
                prop_assert_eq!(ours.starts.len(), fates.len());
            }
        }
    }
}
