//! A single-threaded executor in virtual time: what happens next is decided by the seed alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::world::World;

/// A run's world and its time. Clones are of the same one.
#[derive(Clone)]
pub(crate) struct Sim {
    world: Arc<Mutex<World>>,
}

/// The tasks of a run. It alone polls them, one at a time.
pub(crate) struct Executor {
    pub(crate) sim: Sim,
    tasks: RefCell<BTreeMap<u64, Task>>,
}

/// What is to happen, by time; at one time in an order that the seed decides.
#[derive(Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(i64, u64, u64), Event>,
    number: u64,
    next_task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
    /// The task that is being polled.
    pub(crate) current: u64,
    pub(crate) now: i64,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Effect = Box<dyn FnOnce(&mut World) + Send>;

enum Event {
    /// A timer of a task ends.
    Wake(Arc<Mutex<Timer>>),
    /// Something lands, whether the task that wanted it is still there or not.
    Land { owner: u64, effect: Effect },
    /// A task begins.
    Begin(u64),
    /// A task is killed, if it is still there.
    Kill(u64),
}

#[derive(Default)]
struct Timer {
    is_over: bool,
    waker: Option<Waker>,
}

/// Ends at its time.
pub(crate) struct Wait {
    sim: Sim,
    at: i64,
    timer: Option<Arc<Mutex<Timer>>>,
}

struct Readiness {
    task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Readiness {
    fn wake(self: Arc<Self>) {
        locked(&self.ready).push_back(self.task);
    }
}

impl Agenda {
    pub(crate) fn starting_at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }
}

impl Sim {
    pub(crate) fn new(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)) }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.world)
    }

    pub(crate) fn now(&self) -> i64 {
        self.world().agenda.now
    }

    /// Waits so many nanoseconds.
    pub(crate) fn wait(&self, nanos: i64) -> Wait {
        Wait { sim: self.clone(), at: self.now().saturating_add(nanos.max(0)), timer: None }
    }
}

impl Executor {
    pub(crate) fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), tasks: RefCell::default() }
    }

    /// Lets a task begin at `at`; returns its number.
    pub(crate) fn begin(&self, at: i64, future: impl Future<Output = ()> + 'static) -> u64 {
        let mut world = self.sim.world();
        world.agenda.next_task += 1;
        let task = world.agenda.next_task;
        world.put(at, Event::Begin(task));
        self.tasks.borrow_mut().insert(task, Box::pin(future));
        task
    }

    /// Kills a task at `at`, if it has begun by then and is still there.
    pub(crate) fn kill_at(&self, at: i64, task: u64) {
        self.sim.world().put(at, Event::Kill(task));
    }

    /// Runs until nothing is left to happen, or something has gone wrong.
    pub(crate) fn run(&self) {
        let ready = Arc::clone(&self.sim.world().agenda.ready);
        let mut tasks = self.tasks.borrow_mut();
        loop {
            loop {
                let Some(number) = locked(&ready).pop_front() else { break };
                let Some(task) = tasks.get_mut(&number) else { continue };
                self.sim.world().agenda.current = number;
                let waker = Waker::from(Arc::new(Readiness { task: number, ready: Arc::clone(&ready) }));
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    tasks.remove(&number);
                }
            }
            let event = {
                let mut world = self.sim.world();
                if world.watch.violation.is_some() {
                    return;
                }
                let Some(((at, _, _), event)) = world.agenda.events.pop_first() else {
                    if !tasks.is_empty() {
                        world.violate(format!("{} tasks wait for ever", tasks.len()));
                    }
                    return;
                };
                world.agenda.now = at;
                world.stats.steps += 1;
                event
            };
            match event {
                Event::Wake(timer) => {
                    let mut timer = locked(&timer);
                    timer.is_over = true;
                    if let Some(waker) = timer.waker.take() {
                        waker.wake();
                    }
                }
                Event::Land { owner, effect } => {
                    let mut world = self.sim.world();
                    world.agenda.current = owner;
                    effect(&mut world);
                }
                Event::Begin(task) => locked(&ready).push_back(task),
                Event::Kill(task) => {
                    let killed = tasks.remove(&task);
                    if killed.is_some() {
                        self.sim.world().lose_half_of(task);
                    }
                    drop(killed);
                }
            }
        }
    }
}

impl World {
    fn put(&mut self, at: i64, event: Event) {
        self.agenda.number += 1;
        let order = self.random.next();
        let at = at.max(self.agenda.now);
        self.agenda.events.insert((at, order, self.agenda.number), event);
    }

    /// Lets something happen in so many nanoseconds, whatever becomes of the task that runs now.
    pub(crate) fn land_in(&mut self, nanos: i64, effect: impl FnOnce(&mut Self) + Send + 'static) {
        let (at, owner) = (self.agenda.now + nanos, self.agenda.current);
        self.put(at, Event::Land { owner, effect: Box::new(effect) });
    }

    /// A killed task's calls under way: some were sent, some never will be.
    fn lose_half_of(&mut self, task: u64) {
        self.stats.kills += 1;
        self.note(|| format!("task {task} is killed"));
        let is_its = |event: &Event| matches!(event, Event::Land { owner, .. } if *owner == task);
        let under_way: Vec<(i64, u64, u64)> =
            self.agenda.events.iter().filter(|(_, event)| is_its(event)).map(|(key, _)| *key).collect();
        for key in under_way {
            if self.random.chance(500) {
                self.agenda.events.remove(&key);
                self.note(|| "  and with it a call under way".to_owned());
            }
        }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &self.timer {
            Some(timer) => {
                let mut timer = locked(timer);
                if timer.is_over {
                    return Poll::Ready(());
                }
                timer.waker = Some(context.waker().clone());
            }
            None => {
                let timer = Arc::new(Mutex::new(Timer { is_over: false, waker: Some(context.waker().clone()) }));
                let at = self.at;
                self.sim.world().put(at, Event::Wake(Arc::clone(&timer)));
                self.timer = Some(timer);
            }
        }
        Poll::Pending
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
