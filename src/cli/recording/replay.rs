//! Runs `imd replay`: sends the requests of a record to a stack, line by line, and compares the replies.
//!
//! The record is surveyed completely before anything is sent. Every session of the record has a connection of its
//! own, and lines are played in the order of the record.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use imd::client::{ClientError, ask_gateway};
use imd::id::Uid;
use imd::listener::raise_file_limit;
use imd::proto::{Cmd, Code, Error, ReqLogin};
use prost::Message;
use tokio::time::Instant;

use super::args::ReplayArgs;
use super::connection::{Connection, Push};
use super::exchanges::{MAX_OPEN_BYTES, Side};
use super::format::{EventKind, GATEWAY, Line};
use super::read::{Lines, MAX_CONNECTIONS, SessionLimits, Survey};
use super::report::{Report, SessionInfo};
use super::substitutions::Substitutions;
use crate::cli::failure::Failure;
use crate::cli::link::{FLAGS, LinkError};
use crate::cli::peer::{self, Peer};
use crate::cli::stack_addresses::StackAddresses;
use crate::cli::{advice, api, endpoint};

/// Reasons of closes that a replay causes again. Other closes are due to deadlines or to operations on the server, so
/// they are not expected.
const CLOSED_BY_SERVER: [&str; 4] = ["logout", "logged_in_elsewhere", "dropped", "reset"];

/// Number of files that a replay opens in addition to its connections.
const RESERVED_FILES: u64 = 64;

/// Replays a record to a stack, and prints what the stack replies differently.
///
/// # Errors
///
/// When the record is damaged, before anything is sent; when the stack can't be reached or refuses the tokens; and
/// [`Failure::Exit`] when something differs.
pub async fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let files = raise_file_limit().saturating_sub(RESERVED_FILES);
    let limits = SessionLimits {
        connections: usize::try_from(files).map_or(MAX_CONNECTIONS, |it| it.min(MAX_CONNECTIONS)),
        without_gateway: args.access.is_some(),
    };
    let survey = Survey::of(&args.file, limits)?;
    if survey.has_many_users && args.login.token.is_some() {
        let why = "--token is one user's, and the record has several: give --config FILE with the salt, or --pw";
        return Err(Failure::Usage(why.into()));
    }
    if let Some(addr) = &args.access {
        let wrong = |why| Failure::Usage(format!("--access {addr}: {why}"));
        endpoint::host_and_port(addr).map_err(wrong)?;
    }
    let mut player = Player {
        args,
        stack: StackAddresses::find(&args.login.target)?,
        survey,
        open: HashMap::new(),
        substitutions: Substitutions::default(),
        report: Report::new(args.json, args.ignore.clone()),
        started: Instant::now(),
    };
    let lines = Lines::open(&args.file)?;
    let mut played = player.play_all(lines).await;
    if played.is_ok() && player.report.totals.alike == 0 {
        played = player.check_access().await;
    }
    player.report.end(played)
}

/// The state of a replay.
struct Player<'a> {
    args: &'a ReplayArgs,
    stack: StackAddresses,
    survey: Survey,
    open: HashMap<u64, ReplayedSession>,
    substitutions: Substitutions,
    report: Report,
    started: Instant,
}

/// A session of the record with its connection.
struct ReplayedSession {
    connection: Connection,
    info: SessionInfo,
}

impl Player<'_> {
    /// Checks whether `--access` names an access server. Called when nothing was as recorded, which a wrong address
    /// would explain.
    async fn check_access(&self) -> Result<(), Failure> {
        let Some(addr) = &self.args.access else {
            return Ok(());
        };
        match peer::identify(addr).await {
            // A server that is not recognized may still be another implementation.
            Peer::Access | Peer::Unknown => Ok(()),
            found => Err(Failure::Failed(format!(
                "--access {addr}: this is {found}, and no access server"
            ))),
        }
    }

    /// Replays all lines, and then ends the sessions that are still open.
    async fn play_all(&mut self, mut lines: Lines) -> Result<(), Failure> {
        while let Some((number, line)) = lines.next()? {
            self.play(number, line).await?;
        }
        let mut remaining: Vec<u64> = self.open.keys().copied().collect();
        remaining.sort_unstable();
        for session in remaining {
            self.end(session).await?;
        }
        Ok(())
    }

    /// Replays one line.
    async fn play(&mut self, number: usize, line: Line) -> Result<(), Failure> {
        if line.server == GATEWAY && self.args.access.is_some() {
            return Ok(());
        }
        if line.what != EventKind::Out {
            self.keep_time(number, &line).await?;
        }
        let session = line.session;
        let mut played = match self.open.remove(&session) {
            Some(played) => played,
            // A session that ended before the recording began needs no connection.
            None if line.what == EventKind::Closed => return Ok(()),
            None => self.connect(number, &line).await?,
        };
        if line.uid.is_some() {
            played.info.uid = line.uid;
        }
        let ReplayedSession { connection, info } = &mut played;
        match (line.what, &line.bytes) {
            (EventKind::In, Some(recorded)) if connection.end_reason().is_none() => {
                let message = self.renew(number, &line, recorded).await?;
                self.report.totals.requests += 1;
                connection.send(number, recorded.clone(), &message).await;
            }
            // The connection has ended, so the request is not sent; its missing reply is reported.
            (EventKind::In, Some(recorded)) => {
                connection.exchanges().requested(number, recorded.clone())
            }
            (EventKind::Out, Some(recorded)) => match Push::of(recorded) {
                Some(push) => {
                    let is_told = connection.expect_push(push).await;
                    let got = connection.end_reason().unwrap_or("none");
                    self.report.event(info, number, is_told, "a notify", got)?;
                }
                None => connection.expect(number, recorded.clone()).await,
            },
            _ => {}
        }
        self.compare_completed(&mut played)?;
        let is_over = line.what == EventKind::Closed;
        if is_over && let Some(reason) = line.reason.filter(|it| CLOSED_BY_SERVER.contains(&&**it))
        {
            let is_closed = played.connection.expect_end().await;
            let recorded = format!("closed by the server: {reason}");
            let got = "still open";
            self.report
                .event(&played.info, number, is_closed, &recorded, got)?;
        }
        self.open.insert(session, played);
        if is_over {
            self.end(session).await?;
        }
        Ok(())
    }

    /// Waits until the recorded time of a line, if `--speed` was given.
    async fn keep_time(&self, number: usize, line: &Line) -> Result<(), Failure> {
        let Some(speed) = self.args.speed else {
            return Ok(());
        };
        let after = Duration::from_micros(line.us).as_secs_f64() / speed;
        let after = Duration::try_from_secs_f64(after).ok();
        let Some(due) = after.and_then(|after| self.started.checked_add(after)) else {
            return Err(Failure::Usage(format!(
                "line {number}: its time is out of range"
            )));
        };
        tokio::time::sleep_until(due).await;
        Ok(())
    }

    /// Connects for a session, and logs in if the session was logged in before the recording began.
    async fn connect(&mut self, number: usize, line: &Line) -> Result<ReplayedSession, Failure> {
        let addr = match &self.args.access {
            Some(addr) => addr.clone(),
            None => {
                let gateway = self.stack.frames_gateway()?;
                if line.server == GATEWAY {
                    gateway.to_owned()
                } else {
                    match ask_gateway(gateway).await {
                        Ok(addr) => addr,
                        Err(error) => {
                            let why = LinkError::at_gateway(gateway, FLAGS, &error).await;
                            let why = why.advise();
                            let is_late = matches!(error, ClientError::Timeout);
                            let full = self.may_be_full(is_late);
                            return Err(Failure::Failed(format!("line {number}: {why}{full}")));
                        }
                    }
                }
            }
        };
        let mut connection = match Connection::open(&addr, self.args.timeout).await {
            Ok(connection) => connection,
            Err(error) => return Err(self.unreachable(number, line, &addr, error).await),
        };
        if let Some(uid) = line.uid {
            let login = ReqLogin {
                cmd: Cmd::Login.number(),
                uid,
                token: self.token(uid).await?,
                ..Default::default()
            };
            let request = Bytes::from(login.encode_to_vec());
            connection.send(number, request.clone(), &request).await;
            let ok = Error {
                cmd: Cmd::Login.number(),
                err_str: Code::Ok.text().into(),
                ..Default::default()
            };
            connection.expect(number, ok.encode_to_vec().into()).await;
        }
        let info = SessionInfo::of(line);
        Ok(ReplayedSession { connection, info })
    }

    /// Returns the failure for an address that can't be connected to, with advice.
    async fn unreachable(
        &self,
        number: usize,
        line: &Line,
        addr: &str,
        error: io::Error,
    ) -> Failure {
        let full = self.may_be_full(error.kind() == io::ErrorKind::TimedOut);
        let why = match &self.args.access {
            Some(_) => format!(
                "access server {addr}: {}",
                advice::unreachable(&error, "--access HOST:PORT")
            ),
            None if line.server == GATEWAY => {
                let error = ClientError::Io(error);
                LinkError::at_gateway(addr, FLAGS, &error).await.advise()
            }
            None => {
                let error = ClientError::Io(error);
                LinkError::at_access(addr, &error).await.advise()
            }
        };
        Failure::Failed(format!("line {number}: {why}{full}"))
    }

    /// Returns a further explanation for a server that does not answer, if this replay holds connections already.
    fn may_be_full(&self, is_late: bool) -> String {
        match self.open.len() {
            0 => String::new(),
            _ if !is_late => String::new(),
            open => format!(
                " Or the stack is full: {open} sessions of the record are open at once, and limits.connections in its config \
                 says how many it takes."
            ),
        }
    }

    /// Returns a request in the form in which it is sent in this replay: with a valid token, or with new ids and
    /// versions.
    async fn renew(&self, number: usize, line: &Line, request: &Bytes) -> Result<Bytes, Failure> {
        match line.login() {
            Some(mut login) if !self.survey.refused.contains(&number) => {
                login.token = self.token(login.uid).await?;
                Ok(login.encode_to_vec().into())
            }
            Some(_) => Ok(request.clone()),
            None => Ok(self
                .substitutions
                .apply(line.uid.unwrap_or_default(), request)),
        }
    }

    /// Returns the token of a user: the given one, one from the user API, or a computed one.
    async fn token(&self, uid: i64) -> Result<String, Failure> {
        match (&self.args.login.token, &self.args.pw) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(pw)) => api::token(self.stack.user_api()?, uid, pw).await,
            (None, None) => Ok(self.stack.token(Uid(uid))),
        }
    }

    /// Compares the completed exchanges of a session, and learns new ids from them.
    fn compare_completed(&mut self, played: &mut ReplayedSession) -> Result<(), Failure> {
        let ReplayedSession { connection, info } = played;
        for exchange in connection.exchanges().take_completed() {
            if let (Side::Frame(recorded), Side::Frame(got)) = (&exchange.recorded, &exchange.got) {
                self.substitutions
                    .learn(info.uid.unwrap_or_default(), recorded, got);
            }
            self.report
                .exchange(info, &exchange, connection.end_reason())?;
        }
        if connection.exchanges().is_overfull() {
            let session = info.session;
            return Err(Failure::Failed(format!(
                "session {session}: more than {} MiB of requests and replies are open at once, which is more than can be compared",
                MAX_OPEN_BYTES >> 20
            )));
        }
        Ok(())
    }

    /// Ends a session, and compares what is left of it.
    async fn end(&mut self, session: u64) -> Result<(), Failure> {
        let Some(mut played) = self.open.remove(&session) else {
            return Ok(());
        };
        played.connection.end().await;
        self.compare_completed(&mut played)?;
        let ReplayedSession { connection, info } = &mut played;
        for exchange in connection.exchanges().unsolicited() {
            self.report.exchange(info, &exchange, None)?;
        }
        Ok(())
    }
}
