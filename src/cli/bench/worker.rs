//! Runs one thread of the load generator of `imd bench`, with a runtime of its own.
//!
//! Serves [`measure`](super::measure). Threads share nothing but the run; the main thread only reads their tallies.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use imd::load::{End, Mailbox, Schedule};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::args::Pace;
use super::dialer::Dialer;
use super::generator::{ThreadUsage, UsageTimer};
use super::run::{Run, WorkerState};
use super::setup::{SetupError, StackAccess, Users, set_up};
use super::tally::Tally;
use super::user::{DeliveryRecord, User};

/// A running thread of the load generator.
pub struct Worker {
    /// Resolves when all users of the thread are set up, or when that failed.
    pub ready: oneshot::Receiver<Result<(), SetupError>>,
    /// Starts the run, with the time that all threads measure from.
    pub begin: oneshot::Sender<Instant>,
    /// What the thread has counted so far.
    pub tally: Arc<Mutex<Tally>>,
    /// Resolves when all users of the thread have ended.
    pub outcome: oneshot::Receiver<Outcome>,
}

/// The results of a thread at the end of a run, besides its tally.
#[derive(Debug)]
pub struct Outcome {
    pub records: Vec<DeliveryRecord>,
    pub usage: ThreadUsage,
}

impl Worker {
    /// Starts the thread with that number. It ends some time after `end` is cancelled.
    ///
    /// # Errors
    ///
    /// When the system can't start a thread or a runtime.
    pub fn start(
        run: &Arc<Run>,
        stack: &StackAccess,
        number: usize,
        end: &CancellationToken,
    ) -> std::io::Result<Worker> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (say_ready, ready) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let (say_outcome, outcome) = oneshot::channel();
        let tally = Arc::<Mutex<Tally>>::default();
        let (run, stack, end) = (Arc::clone(run), stack.clone(), end.clone());
        let shared = Arc::clone(&tally);
        let work = async move {
            let numbers = (number..run.plan.users).step_by(run.plan.threads).collect();
            let users = match set_up(&run, &stack, numbers).await {
                Ok(users) => users,
                Err(error) => {
                    // The receiver is gone when another thread has failed before.
                    let _ = say_ready.send(Err(error));
                    return;
                }
            };
            let _ = say_ready.send(Ok(()));
            let Ok(begun) = begun.await else {
                return;
            };
            let tasks = Tasks::start(users, run, shared, begun);
            let _ = say_outcome.send(tasks.until(end, number).await);
        };
        thread::Builder::new()
            .name(format!("load-{number}"))
            .spawn(move || runtime.block_on(work))?;
        Ok(Worker {
            ready,
            begin,
            tally,
            outcome,
        })
    }
}

/// The tasks of a thread, one for each user.
struct Tasks {
    state: WorkerState,
    tasks: JoinSet<DeliveryRecord>,
    /// The mailboxes of all users.
    mailboxes: Vec<Arc<Mailbox>>,
    /// The mailboxes of the users who make requests.
    asking: Vec<Arc<Mailbox>>,
}

impl Tasks {
    /// Spawns a task for each user.
    fn start(users: Users, run: Arc<Run>, tally: Arc<Mutex<Tally>>, begun: Instant) -> Tasks {
        let mut tasks = Tasks {
            state: WorkerState { run, tally, begun },
            tasks: JoinSet::new(),
            mailboxes: Vec::new(),
            asking: Vec::new(),
        };
        match users {
            Users::Connected(users) => {
                for (number, role, connection) in users {
                    let mailbox = tasks.mailbox(number, role.asks());
                    let user = User::new(role, mailbox, tasks.state.clone());
                    tasks.tasks.spawn(user.run(connection));
                }
            }
            Users::Dialing(numbers, gateway) => {
                for (position, number) in numbers.into_iter().enumerate() {
                    let dialer = Dialer {
                        gateway,
                        // The step spreads the users over the source addresses.
                        connection_number: u16::try_from(position * 7).unwrap_or_default(),
                        mailbox: tasks.mailbox(number, true),
                        worker: tasks.state.clone(),
                    };
                    tasks.tasks.spawn(dialer.run());
                }
            }
        }
        tasks
    }

    /// Returns the mailbox of the user with this number. `asks` says whether the user makes requests.
    fn mailbox(&mut self, number: usize, asks: bool) -> Arc<Mailbox> {
        let mailbox = self.state.run.mailboxes.get(number).cloned();
        let mailbox = mailbox.unwrap_or_default();
        self.mailboxes.push(Arc::clone(&mailbox));
        if asks {
            self.asking.push(Arc::clone(&mailbox));
        }
        mailbox
    }

    /// Runs until the end of the run, and then waits until all users have closed their connections. Users who take
    /// too long are stopped.
    async fn until(mut self, end: CancellationToken, number: usize) -> Outcome {
        let watch = UsageTimer::start();
        let schedule = self.schedule(number);
        end.cancelled().await;
        let usage = watch.stop();
        if let Some(schedule) = schedule {
            schedule.abort();
        }
        self.end(End::Leave);
        let mut records = Vec::new();
        let patience = self.state.run.plan.patience;
        let joined = join(&mut self.tasks, &mut records);
        if tokio::time::timeout(patience, joined).await.is_err() {
            self.end(End::Now);
            join(&mut self.tasks, &mut records).await;
        }
        Outcome { records, usage }
    }

    /// Starts to assign scheduled requests to the users in turn. Returns `None` when the run has no schedule.
    fn schedule(&self, number: usize) -> Option<JoinHandle<()>> {
        let plan = &self.state.run.plan;
        let Pace::Open(rate) = plan.pace else {
            return None;
        };
        if self.asking.is_empty() {
            return None;
        }
        let schedule = Schedule {
            begun: self.state.begun,
            rate,
            first: number as u64,
            step: plan.threads.min(plan.senders()) as u64,
            end: Schedule::length(rate, plan.time, plan.count),
            watch: watch(plan.shares_cores),
        };
        let (mailboxes, tally) = (self.asking.clone(), Arc::clone(&self.state.tally));
        Some(tokio::spawn(async move {
            let mut mailboxes = mailboxes.iter().cycle();
            let request = |due| {
                tally.lock().counts.scheduled += 1;
                if let Some(mailbox) = mailboxes.next() {
                    mailbox.push(due);
                }
            };
            schedule.run(request).await;
        }))
    }

    /// Tells all users how to end.
    fn end(&self, end: End) {
        for mailbox in &self.mailboxes {
            mailbox.end(end);
        }
    }
}

/// Returns for how long before a due request a thread busily watches the clock, in nanoseconds: about as long as
/// waking up takes. It is 0 when a private stack needs the only core.
fn watch(shares_cores: bool) -> u64 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    if shares_cores && cores == 1 {
        0
    } else {
        150_000
    }
}

/// Collects the records of all users that end.
async fn join(tasks: &mut JoinSet<DeliveryRecord>, records: &mut Vec<DeliveryRecord>) {
    while let Some(ended) = tasks.join_next().await {
        records.extend(ended);
    }
}
