//! Runs `imd bench`: puts load on a stack, measures it, and checks that every message arrived exactly once.
//!
//! Connections, schedules and statistics are those of [`imd::load`]. This module adds the behaviour of the users, the
//! report and the private stack, which has a core of its own. Each thread of the load generator has its own runtime and
//! users; this module only starts the threads, watches their counts and collects their results.

mod args;
mod check;
mod connection;
mod dialer;
mod generator;
mod private;
mod progress;
mod reader;
mod repeater;
mod report;
mod run;
mod sender;
mod seqs;
mod setup;
mod stamp;
mod tally;
mod user;
mod worker;

pub use args::BenchArgs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use imd::Client;
use imd::client::ask_gateway;
use imd::listener::raise_file_limit;
use imd::load::{nanos, usage};
use imd::metrics::resident;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::link::LinkError;
use super::signals::Signals;
use super::{advice, api, endpoint, environment, output, settings};
use args::{Kind, Pace, Plan};
use private::Private;
use progress::Progress;
use report::{Measurements, Report, Server};
use run::Run;
use setup::StackAccess;
use tally::{Counts, Tally};
use worker::Worker;

/// How often the counts are checked for the end of the run.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Number of files that are reserved for other things than connections: as many as a stack reserves.
const RESERVED_FILES: u64 = 128;

/// Runs a benchmark and prints its report.
///
/// # Errors
///
/// When the benchmark can't be run, when a signal stops it, and when a message did not arrive exactly once. In the
/// last case, the report was printed.
pub async fn run(args: &BenchArgs) -> Result<(), Failure> {
    let args = &args.with_environment();
    let mut plan = Plan::new(args)?;
    check_file_limit(&plan)?;
    let salt = match &args.addr {
        Some(_) => settings::salt(args.config.as_deref())?,
        None => settings::load(args.config.as_deref())?.auth.salt,
    };
    let mut signals = Signals::listen()?;
    let private = match &args.addr {
        Some(addr) => {
            check_stack(addr).await?;
            None
        }
        None => Some(Private::start(
            args.config.as_deref(),
            args.store.as_deref(),
            args.share_cores,
        )?),
    };
    plan.shares_cores = private.as_ref().is_some_and(|imd| !imd.has_own_core);
    let measured = tokio::select! {
        biased;
        () = signals.next() => Err(stopped_by_signal()),
        report = measure(args, plan, salt, private.as_ref()) => report,
    };
    let stop = async {
        match private {
            Some(private) => private.stop().await,
            None => Ok(()),
        }
    };
    // Dropping a private imd that has not ended kills it.
    let stopped = tokio::select! {
        biased;
        () = signals.next() => Err(stopped_by_signal()),
        stopped = stop => stopped,
    };
    let report = measured?;
    let print = async {
        match args.json {
            true => output::print_json(&report).await,
            false => output::print(report.text().trim_end()).await,
        }
    };
    let printed = tokio::select! {
        biased;
        () = signals.next() => Err(stopped_by_signal()),
        printed = print => printed,
    };
    // Even if nobody reads stdout any more, the exit code says how the run went.
    stopped?;
    match report.wrong() {
        Some(wrong) => Err(Failure::Failed(wrong)),
        None => printed,
    }
}

/// Makes sure that there is a gateway at the address, and that the access server it returns can be reached.
async fn check_stack(addr: &str) -> Result<(), Failure> {
    let source = environment::source(environment::GATEWAY, "--addr", addr);
    let wrong = |why| Failure::Usage(format!("{source} {addr}: {why}"));
    endpoint::host_and_port(addr).map_err(wrong)?;
    let access = match ask_gateway(addr).await {
        Ok(access) => access,
        Err(error) => {
            let flags = "--addr HOST:PORT";
            return Err(LinkError::at_gateway(addr, flags, &error).await.into());
        }
    };
    match Client::connect_to(&*access).await {
        Ok(_) => Ok(()),
        Err(error) => Err(LinkError::at_access(&access, &error).await.into()),
    }
}

/// Returns the failure of a run that a signal has stopped.
fn stopped_by_signal() -> Failure {
    Failure::Failed("stopped by a signal".into())
}

/// Makes sure that this process may open a file for each user.
fn check_file_limit(plan: &Plan) -> Result<(), Failure> {
    let files = raise_file_limit();
    if plan.users as u64 + RESERVED_FILES > files {
        return Err(Failure::Usage(format!(
            "--users {}: the open-file limit of {files} allows {}. Raise it (ulimit -n), or take fewer",
            plan.users,
            files.saturating_sub(RESERVED_FILES)
        )));
    }
    Ok(())
}

/// Starts the load generator, runs the benchmark, and returns its report.
async fn measure(
    args: &BenchArgs,
    plan: Plan,
    salt: String,
    private: Option<&Private>,
) -> Result<Report, Failure> {
    let addresses = private.map(|private| &private.addresses);
    let gateway = addresses.map(|addresses| addresses.gateway.clone());
    let gateway = gateway.or_else(|| args.addr.clone()).unwrap_or_default();
    let group_api = addresses.map(|addresses| addresses.group_api.as_str());
    let group = match (plan.kind, group_api.or(args.group_api.as_deref())) {
        (Kind::Group, Some(api)) => make_group(&plan, api).await?,
        _ => 0,
    };
    let stack = StackAccess {
        gateway: gateway.into(),
        salt: salt.into(),
        group,
    };
    let run = Arc::new(Run::new(plan));
    let end = CancellationToken::new();
    // The guard ends the threads even when this function returns early.
    let _guard = end.clone().drop_guard();

    let mut gauge = private.map(Gauge::new);
    let mut workers = Vec::new();
    for number in 0..run.plan.threads {
        let worker = Worker::start(&run, &stack, number, &end);
        workers.push(worker.map_err(|error| Failure::Failed(format!("load generator: {error}")))?);
    }
    for worker in &mut workers {
        let ready = (&mut worker.ready).await.map_err(|_| thread_lost())?;
        ready.map_err(|error| Failure::Failed(error.to_string()))?;
    }
    if let Some(gauge) = &mut gauge {
        gauge.connected();
    }
    let begun = Instant::now();
    let (mut tallies, mut outcomes) = (Vec::new(), Vec::new());
    for worker in workers {
        // A thread that has ended early is noticed when its outcome is awaited.
        let _ = worker.begin.send(begun);
        tallies.push(worker.tally);
        outcomes.push(worker.outcome);
    }
    let counts = || tallies.iter().map(|tally| tally.lock().counts).sum();
    let is_lost = || tallies.iter().any(|tally| tally.lock().lost.is_some());
    watch(&run, begun, counts, is_lost).await;
    let server = gauge.map(|gauge| gauge.read(run.plan.users));
    end.cancel();

    let (mut records, mut usages) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        let outcome = outcome.await.map_err(|_| thread_lost())?;
        records.extend(outcome.records);
        usages.push(outcome.usage);
    }
    let mut sum = Tally::default();
    for tally in &tallies {
        sum.add(&tally.lock());
    }
    let measurements = Measurements {
        addr: args.addr.clone(),
        store: args.store.as_ref().map(|dir| dir.display().to_string()),
        tally: sum,
        records,
        usages,
        server,
    };
    Ok(Report::new(&run.plan, measurements))
}

/// Returns the failure for a thread that ended without a result.
fn thread_lost() -> Failure {
    Failure::Failed("a thread of the load generator has ended early".into())
}

/// Waits until every request was made, answered and delivered, until a connection was lost, or until nothing has
/// arrived for as long as the plan allows.
async fn watch(run: &Run, begun: Instant, counts: impl Fn() -> Counts, is_lost: impl Fn() -> bool) {
    let mut progress = Progress::new(run.plan.fan_out() > 0);
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    let (mut last, mut changed) = (Counts::default(), begun);
    while !is_lost() {
        ticks.tick().await;
        let now = nanos(begun.elapsed());
        let counts = counts();
        progress.show(now, &counts);
        let is_sent = run.is_sent(now, &counts);
        let is_answered = counts.answered >= counts.sent;
        let expected = counts.acknowledged() * run.plan.fan_out();
        if is_sent && is_answered && counts.delivered >= expected {
            return;
        }
        // Between two requests of a slow schedule nothing is expected, so that time does not count.
        let is_scheduled = matches!(run.plan.pace, Pace::Open(_));
        let is_waiting = !is_scheduled || is_sent || !is_answered;
        if counts != last || !is_waiting {
            (last, changed) = (counts, Instant::now());
        } else if changed.elapsed() > run.plan.patience {
            return;
        }
    }
}

/// Creates a group of all users, and returns its id.
async fn make_group(plan: &Plan, group_api: &str) -> Result<i64, Failure> {
    let owner = plan.uid(0).to_string();
    let fields = [("uid", owner.as_str()), ("name", "imd bench")];
    let made = api::post(group_api, "/x/group/create", &fields).await?;
    let gid = made.get("gid").and_then(serde_json::Value::as_i64);
    let gid =
        gid.ok_or_else(|| Failure::Failed("the server does not say the group's id".into()))?;
    let group = gid.to_string();
    for user in 1..plan.users {
        let uid = plan.uid(user).to_string();
        let fields = [("uid", uid.as_str()), ("gid", group.as_str())];
        let joined = api::ask_form(group_api, "/x/group/join", &fields).await?;
        joined.map_err(|refused| {
            let (users, why) = (plan.users, advice::advise(refused.code, &refused.text));
            Failure::Failed(format!(
                "a group of {users} users: number {} is refused: {why}. Give fewer --users, or raise \
                 limits.group_members in the config of the stack",
                user + 1
            ))
        })?;
    }
    Ok(gid)
}

/// Measures the CPU time and the memory of the private imd.
struct Gauge {
    /// The process of the private imd.
    pid: u32,
    /// The measurements so far.
    server: Server,
    /// CPU time that the process had used when the run began, where the system reports it.
    cpu: Option<Duration>,
    /// When the run began.
    begun: Instant,
}

impl Gauge {
    /// Starts to measure, before the users connect.
    fn new(private: &Private) -> Self {
        let pid = private.pid();
        Gauge {
            pid,
            server: Server {
                has_own_core: private.has_own_core,
                resident_before: resident(pid),
                ..Server::default()
            },
            cpu: None,
            begun: Instant::now(),
        }
    }

    /// Takes the measurements of the beginning of the run, with all users connected.
    fn connected(&mut self) {
        self.server.resident_connected = resident(self.pid);
        self.cpu = usage::process_cpu(self.pid);
        self.begun = Instant::now();
    }

    /// Takes the measurements of the end of the run.
    fn read(mut self, users: usize) -> Server {
        let used = usage::process_cpu(self.pid).zip(self.cpu);
        let time = self.begun.elapsed().as_secs_f64();
        self.server.cores = used.map(|(now, before)| {
            let cores = now.saturating_sub(before).as_secs_f64() / time;
            (cores * 10_000.0).round() / 10_000.0
        });
        self.server.resident_after = resident(self.pid);
        let Server {
            resident_before,
            resident_connected,
            ..
        } = self.server;
        let increase = resident_connected.zip(resident_before);
        self.server.bytes_per_connection = increase.map(|(now, before)| {
            let bytes = now.saturating_sub(before) as f64 / users as f64;
            (bytes * 10.0).round() / 10.0
        });
        self.server
    }
}
