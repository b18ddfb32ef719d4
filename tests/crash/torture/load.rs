//! Everybody who talks to one server at once.

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
use super::event::Event;
use super::talker::Talker;
use super::wire::{self, Gone};

/// Who talks.
pub const USERS: RangeInclusive<i64> = 1..=8;

/// Who gets few messages, is in no group, and reads again and again.
pub const QUIET: i64 = 8;

/// So many groups there are at most, and so many members has each.
const GROUPS: usize = 4;
const MEMBERS: usize = 5;

/// What all talkers of one life share.
pub struct Shared {
    access: Vec<SocketAddr>,
    groups: Mutex<BTreeMap<i64, Vec<i64>>>,
    /// One permit for each acknowledgement.
    pub acknowledged: Semaphore,
}

impl Shared {
    /// Where a user connects; they are spread over the servers.
    pub fn access(&self, uid: i64) -> SocketAddr {
        self.access[uid as usize % self.access.len()]
    }

    /// One of the groups that this user is a member of.
    pub fn a_group_of(&self, uid: i64, rng: &mut StdRng) -> Option<i64> {
        let groups = self.groups.lock();
        let mine = groups.iter().filter(|(_, members)| members.contains(&uid));
        let mine: Vec<i64> = mine.map(|(group, _)| *group).collect();
        mine.choose(rng).copied()
    }

    /// Waits until so many more messages were acknowledged.
    pub async fn acknowledged(&self, count: u32) {
        if let Ok(permits) = self.acknowledged.acquire_many(count).await {
            permits.forget();
        }
    }
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Places {
    pub access: Vec<SocketAddr>,
    pub user_api: SocketAddr,
    pub group_api: SocketAddr,
}

impl TryFrom<&Addresses> for Places {
    type Error = std::net::AddrParseError;

    fn try_from(addresses: &Addresses) -> Result<Self, Self::Error> {
        let http = |url: &str| url.trim_start_matches("http://").parse();
        let access = addresses.access.iter().map(|access| access.addr.parse());
        Ok(Places {
            access: access.collect::<Result<_, _>>()?,
            user_api: http(&addresses.user_api)?,
            group_api: http(&addresses.group_api)?,
        })
    }
}

/// A load that runs until its server is gone.
pub struct Load {
    pub shared: Arc<Shared>,
    tasks: JoinSet<Vec<Event>>,
}

impl Load {
    /// Everybody begins to talk. `life` counts the lives of the store.
    pub fn start(places: &Places, checker: &Checker, life: u64, rng: &mut StdRng) -> Load {
        let shared = Arc::new(Shared {
            access: places.access.clone(),
            groups: Mutex::new(checker.groups().clone()),
            acknowledged: Semaphore::new(0),
        });
        let mut tasks = JoinSet::new();
        for uid in USERS {
            let talker = Talker {
                uid,
                connection: life,
                again: checker.to_resend(uid, rng),
                rng: StdRng::from_rng(rng),
                shared: Arc::clone(&shared),
            };
            tasks.spawn(talker.run());
        }
        if checker.groups().len() < GROUPS {
            let founder = Founder {
                api: places.group_api,
                members: members(rng),
                shared: Arc::clone(&shared),
                events: Vec::new(),
            };
            tasks.spawn(founder.run(checker.unfinished()));
        }
        Load { shared, tasks }
    }

    /// Waits until the server is gone, and gathers what happened.
    pub async fn end(self) -> Vec<Event> {
        self.tasks.join_all().await.concat()
    }
}

fn members(rng: &mut StdRng) -> Vec<i64> {
    let all: Vec<i64> = USERS.filter(|uid| *uid != QUIET).collect();
    all.sample(rng, MEMBERS).copied().collect()
}

/// Founds a group while the others talk. It is used once every member has joined.
struct Founder {
    api: SocketAddr,
    members: Vec<i64>,
    shared: Arc<Shared>,
    events: Vec<Event>,
}

impl Founder {
    /// Goes on with a group that a crash has interrupted, or begins a new one.
    async fn run(mut self, unfinished: Option<(i64, Vec<i64>)>) -> Vec<Event> {
        if let Err(gone) = self.found(unfinished).await {
            self.events.extend(gone.event());
        }
        self.events
    }

    async fn found(&mut self, unfinished: Option<(i64, Vec<i64>)>) -> Result<(), Gone> {
        let (group, members) = match unfinished {
            Some(unfinished) => unfinished,
            None => (self.create().await?, self.members.clone()),
        };
        let mut joins = JoinSet::new();
        for uid in members.clone() {
            let api = self.api;
            joins.spawn(async move {
                let form = format!("uid={uid}&gid={group}");
                (uid, wire::post(api, "/x/group/join", &form).await)
            });
        }
        while let Some(Ok((uid, joined))) = joins.join_next().await {
            let (code, _) = joined?;
            if code != 0 {
                let what = format!("{uid} joins group {group}");
                return Err(Gone::Told { what, code });
            }
        }
        self.shared.groups.lock().insert(group, members.clone());
        self.events.push(Event::Founded { group, members });
        Ok(())
    }

    async fn create(&mut self) -> Result<i64, Gone> {
        let form = format!("uid={}&name=team", self.members[0]);
        let (code, data) = wire::post(self.api, "/x/group/create", &form).await?;
        let group = data["gid"].as_i64().unwrap_or_default();
        if code != 0 || group <= 0 {
            let what = format!("the group {group} is created");
            return Err(Gone::Told { what, code });
        }
        let members = self.members.clone();
        self.events.push(Event::Created { group, members });
        Ok(group)
    }
}

/// Registers a user and asks for a token, which has to be good in every later life. Does nothing when there is one.
pub async fn register(places: &Places, checker: &Checker) -> Vec<Event> {
    let uid = *USERS.start();
    if checker.token(uid).is_some() {
        return Vec::new();
    }
    let asked = async {
        let form = format!("uid={uid}&name=ann&pw=secret");
        // In another life it may have been registered, and the answer lost.
        wire::post(places.user_api, "/x/user/register", &form).await?;
        wire::post(places.user_api, "/x/user/auth", &form).await
    };
    match asked.await {
        Ok((0, data)) => {
            let token = data["token"].as_str().unwrap_or_default().to_owned();
            vec![Event::Issued { uid, token }]
        }
        Ok((code, _)) => vec![Event::Refused {
            what: format!("the password of {uid}"),
            code,
        }],
        Err(_) => Vec::new(),
    }
}
