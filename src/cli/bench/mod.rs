//! `imd bench`: puts load on a stack, measures, and checks that every message arrived exactly once.

mod args;
mod asker;
mod check;
mod crew;
mod dialer;
mod driver;
mod feed;
mod fields;
mod floor;
mod generator;
mod line;
mod pacer;
mod private;
mod progress;
mod reader;
mod report;
mod seqs;
mod setup;
mod stamp;
mod talker;
mod tally;
mod usage;

pub use args::BenchArgs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use imd::Client;
use imd::client::ask_gateway;
use imd::listener::raise_file_limit;
use imd::metrics::resident;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::link::LinkError;
use super::signals::Signals;
use super::{api, endpoint, output, refusal, settings};
use args::{Kind, Plan};
use crew::{Crew, Outcome};
use floor::{Run, nanos};
use private::Private;
use progress::Progress;
use report::{Findings, Report, Server};
use setup::Site;
use tally::{Counts, Tally};

/// How often to look whether the run is over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many files are kept free for other things than connections: as many as a stack keeps free.
const RESERVED_FILES: u64 = 128;

/// Runs a benchmark and prints what it has shown.
///
/// # Errors
///
/// When it can't be run, and when a message did not arrive exactly once.
pub async fn run(args: &BenchArgs) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
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
        )?),
    };
    let measured = tokio::select! {
        biased;
        () = signals.next() => Err(by_a_signal()),
        report = measure(args, plan, salt, private.as_ref()) => report,
    };
    let stop = async {
        match private {
            Some(private) => private.stop().await,
            None => Ok(()),
        }
    };
    // A private imd that is not waited for is killed.
    let stopped = tokio::select! {
        biased;
        () = signals.next() => Err(by_a_signal()),
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
        () = signals.next() => Err(by_a_signal()),
        printed = print => printed,
    };
    // Who reads no more learns by the code how it went.
    stopped?;
    match report.wrong() {
        Some(wrong) => Err(Failure::Failed(wrong)),
        None => printed,
    }
}

/// Before anything is measured: whether the gateway of a running stack is one, and where it leads to.
async fn check_stack(addr: &str) -> Result<(), Failure> {
    let wrong = |why| Failure::Usage(format!("--addr {addr}: {why}"));
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

fn by_a_signal() -> Failure {
    Failure::Failed("stopped by a signal".into())
}

/// Each user takes a file here.
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
    let site = Site {
        gateway: gateway.into(),
        salt: salt.into(),
        group,
    };
    let run = Arc::new(Run::new(plan));
    let end = CancellationToken::new();
    // Whatever happens, the threads end.
    let _guard = end.clone().drop_guard();

    let mut gauge = private.map(|private| Gauge::new(private.pid()));
    let mut crews = Vec::new();
    for number in 0..run.plan.threads {
        let crew = Crew::start(&run, &site, number, &end);
        crews.push(crew.map_err(|error| Failure::Failed(format!("load generator: {error}")))?);
    }
    for crew in &mut crews {
        let ready = (&mut crew.ready).await.map_err(|_| gone())?;
        ready.map_err(|error| Failure::Failed(error.to_string()))?;
    }
    if let Some(gauge) = &mut gauge {
        gauge.connected();
    }
    let begun = Instant::now();
    let (mut desks, mut outcomes) = (Vec::new(), Vec::new());
    for crew in crews {
        // A thread that has ended is noticed below.
        let _ = crew.begin.send(begun);
        desks.push(crew.desk);
        outcomes.push(crew.outcome);
    }
    let counts = || desks.iter().map(|desk| desk.lock().tally.counts).sum();
    let is_lost = || desks.iter().any(|desk| desk.lock().tally.lost.is_some());
    watch(&run, begun, counts, is_lost).await;
    let server = gauge.map(|gauge| gauge.read(run.plan.users));
    end.cancel();

    let mut done: Vec<Outcome> = Vec::new();
    for outcome in outcomes {
        done.push(outcome.await.map_err(|_| gone())?);
    }
    let mut tally = Tally::default();
    for desk in &desks {
        tally.add(&desk.lock().tally);
    }
    let findings = Findings {
        addr: args.addr.clone(),
        store: args.store.as_ref().map(|dir| dir.display().to_string()),
        tally,
        outcomes: done,
        server,
    };
    Ok(Report::new(&run.plan, findings))
}

fn gone() -> Failure {
    Failure::Failed("a thread of the load generator has ended early".into())
}

/// Waits until everything was sent, answered and delivered; or until nothing comes any more.
async fn watch(run: &Run, begun: Instant, counts: impl Fn() -> Counts, is_lost: impl Fn() -> bool) {
    let mut progress = Progress::new(run.plan.fan_out() > 0);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
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
        // Between two requests of a slow schedule nothing has to come.
        let is_waiting = is_sent || !is_answered;
        if counts != last || !is_waiting {
            (last, changed) = (counts, Instant::now());
        } else if changed.elapsed() > run.plan.patience {
            return;
        }
    }
}

/// Makes a group of all users.
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
            let (users, why) = (plan.users, refusal::advise(refused.code, &refused.text));
            Failure::Failed(format!(
                "a group of {users} users: number {} is refused: {why}. Give fewer --users, or raise \
                 limits.group_members in the config of the stack",
                user + 1
            ))
        })?;
    }
    Ok(gid)
}

/// Reads what the private imd uses.
struct Gauge {
    pid: u32,
    server: Server,
    /// Its CPU time when the run began, and when that was.
    cpu: Option<Duration>,
    begun: Instant,
}

impl Gauge {
    /// Before the users come.
    fn new(pid: u32) -> Self {
        Gauge {
            pid,
            server: Server {
                resident_before: resident(pid),
                ..Server::default()
            },
            cpu: None,
            begun: Instant::now(),
        }
    }

    /// The users are there, the run begins.
    fn connected(&mut self) {
        self.server.resident_connected = resident(self.pid);
        self.cpu = usage::process_cpu(self.pid);
        self.begun = Instant::now();
    }

    /// The run is over.
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
        let grown = resident_connected.zip(resident_before);
        self.server.bytes_per_connection = grown.map(|(now, before)| {
            let bytes = now.saturating_sub(before) as f64 / users as f64;
            (bytes * 10.0).round() / 10.0
        });
        self.server
    }
}
