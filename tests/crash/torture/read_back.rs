//! Reads every inbox whole, as a client would that starts from nothing.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use imd::proto::Cmd;

use super::checker::Checker;
use super::event::{Event, Inbox};
use super::load::{Places, USERS};
use super::wire::{self, Gone, Wire};

/// What was read, and whether that is everything: the server may have been killed meanwhile.
pub struct ReadBack {
    /// One for each user; none when the server was gone before the end.
    pub inboxes: Option<Vec<Inbox>>,
    /// What the checker has to know when it was.
    pub events: Vec<Event>,
}

/// Reads all inboxes, in pages of any length. Nobody else may be there.
pub async fn read_back(places: &Places, checker: &Checker, rng: &mut StdRng) -> ReadBack {
    let mut readers = JoinSet::new();
    for uid in USERS {
        let addr = places.access[rng.random_range(0..places.access.len())];
        let reader = Reader {
            uid,
            token: checker.token(uid).map(str::to_owned),
            rng: StdRng::from_rng(rng),
            inbox: Inbox {
                uid,
                notified: None,
                pages: Vec::new(),
            },
            asked: Vec::new(),
        };
        readers.spawn(async move { reader.run(Wire::connect(addr).await).await });
    }
    let mut inboxes = Vec::new();
    let mut events = Vec::new();
    for (inbox, asked, end) in readers.join_all().await {
        events.extend(asked);
        match end {
            Ok(()) => inboxes.push(inbox),
            Err(gone) => {
                // What was read still counts.
                events.extend(inbox.pages.into_iter().map(Event::Paged));
                events.extend(gone.event());
            }
        }
    }
    if inboxes.len() == USERS.count() {
        inboxes.sort_by_key(|inbox| inbox.uid);
        let inboxes = Some(inboxes);
        return ReadBack { inboxes, events };
    }
    let pages = inboxes.into_iter().flat_map(|inbox| inbox.pages);
    events.extend(pages.map(Event::Paged));
    let inboxes = None;
    ReadBack { inboxes, events }
}

struct Reader {
    uid: i64,
    token: Option<String>,
    rng: StdRng,
    inbox: Inbox,
    asked: Vec<Event>,
}

impl Reader {
    async fn run(mut self, wire: Result<Wire, Gone>) -> (Inbox, Vec<Event>, Result<(), Gone>) {
        let end = match wire {
            Ok(mut wire) => self.read(&mut wire).await,
            Err(gone) => Err(gone),
        };
        (self.inbox, self.asked, end)
    }

    async fn read(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        let uid = self.uid;
        let code = wire.login(uid, self.token.as_deref()).await?;
        if code != 0 {
            let what = format!("the login of {uid}");
            return Err(Gone::Told { what, code });
        }
        let mut after = 0;
        loop {
            let limits = [0, 0, 0, 7, 100];
            let limit = limits.choose(&mut self.rng).copied().unwrap_or(0);
            wire.push_sync(uid, after, limit);
            self.asked.push(Event::Asked { uid, after });
            wire.send().await?;
            let page = loop {
                let (cmd, frame) = wire.frame().await?;
                match cmd {
                    // The one of the login comes before the first page; a later one says what the pages say.
                    Some(Cmd::Notify) if after == 0 => {
                        self.inbox.notified = Some(wire::level(frame)?)
                    }
                    Some(Cmd::Notify) => {}
                    Some(Cmd::SyncMsg) => break wire::page(uid, after, frame)?,
                    _ => return Err(wire::unexpected(&frame)),
                }
            };
            match page {
                Ok(page) => {
                    // A server that does not get on is left to the checker.
                    let is_end = page.current >= page.total || page.current <= after;
                    after = page.current;
                    self.inbox.pages.push(page);
                    if is_end {
                        return Ok(());
                    }
                }
                Err(code) => {
                    let what = format!("a sync of {uid} after {after}");
                    return Err(Gone::Told { what, code });
                }
            }
        }
    }
}
