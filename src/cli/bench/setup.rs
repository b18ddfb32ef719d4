//! Sets up the users of a run of `imd bench`: connections, logins and filled inboxes.
//!
//! Serves `worker`, which calls [`set_up`] once per thread before the run begins.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use imd::load::{Connection, FieldTable, ReceiverChooser, request};
use imd::proto::{Cmd, ReqSendP2pMsg, ResSelectAccessServerForClient};
use imd::service::salted_token;
use prost::Message as _;
use tokio::net::lookup_host;
use tokio::task::JoinSet;

use super::args::{Kind, Plan};
use super::connection::{ConnectionError, answer, ask, check};
use super::reader::Reader;
use super::repeater::Repeater;
use super::run::Run;
use super::sender::{Audience, Sender};
use super::user::Role;

/// Number of users of a thread who log in at the same time.
const CONCURRENT_LOGINS: usize = 64;

/// Number of unanswered messages while an inbox is filled.
const FILL_WINDOW: u32 = 128;

/// What is needed to log users in to the stack of a run.
#[derive(Debug, Clone)]
pub struct StackAccess {
    /// The host:port of the gateway.
    pub gateway: Arc<str>,
    /// The salt that the stack computes its tokens with.
    pub salt: Arc<str>,
    /// The group that receives the messages; 0 in runs without a group.
    pub group: i64,
}

/// The reason why a run could not begin.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SetupError {
    /// The step that failed, for people.
    step: String,
    source: ConnectionError,
}

/// The users of one thread.
pub enum Users {
    /// Users, each with its number and a connection that it uses for the whole run.
    Connected(Vec<(usize, Box<dyn Role>, Connection)>),
    /// The numbers of users who connect to the gateway for each request.
    Dialing(Vec<usize>, SocketAddr),
}

/// Sets up the users with these numbers.
///
/// # Errors
///
/// [`SetupError`] names the step that failed and the reason. The run can't begin then.
pub async fn set_up(
    run: &Arc<Run>,
    stack: &StackAccess,
    numbers: Vec<usize>,
) -> Result<Users, SetupError> {
    let plan = &run.plan;
    let mut users: Vec<(usize, Box<dyn Role>, Connection)> = Vec::new();
    match plan.kind {
        Kind::Connect => return Ok(Users::Dialing(numbers, resolve(stack).await?)),
        Kind::Gateway => {
            for user in numbers {
                let repeater = Repeater::new(Cmd::ReqAccessServer, &request::access_server(), 3);
                users.push((
                    user,
                    Box::new(repeater.map_err(at("request"))?),
                    open_gateway(stack).await?,
                ));
            }
        }
        Kind::Idle => {
            for (user, connection) in log_in_all(plan, stack, numbers).await? {
                let repeater = Repeater::new(Cmd::Ping, &request::ping(plan.uid(user)), 2);
                let repeater = Box::new(repeater.map_err(at("request"))?);
                users.push((user, repeater, connection));
            }
        }
        Kind::Sync => {
            fill(plan, stack, &numbers).await?;
            for (user, connection) in log_in_all(plan, stack, numbers).await? {
                let reader = Reader::new(request::sync(plan.uid(user), 0));
                users.push((user, Box::new(reader), connection));
            }
        }
        Kind::P2p | Kind::Group => {
            let mut receivers = ReceiverChooser::of(plan.pattern, plan.users, &numbers);
            for (user, mut connection) in log_in_all(plan, stack, numbers.clone()).await? {
                let read = newest_version(plan.uid(user), &mut connection).await;
                let read = read.map_err(at("first page"))?;
                let receivers = receivers.next();
                let audience = match (plan.kind, user, receivers) {
                    (Kind::Group, 0, _) => Audience::Group(stack.group),
                    (Kind::P2p, _, Some(receivers)) => Audience::Users(receivers),
                    _ => Audience::Nobody,
                };
                let sender = Sender::new(run, user, audience, read);
                users.push((user, Box::new(sender), connection));
            }
        }
    }
    Ok(Users::Connected(users))
}

/// Returns the newest version of an inbox, which may hold messages of other runs.
async fn newest_version(uid: i64, connection: &mut Connection) -> Result<i64, ConnectionError> {
    let mut sync = request::sync(uid, 0);
    sync.limit = 1;
    let page = ask(connection, Cmd::SyncMsg, &sync).await?;
    check(&page, 3)?;
    Ok(FieldTable::read(&page).number(7))
}

/// Logs in users, several at the same time. Returns their connections in the order of the users.
async fn log_in_all(
    plan: &Plan,
    stack: &StackAccess,
    numbers: Vec<usize>,
) -> Result<Vec<(usize, Connection)>, SetupError> {
    let mut gateway = open_gateway(stack).await?;
    let mut connections = Vec::new();
    let mut logins = JoinSet::new();
    let mut numbers = numbers.into_iter();
    loop {
        while logins.len() < CONCURRENT_LOGINS
            && let Some(user) = numbers.next()
        {
            let addr = access(&mut gateway, stack).await?;
            let (uid, salt) = (plan.uid(user), Arc::clone(&stack.salt));
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

/// Resolves the address of the gateway.
async fn resolve(stack: &StackAccess) -> Result<SocketAddr, SetupError> {
    let found = lookup_host(&*stack.gateway).await.map(|mut all| all.next());
    let none = || io::Error::other("the name has no address");
    let found = found.and_then(|first| first.ok_or_else(none));
    found.map_err(|error| at(&format!("gateway {}", stack.gateway))(error.into()))
}

/// Connects to the gateway.
async fn open_gateway(stack: &StackAccess) -> Result<Connection, SetupError> {
    let connection = Connection::connect(&*stack.gateway).await;
    connection.map_err(|error| at(&format!("gateway {}", stack.gateway))(error.into()))
}

/// Requests the address of an access server from the gateway.
async fn access(gateway: &mut Connection, stack: &StackAccess) -> Result<String, SetupError> {
    let asked = async {
        let answer = ask(gateway, Cmd::ReqAccessServer, &request::access_server()).await?;
        check(&answer, 3)?;
        let answer = ResSelectAccessServerForClient::decode(&*answer).map_err(io::Error::other);
        Ok(answer?.addr)
    };
    asked
        .await
        .map_err(at(&format!("gateway {}", stack.gateway)))
}

/// Connects to an access server and logs in a user.
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

/// Fills the inboxes of these users. The messages are from a user who takes no part in the run.
async fn fill(plan: &Plan, stack: &StackAccess, numbers: &[usize]) -> Result<(), SetupError> {
    let Some(first) = numbers.first() else {
        return Ok(());
    };
    let sender = plan.uid(plan.users + first);
    let addr = access(&mut open_gateway(stack).await?, stack).await?;
    let mut connection = log_in(addr, sender, &stack.salt).await?;
    let text = "m".repeat(plan.size);
    for number in numbers {
        let target = plan.uid(*number);
        // The server gives an id to a message without one, so each of them is a new message.
        let message = request::p2p(sender, target, "", &text);
        let filled = send_many(&mut connection, &message, plan.fill).await;
        filled.map_err(at(&format!("filling the inbox of {target}")))?;
    }
    Ok(())
}

/// Sends a message `count` times, and waits for all answers.
async fn send_many(
    connection: &mut Connection,
    message: &ReqSendP2pMsg,
    count: u32,
) -> Result<(), ConnectionError> {
    let frame = request::frame(message)?;
    let mut left = count;
    while left > 0 {
        let now = left.min(FILL_WINDOW);
        left -= now;
        connection.send(&frame.repeat(now as usize)).await?;
        for _ in 0..now {
            check(&answer(connection, Cmd::SendP2PMsg).await?, 3)?;
        }
    }
    Ok(())
}

/// Returns a function that adds the step to an error.
fn at(step: &str) -> impl FnOnce(ConnectionError) -> SetupError + use<'_> {
    move |source| SetupError {
        step: step.to_owned(),
        source,
    }
}
