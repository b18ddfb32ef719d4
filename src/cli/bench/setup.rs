//! What has to be there before a run of `imd bench` begins: connections, logins, filled inboxes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use imd::load::{Connection, FieldTable, Template, request};
use imd::proto::{Cmd, ReqSendP2pMsg, ResSelectAccessServerForClient};
use imd::service::salted_token;
use prost::Message as _;
use tokio::net::lookup_host;
use tokio::task::JoinSet;

use super::args::{Kind, Plan};
use super::asker::Asker;
use super::connection::{ConnectionError, answer, ask, check};
use super::reader::Reader;
use super::run::Run;
use super::sender::{Leaving, Sender};
use super::stamp;
use super::user::{Record, Role};

/// How many users log in at the same time.
const LOGINS: usize = 64;

/// How many messages are unanswered at the same time while an inbox is filled.
const FILLING: u32 = 128;

/// The stack on which a run takes place.
#[derive(Debug, Clone)]
pub struct Site {
    pub gateway: Arc<str>,
    pub salt: Arc<str>,
    /// The group that gets the messages; 0 in runs without a group.
    pub group: i64,
}

/// Why a run does not begin.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SetupError {
    step: String,
    source: ConnectionError,
}

/// The users of one thread.
pub enum Users {
    Connected(Vec<(Box<dyn Role>, Connection)>),
    /// That many users, who connect to the gateway for each request.
    Dialing(usize, SocketAddr),
}

/// Sets up the users of these numbers.
///
/// # Errors
///
/// Which step failed, and why.
pub async fn set_up(run: &Run, site: &Site, numbers: Vec<usize>) -> Result<Users, SetupError> {
    let plan = &run.plan;
    let mut users: Vec<(Box<dyn Role>, Connection)> = Vec::new();
    match plan.kind {
        Kind::Connect => return Ok(Users::Dialing(numbers.len(), resolve(site).await?)),
        Kind::Gateway => {
            for _ in numbers {
                let asker = Asker::new(Cmd::ReqAccessServer, &request::access_server(), 3);
                users.push((
                    Box::new(asker.map_err(at("request"))?),
                    open_gateway(site).await?,
                ));
            }
        }
        Kind::Idle => {
            for (user, connection) in log_in_all(plan, site, numbers).await? {
                let asker = Asker::new(Cmd::Ping, &request::ping(plan.uid(user)), 2);
                users.push((Box::new(asker.map_err(at("request"))?), connection));
            }
        }
        Kind::Sync => {
            fill(plan, site, &numbers).await?;
            for (user, connection) in log_in_all(plan, site, numbers).await? {
                let reader = Reader::new(request::sync(plan.uid(user), 0));
                users.push((Box::new(reader), connection));
            }
        }
        Kind::P2p | Kind::Group => {
            for (user, mut connection) in log_in_all(plan, site, numbers).await? {
                let read = newest_version(plan.uid(user), &mut connection).await;
                let read = read.map_err(at("first page"))?;
                let sender = sender(run, site, user, read).map_err(at("request"))?;
                users.push((Box::new(sender), connection));
            }
        }
    }
    Ok(Users::Connected(users))
}

/// Creates a user who has read the inbox up to the version `read`. In a ring each user sends to the next one; in a group
/// the first user sends to all.
fn sender(run: &Run, site: &Site, user: usize, read: i64) -> Result<Sender, ConnectionError> {
    let plan = &run.plan;
    let text = "m".repeat(plan.size);
    let (uid, id) = (plan.uid(user), "0".repeat(stamp::LEN));
    let (receives_from, frame) = match (plan.kind, user) {
        (Kind::Group, 0) => {
            let message = request::group(uid, site.group, &id, &text);
            (0, Some(request::frame(&message)?))
        }
        (Kind::Group, _) => (0, None),
        _ => {
            let next = plan.uid((user + 1) % plan.users);
            let message = request::p2p(uid, next, &id, &text);
            let before = (user + plan.users - 1) % plan.users;
            (before, Some(request::frame(&message)?))
        }
    };
    let request = frame.map(|frame| Template::new(&frame, id.as_bytes()));
    Ok(Sender {
        run: run.id,
        request: request.transpose()?,
        receives_from: plan.uid(receives_from),
        text,
        sync: request::sync(uid, read),
        record: Record {
            user,
            receives_from: Some(receives_from),
            ..Default::default()
        },
        next: 0,
        known: read,
        is_syncing: false,
        leaving: Leaving::default(),
    })
}

/// Returns the newest version of an inbox, which may hold messages of other runs.
async fn newest_version(uid: i64, connection: &mut Connection) -> Result<i64, ConnectionError> {
    let mut sync = request::sync(uid, 0);
    sync.limit = 1;
    let page = ask(connection, Cmd::SyncMsg, &sync).await?;
    check(&page, 3)?;
    Ok(FieldTable::read(&page).number(7))
}

/// Logs users in, several at the same time. Returns their connections in the order of the users.
async fn log_in_all(
    plan: &Plan,
    site: &Site,
    numbers: Vec<usize>,
) -> Result<Vec<(usize, Connection)>, SetupError> {
    let mut gateway = open_gateway(site).await?;
    let mut connections = Vec::new();
    let mut logins = JoinSet::new();
    let mut numbers = numbers.into_iter();
    loop {
        while logins.len() < LOGINS
            && let Some(user) = numbers.next()
        {
            let addr = access(&mut gateway, site).await?;
            let (uid, salt) = (plan.uid(user), Arc::clone(&site.salt));
            logins.spawn(async move { (user, log_in(addr, uid, &salt).await) });
        }
        match logins.join_next().await {
            Some(Ok((user, connection))) => connections.push((user, connection?)),
            // The runtime is shutting down.
            Some(Err(_)) => {}
            None => break,
        }
    }
    connections.sort_by_key(|(user, _)| *user);
    Ok(connections)
}

async fn resolve(site: &Site) -> Result<SocketAddr, SetupError> {
    let found = lookup_host(&*site.gateway).await.map(|mut all| all.next());
    let none = || io::Error::other("the name has no address");
    let found = found.and_then(|first| first.ok_or_else(none));
    found.map_err(|error| at(&format!("gateway {}", site.gateway))(error.into()))
}

async fn open_gateway(site: &Site) -> Result<Connection, SetupError> {
    let connection = Connection::connect(&*site.gateway).await;
    connection.map_err(|error| at(&format!("gateway {}", site.gateway))(error.into()))
}

/// Asks for the address of an access server.
async fn access(gateway: &mut Connection, site: &Site) -> Result<String, SetupError> {
    let asked = async {
        let answer = ask(gateway, Cmd::ReqAccessServer, &request::access_server()).await?;
        check(&answer, 3)?;
        let answer = ResSelectAccessServerForClient::decode(&*answer).map_err(io::Error::other);
        Ok(answer?.addr)
    };
    asked
        .await
        .map_err(at(&format!("gateway {}", site.gateway)))
}

async fn log_in(addr: String, uid: i64, salt: &str) -> Result<Connection, SetupError> {
    let connection = Connection::connect(&addr).await;
    let mut connection =
        connection.map_err(|error| at(&format!("access server {addr}"))(error.into()))?;
    let login = request::login(uid, salted_token(uid, salt));
    let answer = ask(&mut connection, Cmd::Login, &login).await;
    let answer = answer.and_then(|answer| check(&answer, 2));
    answer.map_err(at(&format!("login of {uid}")))?;
    Ok(connection)
}

/// Fills the inboxes of these users. The messages come from a user who does not take part in the run.
async fn fill(plan: &Plan, site: &Site, numbers: &[usize]) -> Result<(), SetupError> {
    let Some(first) = numbers.first() else {
        return Ok(());
    };
    let sender = plan.uid(plan.users + first);
    let addr = access(&mut open_gateway(site).await?, site).await?;
    let mut connection = log_in(addr, sender, &site.salt).await?;
    let text = "m".repeat(plan.size);
    for number in numbers {
        let target = plan.uid(*number);
        // Without an id of its own, each of them is a new message.
        let message = request::p2p(sender, target, "", &text);
        let filled = send_many(&mut connection, &message, plan.fill).await;
        filled.map_err(at(&format!("filling the inbox of {target}")))?;
    }
    Ok(())
}

async fn send_many(
    connection: &mut Connection,
    message: &ReqSendP2pMsg,
    count: u32,
) -> Result<(), ConnectionError> {
    let frame = request::frame(message)?;
    let mut left = count;
    while left > 0 {
        let now = left.min(FILLING);
        left -= now;
        connection.send(&frame.repeat(now as usize)).await?;
        for _ in 0..now {
            check(&answer(connection, Cmd::SendP2PMsg).await?, 3)?;
        }
    }
    Ok(())
}

fn at(step: &str) -> impl FnOnce(ConnectionError) -> SetupError + use<'_> {
    move |source| SetupError {
        step: step.to_owned(),
        source,
    }
}
