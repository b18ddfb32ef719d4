//! One thread of the load generator, and its runtime.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::args::Pace;
use super::dialer::Dialer;
use super::driver::{Driver, Record, Role};
use super::feed::{End, Feed};
use super::floor::{Desk, Floor, Run};
use super::line::Line;
use super::pacer::{self, Schedule};
use super::setup::{Hands, SetupError, Site, set_up};
use super::usage;

/// A running thread.
pub struct Crew {
    /// Says when everything is set up.
    pub ready: oneshot::Receiver<Result<(), SetupError>>,
    /// Says when the run begins.
    pub begin: oneshot::Sender<Instant>,
    pub desk: Arc<Mutex<Desk>>,
    /// What it has done, once the run has ended.
    pub outcome: oneshot::Receiver<Outcome>,
}

/// What a thread has done.
#[derive(Debug, Default)]
pub struct Outcome {
    pub records: Vec<Record>,
    pub effort: Effort,
}

/// What a thread has used while the run lasted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    pub time: Duration,
    /// How much of it it was at work.
    pub busy: Option<Duration>,
    /// How much of it it waited for a core.
    pub waited: Option<Duration>,
}

impl Crew {
    /// Starts the thread of that number. It ends some time after `end`.
    ///
    /// # Errors
    ///
    /// When the system has no thread or no runtime left.
    pub fn start(
        run: &Arc<Run>,
        site: &Site,
        number: usize,
        end: &CancellationToken,
    ) -> std::io::Result<Crew> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (say_ready, ready) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let (say_outcome, outcome) = oneshot::channel();
        let desk = Arc::<Mutex<Desk>>::default();
        let (run, site, end) = (Arc::clone(run), site.clone(), end.clone());
        let shared = Arc::clone(&desk);
        let work = async move {
            let users = (number..run.plan.users).step_by(run.plan.threads).collect();
            let hands = match set_up(&run, &site, users).await {
                Ok(hands) => hands,
                Err(error) => {
                    // Nobody listens when another thread has failed already.
                    let _ = say_ready.send(Err(error));
                    return;
                }
            };
            let _ = say_ready.send(Ok(()));
            let Ok(begun) = begun.await else {
                return;
            };
            let floor = Floor {
                run,
                desk: shared,
                begun,
            };
            let shift = Shift::new(&floor, hands);
            let _ = say_outcome.send(shift.until(end, &floor, number).await);
        };
        thread::Builder::new()
            .name(format!("load-{number}"))
            .spawn(move || runtime.block_on(work))?;
        Ok(Crew {
            ready,
            begin,
            desk,
            outcome,
        })
    }
}

/// The tasks of a thread.
#[derive(Default)]
struct Shift {
    tasks: JoinSet<Record>,
    feeds: Vec<Arc<Feed>>,
    /// Those of the users who make requests.
    asking: Vec<Arc<Feed>>,
}

impl Shift {
    fn new(floor: &Floor, hands: Hands) -> Shift {
        let mut shift = Shift::default();
        match hands {
            Hands::Askers(askers) => shift.drive(floor, askers),
            Hands::Talkers(talkers) => shift.drive(floor, talkers),
            Hands::Readers(readers) => shift.drive(floor, readers),
            Hands::Dialers(count, gateway) => {
                for number in 0..count {
                    let dialer = Dialer {
                        gateway,
                        // So that they are not all at the same source address.
                        dialled: u16::try_from(number * 7).unwrap_or_default(),
                        feed: shift.feed(true),
                        floor: floor.clone(),
                    };
                    shift.tasks.spawn(dialer.run());
                }
            }
        }
        shift
    }

    fn drive<R: Role>(&mut self, floor: &Floor, roles: Vec<(R, Line)>) {
        for (role, line) in roles {
            let driver = Driver {
                feed: self.feed(role.asks()),
                role,
                line,
                floor: floor.clone(),
                open: VecDeque::new(),
                due: VecDeque::new(),
                is_leaving: false,
            };
            self.tasks.spawn(driver.run());
        }
    }

    fn feed(&mut self, asks: bool) -> Arc<Feed> {
        let feed = Arc::<Feed>::default();
        self.feeds.push(Arc::clone(&feed));
        if asks {
            self.asking.push(Arc::clone(&feed));
        }
        feed
    }

    /// Works until the end, and lets everyone leave.
    async fn until(mut self, end: CancellationToken, floor: &Floor, number: usize) -> Outcome {
        let before = (Instant::now(), usage::thread_cpu(), usage::thread_waited());
        let pacer = self.pace(floor, number);
        end.cancelled().await;
        let since = |now: Option<Duration>, before: Option<Duration>| now?.checked_sub(before?);
        let effort = Effort {
            time: before.0.elapsed(),
            busy: since(usage::thread_cpu(), before.1),
            waited: since(usage::thread_waited(), before.2),
        };
        if let Some(pacer) = pacer {
            pacer.abort();
        }
        self.tell(End::Leave);
        let mut records = Vec::new();
        let patience = floor.run.plan.patience;
        if tokio::time::timeout(patience, join(&mut self.tasks, &mut records))
            .await
            .is_err()
        {
            self.tell(End::Now);
            join(&mut self.tasks, &mut records).await;
        }
        Outcome { records, effort }
    }

    fn pace(&self, floor: &Floor, number: usize) -> Option<JoinHandle<()>> {
        let plan = &floor.run.plan;
        let Pace::Open(rate) = plan.pace else {
            return None;
        };
        if self.asking.is_empty() {
            return None;
        }
        let schedule = Schedule {
            rate,
            first: number as u64,
            step: plan.threads.min(plan.senders()) as u64,
            end: Schedule::length(rate, plan.time, plan.count),
            early: pacer::early(plan.is_private),
        };
        let feeds = self.asking.clone();
        Some(tokio::spawn(schedule.hand_out(feeds, floor.clone())))
    }

    fn tell(&self, end: End) {
        for feed in &self.feeds {
            feed.end(end);
        }
    }
}

async fn join(tasks: &mut JoinSet<Record>, records: &mut Vec<Record>) {
    while let Some(ended) = tasks.join_next().await {
        records.extend(ended);
    }
}
