//! Publishers, prunes, rollbacks and readers over an eventually consistent store, in virtual time: a seed is a history, and in
//! none of them is an answer wrong. docs/SIMULATION.md says what is modelled and how to replay a seed.
#![expect(clippy::print_stdout, reason = "it prints what happened, and the trace of a seed")]

#[path = "simulation/actors.rs"]
mod actors;
#[path = "simulation/broken.rs"]
mod broken;
#[path = "simulation/chain.rs"]
mod chain;
#[path = "simulation/executor.rs"]
mod executor;
#[path = "simulation/origin.rs"]
mod origin;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/world.rs"]
mod world;

use std::sync::atomic::{AtomicBool, Ordering};

use broken::Broken;
use run::run;
use world::Stats;

#[test]
fn no_history_gives_a_wrong_answer() {
    if let Some(seed) = variable("MEZZE_SIM_SEED") {
        return replay(seed);
    }
    let seeds = variable("MEZZE_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    chain::Chain::get();
    let found = AtomicBool::new(false);
    let parts: Vec<(Stats, Option<u64>)> = std::thread::scope(|scope| {
        let part = |first: u64| {
            let found = &found;
            scope.spawn(move || {
                let mut stats = Stats::default();
                for seed in (first..seeds).step_by(threads as usize) {
                    if found.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = run(seed, Broken::Nothing, false);
                    stats.merge(&outcome.stats);
                    if outcome.violation.is_some() {
                        found.store(true, Ordering::Relaxed);
                        return (stats, Some(seed));
                    }
                }
                (stats, None)
            })
        };
        let parts: Vec<_> = (0..threads).map(part).collect();
        parts.into_iter().map(|part| part.join().expect("it does not panic")).collect()
    });
    if let Some(seed) = parts.iter().filter_map(|(_, seed)| *seed).min() {
        replay(seed);
    }
    let mut stats = Stats::default();
    parts.iter().for_each(|(part, _)| stats.merge(part));
    println!("{}", line(seeds, &stats));
    for what in HAPPENS {
        assert!(stats.of(what) > 0, "no {what} in {seeds} seeds: {stats:?}");
    }
    assert_eq!(stats.of("ends of staleness"), seeds);
    for status in ["200", "409", "503"] {
        assert!(stats.responses.contains_key(status), "no response of status {status}");
    }
    assert!(stats.steps_back.len() == 2 && stats.kills > 0, "{stats:?}");
}

#[test]
fn a_seed_gives_one_history() {
    for seed in 0..20 {
        let (first, second) = (run(seed, Broken::Nothing, true), run(seed, Broken::Nothing, true));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert!(!first.trace.is_empty());
    }
}

#[test]
fn a_broken_fallback_is_found() {
    finds(Broken::Fallback, "(a)");
}

#[test]
fn a_broken_lease_is_found() {
    finds(Broken::Lease, "(");
}

#[test]
fn a_broken_prune_is_found() {
    finds(Broken::Prune, "(");
}

#[test]
fn a_head_before_its_pages_is_found() {
    finds(Broken::Order, "(f)");
}

#[test]
fn verification_that_is_left_out_is_found() {
    finds(Broken::Verification, "(a)");
}

/// Breaks something in all seeds until one finds it by this rule.
fn finds(broken: Broken, rule: &str) {
    let found = (0..SEEDS_TO_FIND).find_map(|seed| {
        let violation = run(seed, broken, false).violation.filter(|violation| violation.starts_with(rule))?;
        Some((seed, violation))
    });
    let Some((seed, violation)) = found else { panic!("{broken:?} goes unnoticed in {SEEDS_TO_FIND} seeds") };
    println!("{broken:?}: seed {seed}: {}", violation.lines().next().unwrap_or_default());
}

/// Runs one seed and prints what happens.
fn replay(seed: u64) {
    let outcome = run(seed, Broken::Nothing, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{}", line(1, &outcome.stats));
    if let Some(violation) = outcome.violation {
        panic!("{violation}\nreplay: MEZZE_SIM_SEED={seed} cargo test -p mezze-cli --test simulation no_history -- --nocapture");
    }
}

fn line(seeds: u64, stats: &Stats) -> String {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<String> = stats.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    format!(
        "{seeds} seeds, {} steps, responses {{{}}}, steps back {{{}}}, kills {}, {}",
        stats.steps,
        counts(&stats.responses),
        counts(&stats.steps_back),
        stats.kills,
        all.join(", ")
    )
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Seeds of a normal run.
const SEEDS: u64 = 10_000;
/// Seeds in which something that is broken must be found.
const SEEDS_TO_FIND: u64 = 500;
/// What a run in which nothing happens does not count.
const HAPPENS: [&str; 18] = [
    "busy",
    "damaged copies",
    "epochs",
    "failed calls",
    "heads",
    "keys not done",
    "keys pruned",
    "keys written",
    "materializations",
    "objects pruned",
    "pauses",
    "pins",
    "prunes",
    "publishes",
    "publishes: conflict",
    "publishes: held",
    "replica rollbacks",
    "rollbacks",
];
