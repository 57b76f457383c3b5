//! One seed: a plan of who does what and when, then all of it, and then quiet.

use std::sync::{Arc, Mutex};

use mezze_core::Gateway;

use crate::actors::{Actor, Isolate, LEASE_SECONDS, MINUTE, respond};
use crate::broken::{Broken, NaiveGateway};
use crate::chain::{config, requests};
use crate::executor::{Executor, Sim, locked};
use crate::random::Random;
use crate::store::shown_after;
use crate::world::{SECOND, START, Stats, World};

/// What came of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<String>,
    pub(crate) stats: Stats,
    /// Empty where it was not wanted.
    pub(crate) trace: Vec<String>,
}

/// The hosts at the points of presence, and their clients.
#[derive(Clone)]
struct Hosts {
    broken: Broken,
    /// By point of presence, then by number.
    isolates: Arc<Vec<Vec<Slot>>>,
    skews: Arc<Vec<i64>>,
    /// The newest epoch that each client has seen.
    clients: Arc<Vec<Mutex<u64>>>,
}

/// Where an isolate is: one that loses its memory is another one, and requests under way end with the one that they began with.
struct Slot(Mutex<Arc<Mutex<Isolate>>>);

/// A request that a client makes.
#[derive(Clone, Copy)]
struct Visit {
    client: usize,
    point: usize,
    isolate: usize,
    asked: usize,
    says_epoch: bool,
    forgets: bool,
}

pub(crate) fn run(seed: u64, broken: Broken, traced: bool) -> Outcome {
    let mut world = World::new(seed, traced);
    let setting = world.setting.clone();
    world.note(|| format!("seed {seed}: {setting:?}"));
    // The plan has chance of its own, so that it stays the same whatever happens.
    let mut random = Random::new(world.random.next());
    let sim = Sim::new(world);
    let hosts = Hosts::new(&mut random, broken, setting.points);
    let executor = Executor::new(&sim);
    plan(&executor, &hosts, &mut random, broken);
    executor.run();
    if sim.world().watch.violation.is_none() {
        sim.world().calm();
        let (quiet, now) = (sim.clone(), sim.now());
        executor.begin(now, async move { end_of_staleness(&quiet, &hosts, broken).await });
        executor.run();
    }
    let mut world = sim.world();
    Outcome {
        violation: world.watch.violation.take(),
        stats: std::mem::take(&mut world.stats),
        trace: world.trace.take().unwrap_or_default(),
    }
}

fn plan(executor: &Executor, hosts: &Hosts, random: &mut Random, broken: Broken) {
    let sim = &executor.sim;
    let setting = sim.world().setting.clone();
    let mut actor = |name| Actor { sim: sim.clone(), name, skew: random.between(-3, 3) * SECOND, broken };
    let (a, b, pruner, builder, operator) = (actor("a"), actor("b"), actor("prune"), actor("build"), actor("operator"));
    // Each seed has its own ways: what is done once a day in one is done every minute in another.
    let mut often = |usual: u32, most: u32| if random.chance(500) { usual } else { random.between(0, i64::from(most)) as u32 };
    let (new, back, replica_back) = (often(600, 1_000), often(100, 400), often(100, 600));
    let (pin, unpin, prune) = (often(50, 200), often(250, 800), often(350, 900));
    let (haste, hours) = (often(8, 18), often(14, 20));
    let mut at = START;
    for round in 0..random.between(5, 13) {
        at += match random.below(20) as u32 {
            gap if gap < haste => random.between(10, 150) * SECOND,
            gap if gap < hours => random.between(3, 25) * MINUTE,
            gap if gap < 18 => random.between(45, 130) * MINUTE,
            _ => random.between(24, 30) * 60 * MINUTE,
        };
        if round == 0 || random.chance(new) {
            killable(executor, random, at, 20, builder.clone().materialize());
        }
        if random.chance(50) {
            killable(executor, random, at, 100, builder.clone().materialize());
        }
        let to = random.chance(300).then(|| 1 + random.below(round as u64 + 1));
        if random.chance(back) {
            killable(executor, random, at, 120, operator.clone().roll_back(to));
        }
        if random.chance(replica_back) {
            killable(executor, random, at, 120, operator.clone().roll_back_replica(to));
        }
        if random.chance(pin) {
            killable(executor, random, at, 120, operator.clone().pin(true));
        }
        if random.chance(unpin) {
            killable(executor, random, at, 120, operator.clone().pin(false));
        }
        for (publisher, chance) in [(&a, 750), (&b, 450), (&a, 150)] {
            if random.chance(chance) {
                let publisher = publisher.clone();
                killable(executor, random, at, 150, async move { drop(publisher.publish().await) });
            }
        }
        if random.chance(prune) {
            let kept = random.pick(&[Some(1), Some(2), Some(3), Some(9), None]);
            killable(executor, random, at, 300, pruner.clone().prune(kept));
        }
        for _ in 0..random.between(3, 14) {
            let visit = Visit {
                client: random.index(CLIENTS),
                point: random.index(setting.points),
                isolate: random.index(ISOLATES),
                asked: random.index(requests(setting.audience).len()),
                says_epoch: random.chance(700),
                forgets: random.chance(120),
            };
            let (sim, hosts) = (sim.clone(), hosts.clone());
            let begins = at + random.between(0, 300_000) * SECOND / 1_000;
            executor.begin(begins, async move { hosts.visit(&sim, visit).await });
        }
    }
}

/// Lets an actor do something within so many seconds of `at`, and kills it in the midst of it now and then.
fn killable(executor: &Executor, random: &mut Random, at: i64, seconds: i64, future: impl Future<Output = ()> + 'static) {
    let begins = at + random.between(0, seconds * 1_000) * SECOND / 1_000;
    let task = executor.begin(begins, future);
    let rate = executor.sim.world().setting.faults.kill;
    if random.chance(rate) {
        let millis = random.pick(&[300, 3_000, 30_000, 120_000]);
        executor.kill_at(begins + random.between(0, millis) * SECOND / 1_000, task);
    }
}

impl Hosts {
    fn new(random: &mut Random, broken: Broken, points: usize) -> Self {
        let isolates = (0..points).map(|_| (0..ISOLATES).map(|_| Slot(Mutex::new(isolate(broken)))).collect()).collect();
        Self {
            broken,
            isolates: Arc::new(isolates),
            skews: Arc::new((0..points).map(|_| random.between(-2, 2) * SECOND).collect()),
            clients: Arc::new((0..CLIENTS).map(|_| Mutex::new(0)).collect()),
        }
    }

    async fn visit(&self, sim: &Sim, visit: Visit) {
        let Visit { client, point, asked, .. } = visit;
        let slot = &self.isolates[point][visit.isolate];
        if visit.forgets {
            *locked(&slot.0) = isolate(self.broken);
        }
        let here = Arc::clone(&*locked(&slot.0));
        let seen = *locked(&self.clients[client]);
        let said = (visit.says_epoch && seen > 0).then_some(seen);
        let response = respond(sim, &here, point, self.skews[point], asked, said).await;
        let mut world = sim.world();
        let epoch = world.watch_response(asked, said.unwrap_or(0), &response);
        if let Some(epoch) = epoch {
            let mut seen = locked(&self.clients[client]);
            *seen = epoch.max(*seen);
        }
        world.note(|| {
            let back = response.header("x-mezze-steps-back").unwrap_or("0");
            let said = said.map_or_else(String::new, |said| format!(", as it had seen {said}"));
            format!("client {client} gets {} of epoch {epoch:?} at point {point}, {back} steps back{said}", response.status)
        });
    }
}

/// One last publish, and everybody has it in the time that is promised.
async fn end_of_staleness(sim: &Sim, hosts: &Hosts, broken: Broken) {
    let last = Actor { sim: sim.clone(), name: "last", skew: 0, broken };
    sim.world().note(|| "nothing goes wrong any more".to_owned());
    sim.wait((5 * LEASE_SECONDS) * SECOND).await;
    let setting = sim.world().setting.clone();
    if sim.world().watch.revealed() == 0 {
        last.clone().materialize().await;
    }
    last.clone().pin(false).await;
    let report = match last.publish().await {
        Ok(report) => report,
        Err(error) => return sim.world().violate(format!("(d) the last publish fails: {error}")),
    };
    sim.wait(shown_after(&setting, config().head_seconds)).await;
    let epoch = report.record.epoch;
    for (point, isolates) in hosts.isolates.iter().enumerate() {
        for slot in isolates {
            let here = Arc::clone(&*locked(&slot.0));
            for asked in 0..requests(setting.audience).len() {
                let response = respond(sim, &here, point, hosts.skews[point], asked, None).await;
                let mut world = sim.world();
                let found = world.watch_response(asked, 0, &response);
                if found != Some(epoch) || response.header("x-mezze-steps-back").is_some() {
                    let body = String::from_utf8_lossy(&response.body).into_owned();
                    world.violate(format!(
                        "(d) epoch {epoch} is published and known everywhere, and point {point} answers {} of epoch {found:?}: {body}",
                        response.status
                    ));
                    return;
                }
            }
        }
    }
    sim.world().stats.count("ends of staleness");
}

fn isolate(broken: Broken) -> Arc<Mutex<Isolate>> {
    let isolate = match broken {
        Broken::Fallback | Broken::Verification => Isolate::Broken(NaiveGateway { broken }),
        _ => Isolate::Real(Box::new(Gateway::new(config()))),
    };
    Arc::new(Mutex::new(isolate))
}

const CLIENTS: usize = 4;
/// At each point of presence.
const ISOLATES: usize = 2;
