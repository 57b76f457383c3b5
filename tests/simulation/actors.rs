//! Who does something: publishers, the prune, the materialiser, operators, and clients with the gateways that they ask.

use std::sync::{Arc, Mutex};

use mezze_core::{Exchange, Gateway, HttpRequest, HttpResponse, Route, Span, Step, Timestamp, route};
use mezze_replica::{Error, KeyValue, NewEpoch, Origin, Pin, Prune, Publish, PublishReport, Replica, Store, Target};

use crate::broken::{Broken, NaiveGateway};
use crate::chain::{Chain, config, requests};
use crate::executor::{Sim, locked};
use crate::origin::{ActorClock, BrokenOrigin, Place, latency};
use crate::store::Kv;
use crate::world::SECOND;

/// One who may be killed, with a clock and a way to the origin of its own.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) sim: Sim,
    pub(crate) name: &'static str,
    pub(crate) skew: i64,
    pub(crate) broken: Broken,
}

/// The memory of one isolate at a point of presence.
pub(crate) enum Isolate {
    Real(Box<Gateway>),
    Broken(NaiveGateway),
}

impl Actor {
    fn origin(&self) -> Origin {
        let broken = match (self.broken, self.name) {
            (Broken::Lease, _) => BrokenOrigin::ForeignLeases,
            (Broken::Prune, "prune") => BrokenOrigin::PublishRecords,
            _ => BrokenOrigin::None,
        };
        Origin::new(Store::of(Place { sim: self.sim.clone(), broken, actor: self.name }))
    }

    fn clock(&self) -> ActorClock {
        ActorClock { sim: self.sim.clone(), skew: self.skew }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.sim.now() + self.skew)
    }

    fn store(&self) -> Arc<dyn KeyValue> {
        let setting = self.sim.world().setting.clone();
        Arc::new(Kv::new(&self.sim, &setting, self.broken == Broken::Order))
    }

    fn said(&self, what: &str, result: Result<String, Error>) {
        let mut world = self.sim.world();
        match result {
            Ok(done) => world.note(|| format!("{}: {what}: {done}", self.name)),
            Err(error) => world.note(|| format!("{}: {what} fails: {error}", self.name)),
        }
    }

    pub(crate) async fn publish(self) -> Result<PublishReport, Error> {
        self.sim.world().note(|| format!("{}: publish begins", self.name));
        let audience = self.sim.world().setting.audience;
        let target = Target::Keys(self.store());
        let clock = self.clock();
        let publish = Publish {
            replica: REPLICA,
            target: &target,
            audience,
            holder: self.name,
            lease: Span::from_seconds(LEASE_SECONDS),
            clock: &clock,
            signer: None,
            progress: &|_| (),
        };
        let result = publish.run(&self.origin()).await;
        let mut world = self.sim.world();
        match &result {
            Ok(report) => {
                world.stats.count("publishes");
                world.watch_report(report);
            }
            Err(error) => world.stats.count(kind(error)),
        }
        drop(world);
        let said = result.as_ref().map(|report| format!("epoch {}", report.record.epoch)).map_err(Clone::clone);
        self.said("publish", said);
        result
    }

    pub(crate) async fn prune(self, epochs_kept: Option<usize>) {
        self.sim.world().note(|| format!("{}: prune begins", self.name));
        let audience = self.sim.world().setting.audience;
        let clock = self.clock();
        let replicas = [Replica { name: REPLICA.to_owned(), target: Target::Keys(self.store()), audience }];
        let mut prune = Prune::new(&clock, self.name);
        prune.epochs_kept = epochs_kept;
        prune.replicas = &replicas;
        let result = prune.run(&self.origin()).await;
        self.sim.world().stats.count(if result.is_ok() { "prunes" } else { "prunes that failed" });
        self.said("prune", result.map(|report| format!("{} removed", report.removed.len())));
    }

    /// Writes the next snapshot of the chain as a build does, and gives it an epoch.
    pub(crate) async fn materialize(self) {
        let result = self.try_materialize().await;
        if result.is_ok() {
            self.sim.world().stats.count("materializations");
        }
        self.said("materialize", result);
    }

    async fn try_materialize(&self) -> Result<String, Error> {
        let (origin, chain) = (self.origin(), Chain::get());
        let number = self.sim.world().watch.revealed();
        let Some(link) = chain.links.get(number) else { return Ok("nothing new".to_owned()) };
        origin.refresh_head().await?;
        let latest = origin.latest().await?;
        let before = latest.as_ref().and_then(|latest| chain.link_of(latest.snapshot)).map(|link| &chain.links[link]);
        for (key, bytes) in &link.objects {
            // What the snapshot before has as well is not written again.
            if before.is_none_or(|before| before.objects.iter().all(|(known, _)| known != key)) {
                origin.store().replace(key, bytes.clone()).await?;
            }
        }
        let after = latest.map(|latest| latest.epoch);
        let new = NewEpoch { after, parent: after, snapshot: link.snapshot, reason: link.reason, issued_at: self.now() };
        origin.commit(new).await.map(|record| format!("epoch {}", record.epoch))
    }

    pub(crate) async fn roll_back(self, to: Option<u64>) {
        let result = self.origin().rollback(to, self.now()).await;
        self.sim.world().stats.count(if result.is_ok() { "rollbacks" } else { "rollbacks refused" });
        self.said("rollback", result.map(|record| format!("epoch {}", record.epoch)));
    }

    pub(crate) async fn roll_back_replica(self, to: Option<u64>) {
        let result = self.origin().rollback_replica(REPLICA, to, self.name, self.now()).await;
        self.sim.world().stats.count(if result.is_ok() { "replica rollbacks" } else { "rollbacks refused" });
        self.said("rollback of the replica", result.map(|record| format!("epoch {}", record.epoch)));
    }

    pub(crate) async fn pin(self, on: bool) {
        let origin = self.origin();
        let result = async {
            let served = origin.publish_record(REPLICA).await?;
            let pin = match served.filter(|_| on) {
                Some(served) => Some(pin_of(served.epoch, self.now(), self.name)),
                None => None,
            };
            let said = pin.as_ref().map_or_else(|| "off".to_owned(), |pin| format!("epoch {}", pin.epoch));
            origin.set_pin(REPLICA, pin).await.map(|()| said)
        }
        .await;
        if result.is_ok() {
            self.sim.world().stats.count(if on { "pins" } else { "unpins" });
        }
        self.said("pin", result);
    }
}

/// There is no way to make one from outside but to read one.
fn pin_of(epoch: u64, at: Timestamp, holder: &str) -> Pin {
    let json = format!("{{\"epoch\":{epoch},\"pinned_at_nanos\":{},\"holder\":\"{holder}\"}}", at.nanos());
    serde_json::from_str(&json).expect("it is a pin")
}

/// What an error counts as.
const fn kind(error: &Error) -> &'static str {
    match error {
        Error::Busy { .. } => "publishes: busy",
        Error::Conflict { .. } => "publishes: conflict",
        Error::Corrupt { .. } => "publishes: not verified",
        Error::Held { .. } => "publishes: held",
        Error::Missing { .. } => "publishes: missing",
        Error::NoSnapshot { .. } => "publishes: no snapshot",
        Error::Refused(_) => "publishes: refused",
        Error::Unavailable { .. } => "publishes: unavailable",
        _ => "publishes: other errors",
    }
}

/// One request to one isolate, read by read.
pub(crate) async fn respond(
    sim: &Sim,
    isolate: &Arc<Mutex<Isolate>>,
    point: usize,
    skew: i64,
    number: usize,
    seen: Option<u64>,
) -> HttpResponse {
    let audience = sim.world().setting.audience;
    let asked = &requests(audience)[number];
    let text = seen.map(|seen| seen.to_string());
    let headers: Vec<(&str, &str)> = text.iter().map(|text| ("x-mezze-epoch", text.as_str())).collect();
    let request = HttpRequest { method: asked.method, path: asked.path, query: asked.query.as_deref(), headers: &headers };
    let ask = match route(&config(), &request) {
        Route::Ask(ask) => ask,
        Route::Respond(response) => return response,
    };
    let broken = if let Isolate::Broken(naive) = &*locked(isolate) { Some(*naive) } else { None };
    if let Some(naive) = broken {
        return naive.respond(sim, point, &ask, asked.body.as_bytes(), Timestamp::from_nanos(sim.now() + skew)).await;
    }
    let mut exchange = Exchange::new(ask, asked.body.clone().into_bytes());
    let mut fetched = Vec::new();
    loop {
        let now = Timestamp::from_nanos(sim.now() + skew);
        let step = match &mut *locked(isolate) {
            Isolate::Real(gateway) => gateway.step(&mut exchange, fetched, now),
            Isolate::Broken(_) => unreachable!("it was looked at"),
        };
        match step {
            Step::Done(response) => return response,
            Step::Read(reads) => {
                fetched = Vec::with_capacity(reads.len());
                for read in &reads {
                    let pause = latency(&mut sim.world()) / 4;
                    sim.wait(pause).await;
                    fetched.push(sim.world().fetch(point, read));
                }
            }
        }
    }
}

/// The replica that everybody publishes to.
pub(crate) const REPLICA: &str = "prod";
pub(crate) const LEASE_SECONDS: i64 = 120;
pub(crate) const MINUTE: i64 = 60 * SECOND;
