//! What has to be there before a run begins: connections, logins, filled inboxes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use imd::codec;
use imd::proto::{
    Cmd, ReqAccessServer, ReqLogin, ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg,
    ResSelectAccessServerForClient,
};
use imd::service::salted_token;
use prost::Message as _;
use tokio::net::lookup_host;
use tokio::task::JoinSet;

use super::args::{Kind, Plan};
use super::asker::Asker;
use super::driver::Record;
use super::fields::{Fields, verdict};
use super::floor::Run;
use super::line::{Broken, Line};
use super::reader::Reader;
use super::talker::{Leaving, Letter, Talker};

/// So many users log in at once.
const AT_ONCE: usize = 64;

/// So many messages of a filling are open at once.
const FILLING: u32 = 128;

/// Where a run takes place.
#[derive(Debug, Clone)]
pub struct Site {
    pub gateway: Arc<str>,
    pub salt: Arc<str>,
    /// The group that messages go to, where they go to one.
    pub group: i64,
}

/// Why a run does not begin.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SetupError {
    step: String,
    source: Broken,
}

/// What the users of one thread do, and their connections.
pub enum Hands {
    Askers(Vec<(Asker, Line)>),
    Talkers(Vec<(Talker, Line)>),
    Readers(Vec<(Reader, Line)>),
    /// So many, who make their connections themselves.
    Dialers(usize, SocketAddr),
}

/// Sets up the users of these numbers.
///
/// # Errors
///
/// Which step failed, and why.
pub async fn set_up(run: &Run, site: &Site, users: Vec<usize>) -> Result<Hands, SetupError> {
    let plan = &run.plan;
    Ok(match plan.kind {
        Kind::Connect => Hands::Dialers(users.len(), resolve(site).await?),
        Kind::Gateway => {
            let mut askers = Vec::new();
            for _ in users {
                let line = open_gateway(site).await?;
                let cmd = Cmd::ReqAccessServer;
                let asker = Asker::new(cmd, &ask_gateway(), 3).map_err(at("request"))?;
                askers.push((asker, line));
            }
            Hands::Askers(askers)
        }
        Kind::Idle => {
            let lines = log_in_all(plan, site, users).await?;
            let pinging = lines.into_iter().map(|(user, line)| {
                let ping = ReqPing {
                    cmd: Cmd::Ping.number(),
                    uid: plan.uid(user),
                    ..Default::default()
                };
                Ok((Asker::new(Cmd::Ping, &ping, 2)?, line))
            });
            let pinging: Result<_, Broken> = pinging.collect();
            Hands::Askers(pinging.map_err(at("request"))?)
        }
        Kind::Sync => {
            fill(plan, site, &users).await?;
            let lines = log_in_all(plan, site, users).await?;
            let readers = lines.into_iter().map(|(user, line)| {
                let reader = Reader::new(sync(plan.uid(user), 0));
                (reader, line)
            });
            Hands::Readers(readers.collect())
        }
        Kind::P2p | Kind::Group => {
            let mut talkers = Vec::new();
            for (user, mut line) in log_in_all(plan, site, users).await? {
                let read = read_so_far(plan.uid(user), &mut line).await;
                let read = read.map_err(at("first page"))?;
                talkers.push((talker(run, site, user, read), line));
            }
            Hands::Talkers(talkers)
        }
    })
}

/// In a ring, each writes to the next one; in a group, the first one writes to all.
fn talker(run: &Run, site: &Site, user: usize, read: i64) -> Talker {
    let plan = &run.plan;
    let text = "m".repeat(plan.size);
    let (hears, letter) = match (plan.kind, user) {
        (Kind::Group, 0) => {
            let request = ReqSendGroupMsg {
                cmd: Cmd::SendGroupMsg.number(),
                source_uid: plan.uid(user),
                group_id: site.group,
                msg: text.clone(),
                ..Default::default()
            };
            (0, Letter::Group(request))
        }
        (Kind::Group, _) => (0, Letter::None),
        _ => {
            let request = ReqSendP2pMsg {
                cmd: Cmd::SendP2PMsg.number(),
                source_uid: plan.uid(user),
                target_uid: plan.uid((user + 1) % plan.users),
                msg: text.clone(),
                ..Default::default()
            };
            let before = (user + plan.users - 1) % plan.users;
            (before, Letter::P2p(request))
        }
    };
    Talker {
        run: run.id,
        letter,
        hears: plan.uid(hears),
        text,
        sync: sync(plan.uid(user), read),
        record: Record {
            user,
            hears: Some(hears),
            ..Default::default()
        },
        next: 0,
        known: read,
        is_syncing: false,
        leaving: Leaving::default(),
    }
}

fn ask_gateway() -> ReqAccessServer {
    ReqAccessServer {
        cmd: Cmd::ReqAccessServer.number(),
        ..Default::default()
    }
}

fn sync(uid: i64, after: i64) -> ReqSyncMsg {
    ReqSyncMsg {
        cmd: Cmd::SyncMsg.number(),
        uid,
        current_id: after,
        ..Default::default()
    }
}

/// The newest version of an inbox, which may hold messages of others.
async fn read_so_far(uid: i64, line: &mut Line) -> Result<i64, Broken> {
    let request = ReqSyncMsg {
        limit: 1,
        ..sync(uid, 0)
    };
    let page = line.ask(Cmd::SyncMsg, &request).await?;
    check(&page, 3)?;
    let total = Fields::of(&page).find(|(tag, _)| *tag == 7);
    Ok(total.map_or(0, |(_, total)| total.int()))
}

/// Logs users in, some at a time. They come back in their order.
async fn log_in_all(
    plan: &Plan,
    site: &Site,
    users: Vec<usize>,
) -> Result<Vec<(usize, Line)>, SetupError> {
    let mut gateway = open_gateway(site).await?;
    let mut lines = Vec::new();
    let mut logins = JoinSet::new();
    let mut users = users.into_iter();
    loop {
        while logins.len() < AT_ONCE
            && let Some(user) = users.next()
        {
            let addr = access(&mut gateway, site).await?;
            let (uid, salt) = (plan.uid(user), Arc::clone(&site.salt));
            logins.spawn(async move { (user, log_in(addr, uid, &salt).await) });
        }
        match logins.join_next().await {
            Some(Ok((user, line))) => lines.push((user, line?)),
            // Its task was given up with the runtime.
            Some(Err(_)) => {}
            None => break,
        }
    }
    lines.sort_by_key(|(user, _)| *user);
    Ok(lines)
}

async fn resolve(site: &Site) -> Result<SocketAddr, SetupError> {
    let found = lookup_host(&*site.gateway).await.map(|mut all| all.next());
    let none = || std::io::Error::other("the name has no address");
    let found = found.and_then(|first| first.ok_or_else(none));
    found.map_err(|error| at(&format!("gateway {}", site.gateway))(error.into()))
}

async fn open_gateway(site: &Site) -> Result<Line, SetupError> {
    let addr = &site.gateway;
    Line::open(addr)
        .await
        .map_err(at(&format!("gateway {addr}")))
}

/// The address of an access server.
async fn access(gateway: &mut Line, site: &Site) -> Result<String, SetupError> {
    let asked = async {
        let answer = gateway.ask(Cmd::ReqAccessServer, &ask_gateway()).await?;
        check(&answer, 3)?;
        let answer = ResSelectAccessServerForClient::decode(answer).map_err(std::io::Error::other);
        Ok(answer?.addr)
    };
    let addr = &site.gateway;
    asked.await.map_err(at(&format!("gateway {addr}")))
}

async fn log_in(addr: String, uid: i64, salt: &str) -> Result<Line, SetupError> {
    let line = Line::open(&addr).await;
    let mut line = line.map_err(at(&format!("access server {addr}")))?;
    let request = ReqLogin {
        cmd: Cmd::Login.number(),
        uid,
        token: salted_token(uid, salt),
        ..Default::default()
    };
    let answer = line.ask(Cmd::Login, &request).await;
    let answer = answer.and_then(|answer| check(&answer, 2));
    answer.map_err(at(&format!("login of {uid}")))?;
    Ok(line)
}

/// Fills the inboxes of these users, from a user behind all others.
async fn fill(plan: &Plan, site: &Site, users: &[usize]) -> Result<(), SetupError> {
    let Some(first) = users.first() else {
        return Ok(());
    };
    let sender = plan.uid(plan.users + first);
    let addr = access(&mut open_gateway(site).await?, site).await?;
    let mut line = log_in(addr, sender, &site.salt).await?;
    let text = "m".repeat(plan.size);
    for user in users {
        let request = ReqSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            source_uid: sender,
            target_uid: plan.uid(*user),
            msg: text.clone(),
            ..Default::default()
        };
        let filled = send_many(&mut line, &request, plan.fill).await;
        filled.map_err(at(&format!("filling the inbox of {}", request.target_uid)))?;
    }
    Ok(())
}

async fn send_many(line: &mut Line, request: &ReqSendP2pMsg, count: u32) -> Result<(), Broken> {
    let mut one = BytesMut::new();
    codec::encode(request, &mut one)?;
    let mut left = count;
    while left > 0 {
        let now = left.min(FILLING);
        left -= now;
        for _ in 0..now {
            line.out.extend_from_slice(&one);
        }
        line.send().await?;
        for _ in 0..now {
            check(&line.answer(Cmd::SendP2PMsg).await?, 3)?;
        }
    }
    Ok(())
}

fn check(answer: &[u8], code: u32) -> Result<(), Broken> {
    match verdict(answer, code) {
        (0, _) => Ok(()),
        refusal => Err(Broken::told(refusal)),
    }
}

fn at(step: &str) -> impl FnOnce(Broken) -> SetupError + use<'_> {
    move |source| SetupError {
        step: step.to_owned(),
        source,
    }
}
