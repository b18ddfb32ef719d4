//! One thread of the load generator of `imd bench`, with a runtime of its own.

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
use super::generator::{Effort, Watch};
use super::run::{Run, WorkerState};
use super::setup::{SetupError, Site, Users, set_up};
use super::tally::Tally;
use super::user::{Record, User};

/// A running thread.
pub struct Worker {
    /// Resolves when all users of the thread are set up.
    pub ready: oneshot::Receiver<Result<(), SetupError>>,
    /// Takes the time when the run begins.
    pub begin: oneshot::Sender<Instant>,
    pub tally: Arc<Mutex<Tally>>,
    /// Resolves when the run has ended.
    pub outcome: oneshot::Receiver<Outcome>,
}

/// What a thread knows at the end of a run, beside its tally.
#[derive(Debug)]
pub struct Outcome {
    pub records: Vec<Record>,
    pub effort: Effort,
}

impl Worker {
    /// Starts the thread of that number. It ends some time after `end`.
    ///
    /// # Errors
    ///
    /// When the system can't start a thread or a runtime.
    pub fn start(
        run: &Arc<Run>,
        site: &Site,
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
        let (run, site, end) = (Arc::clone(run), site.clone(), end.clone());
        let shared = Arc::clone(&tally);
        let work = async move {
            let numbers = (number..run.plan.users).step_by(run.plan.threads).collect();
            let users = match set_up(&run, &site, numbers).await {
                Ok(users) => users,
                Err(error) => {
                    // Nobody listens when another thread has failed before.
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
    tasks: JoinSet<Record>,
    mailboxes: Vec<Arc<Mailbox>>,
    /// The mailboxes of the users who make requests.
    asking: Vec<Arc<Mailbox>>,
}

impl Tasks {
    fn start(users: Users, run: Arc<Run>, tally: Arc<Mutex<Tally>>, begun: Instant) -> Tasks {
        let mut tasks = Tasks {
            state: WorkerState { run, tally, begun },
            tasks: JoinSet::new(),
            mailboxes: Vec::new(),
            asking: Vec::new(),
        };
        match users {
            Users::Connected(users) => {
                for (role, connection) in users {
                    let mailbox = tasks.mailbox(role.asks());
                    let user = User::new(role, mailbox, tasks.state.clone());
                    tasks.tasks.spawn(user.run(connection));
                }
            }
            Users::Dialing(count, gateway) => {
                for number in 0..count {
                    let dialer = Dialer {
                        gateway,
                        // Spreads the users over the source addresses.
                        dialled: u16::try_from(number * 7).unwrap_or_default(),
                        mailbox: tasks.mailbox(true),
                        worker: tasks.state.clone(),
                    };
                    tasks.tasks.spawn(dialer.run());
                }
            }
        }
        tasks
    }

    fn mailbox(&mut self, asks: bool) -> Arc<Mailbox> {
        let mailbox = Arc::<Mailbox>::default();
        self.mailboxes.push(Arc::clone(&mailbox));
        if asks {
            self.asking.push(Arc::clone(&mailbox));
        }
        mailbox
    }

    /// Works until the end, and then waits until all users have closed their connections.
    async fn until(mut self, end: CancellationToken, number: usize) -> Outcome {
        let watch = Watch::start();
        let schedule = self.schedule(number);
        end.cancelled().await;
        let effort = watch.stop();
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
        Outcome { records, effort }
    }

    /// Starts to give requests to the users in turn, if the run has a schedule.
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
            watch: watch(plan.is_private),
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

    fn end(&self, end: End) {
        for mailbox in &self.mailboxes {
            mailbox.end(end);
        }
    }
}

/// How long before a request is due a thread watches the clock, in nanoseconds: about as long as waking up takes. A private
/// stack needs the core, if there is only one.
fn watch(is_private: bool) -> u64 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    if is_private && cores == 1 { 0 } else { 150_000 }
}

async fn join(tasks: &mut JoinSet<Record>, records: &mut Vec<Record>) {
    while let Some(ended) = tasks.join_next().await {
        records.extend(ended);
    }
}
