//! The load on one server: a [sender](super::sender) for each user, and now and then the creation of a group.
//!
//! Serves the torture of a folder and the simulation. A load runs until its server is gone, and returns the events that the
//! checker needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use imd::daemon::Addresses;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::checker::Checker;
use super::connection::{self, SessionEnd};
use super::event::Event;
use super::sender::Sender;

/// The uids of the users who send.
pub const USERS: RangeInclusive<i64> = 1..=8;

/// A user who gets few messages, is in no group, and syncs all the time: the first to see an entry that is not on the disk.
pub const QUIET_USER: i64 = 8;

/// How many groups there are, at most.
const MAX_GROUPS: usize = 4;

/// How many members each group has.
const MEMBERS: usize = 5;

/// What all senders of one load share.
pub struct LoadState {
    access: Vec<SocketAddr>,
    /// The members of each group that messages may be sent to.
    groups: Mutex<BTreeMap<i64, Vec<i64>>>,
    /// One permit for each acknowledged message that nobody has [waited for](LoadState::wait_for_acknowledged) yet.
    pub acknowledged: Semaphore,
}

impl LoadState {
    /// Returns the access server of a user. The users are spread over all servers.
    pub fn access(&self, uid: i64) -> SocketAddr {
        self.access[uid as usize % self.access.len()]
    }

    /// Returns one of the groups that this user is a member of, or `None` if there is none yet.
    pub fn random_group_of(&self, uid: i64, rng: &mut StdRng) -> Option<i64> {
        let groups = self.groups.lock();
        let joined = groups.iter().filter(|(_, members)| members.contains(&uid));
        let joined: Vec<i64> = joined.map(|(group, _)| *group).collect();
        joined.choose(rng).copied()
    }

    /// Waits until `count` more messages were acknowledged.
    pub async fn wait_for_acknowledged(&self, count: u32) {
        if let Ok(permits) = self.acknowledged.acquire_many(count).await {
            permits.forget();
        }
    }
}

/// The addresses of a server that clients need.
#[derive(Debug, Clone)]
pub struct ServerAddrs {
    pub access: Vec<SocketAddr>,
    pub user_api: SocketAddr,
    pub group_api: SocketAddr,
}

impl TryFrom<&Addresses> for ServerAddrs {
    type Error = std::net::AddrParseError;

    fn try_from(addresses: &Addresses) -> Result<Self, Self::Error> {
        let http = |url: &str| url.trim_start_matches("http://").parse();
        let access = addresses.access.iter().map(|access| access.addr.parse());
        Ok(ServerAddrs {
            access: access.collect::<Result<_, _>>()?,
            user_api: http(&addresses.user_api)?,
            group_api: http(&addresses.group_api)?,
        })
    }
}

/// A load that runs until its server is gone.
pub struct Load {
    pub state: Arc<LoadState>,
    tasks: JoinSet<Vec<Event>>,
}

impl Load {
    /// Starts all senders. `run` counts the runs of the program on one store, and numbers the connections.
    pub fn start(addrs: &ServerAddrs, checker: &Checker, run: u64, rng: &mut StdRng) -> Load {
        let state = Arc::new(LoadState {
            access: addrs.access.clone(),
            groups: Mutex::new(checker.groups().clone()),
            acknowledged: Semaphore::new(0),
        });
        let mut tasks = JoinSet::new();
        for uid in USERS {
            let sender = Sender {
                uid,
                connection: run,
                to_resend: checker.to_resend(uid, rng),
                rng: StdRng::from_rng(rng),
                load: Arc::clone(&state),
            };
            tasks.spawn(sender.run());
        }
        if checker.groups().len() < MAX_GROUPS {
            let creator = GroupCreator {
                api: addrs.group_api,
                members: random_members(rng),
                load: Arc::clone(&state),
                events: Vec::new(),
            };
            tasks.spawn(creator.run(checker.incomplete_group()));
        }
        Load { state, tasks }
    }

    /// Waits until the server is gone, and returns the events of all senders.
    pub async fn finish(self) -> Vec<Event> {
        self.tasks.join_all().await.concat()
    }
}

fn random_members(rng: &mut StdRng) -> Vec<i64> {
    let all: Vec<i64> = USERS.filter(|uid| *uid != QUIET_USER).collect();
    all.sample(rng, MEMBERS).copied().collect()
}

/// Creates a group while the senders are at work. They send to it once every member has joined.
struct GroupCreator {
    api: SocketAddr,
    members: Vec<i64>,
    load: Arc<LoadState>,
    events: Vec<Event>,
}

impl GroupCreator {
    /// Completes the group whose creation a crash has interrupted, or else creates a new one.
    async fn run(mut self, incomplete: Option<(i64, Vec<i64>)>) -> Vec<Event> {
        if let Err(end) = self.complete(incomplete).await {
            self.events.extend(end.event());
        }
        self.events
    }

    async fn complete(&mut self, incomplete: Option<(i64, Vec<i64>)>) -> Result<(), SessionEnd> {
        let (group, members) = match incomplete {
            Some(incomplete) => incomplete,
            None => (self.create().await?, self.members.clone()),
        };
        let mut joins = JoinSet::new();
        for uid in members.clone() {
            let api = self.api;
            joins.spawn(async move {
                let form = format!("uid={uid}&gid={group}");
                (uid, connection::post(api, "/x/group/join", &form).await)
            });
        }
        for (uid, joined) in joins.join_all().await {
            let (code, _) = joined?;
            if code != 0 {
                let request = format!("{uid} joins group {group}");
                return Err(SessionEnd::Refused { request, code });
            }
        }
        self.load.groups.lock().insert(group, members.clone());
        self.events.push(Event::GroupCompleted { group, members });
        Ok(())
    }

    async fn create(&mut self) -> Result<i64, SessionEnd> {
        let form = format!("uid={}&name=team", self.members[0]);
        let (code, data) = connection::post(self.api, "/x/group/create", &form).await?;
        let group = data["gid"].as_i64().unwrap_or_default();
        if code != 0 || group <= 0 {
            let request = format!("the group {group} is created");
            return Err(SessionEnd::Refused { request, code });
        }
        let members = self.members.clone();
        self.events.push(Event::GroupCreated { group, members });
        Ok(group)
    }
}

/// Registers a user and asks for a token, which must be valid in every later run. Does nothing if the checker knows a token.
pub async fn register(addrs: &ServerAddrs, checker: &Checker) -> Vec<Event> {
    let uid = *USERS.start();
    if checker.token(uid).is_some() {
        return Vec::new();
    }
    let token = async {
        let form = format!("uid={uid}&name=ann&pw=secret");
        // The code is not checked: the user exists already if an earlier run was killed before its answer.
        connection::post(addrs.user_api, "/x/user/register", &form).await?;
        connection::post(addrs.user_api, "/x/user/auth", &form).await
    };
    match token.await {
        Ok((0, data)) => {
            let token = data["token"].as_str().unwrap_or_default().to_owned();
            vec![Event::TokenIssued { uid, token }]
        }
        Ok((code, _)) => vec![Event::Refused {
            request: format!("the password of {uid}"),
            code,
        }],
        Err(_) => Vec::new(),
    }
}
