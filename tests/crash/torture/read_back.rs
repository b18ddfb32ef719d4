//! Reads every inbox whole, as clients with no stored state would.
//!
//! Serves the torture of a folder and the simulation, which compare what is read with what was acknowledged.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use imd::proto::Cmd;

use super::checker::Checker;
use super::connection::{self, PipelinedConnection, SessionEnd};
use super::event::{Event, InboxContents, Page};
use super::load::{ServerAddrs, USERS};

/// What the readers of all inboxes have seen.
pub struct ReadBack {
    /// The inbox of each user, in the order of the uids. `None` if the server was killed before all were read.
    pub inboxes: Option<Vec<InboxContents>>,
    /// The requests, and the pages that were received if `inboxes` is `None`.
    pub events: Vec<Event>,
}

/// Reads all inboxes side by side, in pages of random lengths. No user may be sending meanwhile.
pub async fn read_back(addrs: &ServerAddrs, checker: &Checker, rng: &mut StdRng) -> ReadBack {
    let mut readers = JoinSet::new();
    for uid in USERS {
        let addr = addrs.access[rng.random_range(0..addrs.access.len())];
        let reader = Reader {
            uid,
            token: checker.token(uid).map(str::to_owned),
            rng: StdRng::from_rng(rng),
            inbox: InboxContents {
                uid,
                notified: None,
                pages: Vec::new(),
            },
            requests: Vec::new(),
        };
        readers.spawn(async move { reader.run(PipelinedConnection::connect(addr).await).await });
    }
    let mut inboxes = Vec::new();
    let mut events = Vec::new();
    for (inbox, requests, end) in readers.join_all().await {
        events.extend(requests);
        match end {
            Ok(()) => inboxes.push(inbox),
            Err(end) => {
                // The pages before the end are evidence too.
                events.extend(inbox.pages.into_iter().map(page_received));
                events.extend(end.event());
            }
        }
    }
    if inboxes.len() == USERS.count() {
        inboxes.sort_by_key(|inbox| inbox.uid);
        let inboxes = Some(inboxes);
        return ReadBack { inboxes, events };
    }
    let pages = inboxes.into_iter().flat_map(|inbox| inbox.pages);
    events.extend(pages.map(page_received));
    let inboxes = None;
    ReadBack { inboxes, events }
}

fn page_received(page: Page) -> Event {
    let at = Instant::now();
    Event::PageReceived { page, at }
}

/// The reader of one inbox.
struct Reader {
    uid: i64,
    /// A token that the server has issued, or `None` to log in with the salted token.
    token: Option<String>,
    rng: StdRng,
    /// What was read so far.
    inbox: InboxContents,
    /// The syncs that were sent so far, as events.
    requests: Vec<Event>,
}

impl Reader {
    async fn run(
        mut self,
        connection: Result<PipelinedConnection, SessionEnd>,
    ) -> (InboxContents, Vec<Event>, Result<(), SessionEnd>) {
        let end = match connection {
            Ok(mut connection) => self.read(&mut connection).await,
            Err(end) => Err(end),
        };
        (self.inbox, self.requests, end)
    }

    /// Logs in and reads page after page, until a page ends where the server says that the inbox ends.
    async fn read(&mut self, connection: &mut PipelinedConnection) -> Result<(), SessionEnd> {
        let uid = self.uid;
        let code = connection.login(uid, self.token.as_deref()).await?;
        if code != 0 {
            let request = format!("the login of {uid}");
            return Err(SessionEnd::Refused { request, code });
        }
        let mut after = 0;
        loop {
            let page = self.read_page(connection, after).await?;
            // A page that does not go on would be asked for without end. The checker reports it.
            let is_last = page.current >= page.total || page.current <= after;
            after = page.current;
            self.inbox.pages.push(page);
            if is_last {
                return Ok(());
            }
        }
    }

    async fn read_page(
        &mut self,
        connection: &mut PipelinedConnection,
        after: i64,
    ) -> Result<Page, SessionEnd> {
        let uid = self.uid;
        let limits = [0, 0, 0, 7, 100];
        let limit = limits.choose(&mut self.rng).copied().unwrap_or(0);
        connection.queue_sync(uid, after, limit);
        self.requests.push(Event::SyncRequested { uid, after });
        connection.flush().await?;
        let page = loop {
            let (cmd, frame) = connection.frame().await?;
            match cmd {
                // The notify of the login comes before the first page. A later notify repeats what the pages say.
                Some(Cmd::Notify) if after == 0 => {
                    self.inbox.notified = Some(connection::decode_notify(frame)?);
                }
                Some(Cmd::Notify) => {}
                Some(Cmd::SyncMsg) => break connection::decode_page(uid, after, frame)?,
                _ => return Err(connection::unexpected(&frame)),
            }
        };
        page.map_err(|code| SessionEnd::Refused {
            request: format!("a sync of {uid} after {after}"),
            code,
        })
    }
}
