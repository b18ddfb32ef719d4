//! Compares what clients were told with what is read back.
//!
//! Serves the torture of a folder and the simulation. The checker knows nothing of a store: it knows what clients have sent
//! and received, as [events](super::event), and the promises of the wire contract, as [kinds of breaches](BreachKind). It is
//! tested by `crash/sim`, which runs it over stores with planted bugs.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use rand::RngExt;
use rand::rngs::StdRng;

use super::breach::{Breach, BreachKind};
use super::event::{Entry, Event, InboxContents, Page};
use super::message_key::{EntryKind, MessageKey};

/// Everything that clients have sent to one store and have seen of it, over all runs of the program.
#[derive(Debug, Default)]
pub struct Checker {
    /// The members of each group that is complete.
    groups: BTreeMap<i64, Vec<i64>>,
    /// The group, with its members, that some members have not joined yet.
    incomplete_group: Option<(i64, Vec<i64>)>,
    tokens: HashMap<i64, String>,
    sent: HashMap<MessageKey, SentMessage>,
    inboxes: BTreeMap<i64, SeenInbox>,
    /// How many messages and acks were sent over all connections. Numbers them.
    send_count: u64,
    /// When the attempts of this run were made that are not answered yet.
    unanswered: HashMap<MessageKey, VecDeque<Instant>>,
    /// When the latest attempt was made that was acknowledged.
    latest_acknowledged: Option<Instant>,
    /// The codes with which requests may be refused.
    tolerated: HashSet<u32>,
    /// The breaches that the present call has found.
    breaches: Vec<Breach>,
}

/// The attempts to send one message or ack.
#[derive(Debug)]
struct SentMessage {
    attempts: u32,
    is_acknowledged: bool,
    first_attempt: Attempt,
    /// Whether it is known that the first attempt is the one that was stored: it was acknowledged before the second one, or
    /// there was no second one.
    is_first_stored: bool,
}

/// One attempt to send something. Attempts are ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    /// The number of the connection.
    connection: u64,
    /// How many attempts there were before on all connections.
    number: u64,
}

/// What clients have seen of one inbox.
#[derive(Debug, Default)]
struct SeenInbox {
    entries: BTreeMap<i64, SeenEntry>,
    /// The version of each message in `entries`.
    versions: HashMap<MessageKey, i64>,
    /// The highest version that a page or a notify has shown or reported.
    highest_reported: i64,
    read_mark: ReadMark,
}

#[derive(Debug, PartialEq, Eq)]
struct SeenEntry {
    key: MessageKey,
    sent_at: i64,
}

/// What is known of a read mark. A sync that was sent may have moved the mark; one that was answered has moved it, until the
/// program ends.
///
/// A crash may lose a mark that no commit has followed. A message that was sent after a page was received, and was
/// acknowledged, proves that there was such a commit. This needs no clock: with this load, a commit follows a page much sooner
/// than the 100 ms after which a lone mark is stored.
#[derive(Debug, Default)]
struct ReadMark {
    /// The marks of answered syncs of this run, and when their pages were received.
    noted: Vec<(Instant, i64)>,
    /// The highest mark that a crash must not lose.
    at_least: i64,
    at_most: i64,
}

impl Checker {
    /// Lets requests be refused with `code` from now on. Nothing is promised of a message that was refused with it.
    pub fn tolerate(&mut self, code: u32) {
        self.tolerated.insert(code);
    }

    /// Returns the groups that the store must have, with their members.
    pub fn groups(&self) -> &BTreeMap<i64, Vec<i64>> {
        &self.groups
    }

    /// Returns the group that the store must have and that some of the returned members may not have joined yet.
    pub fn incomplete_group(&self) -> Option<(i64, Vec<i64>)> {
        self.incomplete_group.clone()
    }

    /// Returns the token that the server has issued to `uid`, if any.
    pub fn token(&self, uid: i64) -> Option<&str> {
        self.tokens.get(&uid).map(String::as_str)
    }

    /// Returns how many messages and acks were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let sent = self.sent.values();
        sent.filter(|sent| sent.is_acknowledged).count()
    }

    /// Returns what `source` should send again, each with whether it was acknowledged: about 20 of those that were, and most
    /// of the others.
    pub fn to_resend(&self, source: i64, rng: &mut StdRng) -> Vec<(MessageKey, bool)> {
        let own = self.sent.iter().filter(|(key, _)| key.source == source);
        let mut keys: Vec<(&MessageKey, bool)> =
            own.map(|(key, sent)| (key, sent.is_acknowledged)).collect();
        // A seed must choose the same messages in every process, and the order of a map differs between processes.
        keys.sort_by(|(a, _), (b, _)| (&a.msg_id, a.scope).cmp(&(&b.msg_id, b.scope)));
        let acknowledged = keys.iter().filter(|(_, is_acknowledged)| *is_acknowledged);
        let chance = 20.0 / (acknowledged.count().max(20) as f64);
        keys.retain(|(_, is_acknowledged)| {
            rng.random_bool(if *is_acknowledged { chance } else { 0.8 })
        });
        let owned = keys.into_iter().map(|(key, acked)| (key.clone(), acked));
        owned.collect()
    }

    /// Takes the events of all clients of one run, and returns the promises that they show to be broken.
    pub fn take(&mut self, events: Vec<Event>) -> Vec<Breach> {
        // A reader may have seen a message whose sender hands its events over later, so all sends are taken first.
        let mut seen = Vec::new();
        for event in events {
            match event {
                Event::GroupCreated { group, members } => {
                    self.incomplete_group = Some((group, members));
                }
                Event::GroupCompleted { group, members } => {
                    self.incomplete_group = None;
                    self.groups.insert(group, members);
                }
                Event::TokenIssued { uid, token } => {
                    self.tokens.insert(uid, token);
                }
                Event::Sent {
                    key,
                    connection,
                    at,
                } => {
                    let attempts = self.unanswered.entry(key.clone()).or_default();
                    attempts.push_back(at);
                    self.take_sent(key, connection);
                }
                Event::Answered { key, code } => self.take_answer(&key, code),
                Event::Refused { code, .. } if self.tolerated.contains(&code) => {}
                Event::Refused { request, code } => {
                    self.report(BreachKind::Refused, format!("{request}: {code}"));
                }
                Event::UnexpectedReply { found } => {
                    self.report(BreachKind::UnexpectedReply, found);
                }
                Event::SyncRequested { .. }
                | Event::PageReceived { .. }
                | Event::Notified { .. } => seen.push(event),
            }
        }
        for event in seen {
            match event {
                Event::SyncRequested { uid, after } => self.take_sync_request(uid, after),
                Event::PageReceived { page, at } => self.take_page(&page, at),
                Event::Notified { uid, total } => {
                    let highest = &mut self.inboxes.entry(uid).or_default().highest_reported;
                    *highest = (*highest).max(total);
                }
                _ => {}
            }
        }
        self.prove_read_marks();
        std::mem::take(&mut self.breaches)
    }

    /// Finds the read marks that a crash must not lose.
    fn prove_read_marks(&mut self) {
        for SeenInbox { read_mark, .. } in self.inboxes.values_mut() {
            let is_proven = |at: &Instant| self.latest_acknowledged.is_some_and(|sent| *at < sent);
            let proven = read_mark.noted.iter().filter(|(at, _)| is_proven(at));
            let highest = proven.map(|(_, mark)| *mark).max();
            read_mark.at_least = read_mark.at_least.max(highest.unwrap_or(0));
        }
    }

    /// Notes that a new run of the program has begun: it knows no read mark that the last one has not stored.
    fn begin_run(&mut self) {
        self.unanswered.clear();
        for inbox in self.inboxes.values_mut() {
            inbox.read_mark.noted.clear();
        }
    }

    /// Compares everything with all inboxes, which were read while no user was sending. Returns the broken promises.
    pub fn compare(&mut self, inboxes: &[InboxContents]) -> Vec<Breach> {
        self.begin_run();
        for inbox in inboxes {
            self.check_read_mark(inbox);
            self.check_inbox(inbox);
        }
        self.check_sent(inboxes);
        std::mem::take(&mut self.breaches)
    }

    fn report(&mut self, kind: BreachKind, found: impl Into<String>) {
        self.breaches.push(Breach::new(kind, found));
    }

    fn take_sent(&mut self, key: MessageKey, connection: u64) {
        self.send_count += 1;
        let attempt = Attempt {
            connection,
            number: self.send_count,
        };
        let sent = self.sent.entry(key).or_insert(SentMessage {
            attempts: 0,
            is_acknowledged: false,
            first_attempt: attempt,
            is_first_stored: true,
        });
        sent.attempts += 1;
        // Without an acknowledgement of the first attempt, a later one may be the one that was stored.
        sent.is_first_stored = sent.attempts == 1 || (sent.is_first_stored && sent.is_acknowledged);
    }

    fn take_answer(&mut self, key: &MessageKey, code: u32) {
        // The attempts of one message are made on one connection, so they are answered in their order.
        let sent_at = self.unanswered.get_mut(key).and_then(VecDeque::pop_front);
        if code == 0 {
            self.latest_acknowledged = self.latest_acknowledged.max(sent_at);
        }
        match (self.sent.get_mut(key), code) {
            (Some(sent), 0) => sent.is_acknowledged = true,
            (Some(_), code) if self.tolerated.contains(&code) => {}
            (Some(_), code) => self.report(BreachKind::Refused, format!("{key}: {code}")),
            (None, _) => {
                self.report(
                    BreachKind::UnexpectedReply,
                    format!("an answer to {key}, which was never sent"),
                );
            }
        }
    }

    fn take_sync_request(&mut self, uid: i64, after: i64) {
        let mark = &mut self.inboxes.entry(uid).or_default().read_mark;
        mark.at_most = mark.at_most.max(after);
    }

    /// Checks that a page begins right behind the version that was asked for, and that all of it agrees with earlier pages.
    fn take_page(&mut self, page: &Page, at: Instant) {
        let Page {
            uid,
            after,
            current,
            total,
            ..
        } = *page;
        let inbox = self.inboxes.entry(uid).or_default();
        let reported = inbox.highest_reported;
        inbox.read_mark.noted.push((at, after));
        if total < reported {
            self.report(
                BreachKind::Vanished,
                format!("the inbox of {uid} ends at {total}, and {reported} was reported before"),
            );
        }
        let versions = page.entries.iter().map(|entry| entry.version);
        let end = after + page.entries.len() as i64;
        let has_gap = !versions.clone().eq(after + 1..=end);
        let stands_still = current == after && total > after;
        if has_gap || current != end || stands_still {
            let found = format!(
                "a page for {uid} after {after} holds {}, and says {current} of {total}",
                ranges(versions)
            );
            self.report(BreachKind::Gap, found);
        }
        for entry in &page.entries {
            self.take_entry(uid, entry);
        }
        let highest = &mut self.inboxes.entry(uid).or_default().highest_reported;
        *highest = (*highest).max(total).max(current);
    }

    fn take_entry(&mut self, uid: i64, entry: &Entry) {
        let version = entry.version;
        let Some(key) = entry.key(uid).filter(|key| self.sent.contains_key(key)) else {
            let found = format!("in the inbox of {uid}: {}", summary(entry));
            return self.report(BreachKind::NeverSent, found);
        };
        if entry.text != key.text() {
            let found = format!("{key}: in the inbox of {uid}: {}", summary(entry));
            self.report(BreachKind::Altered, found);
        }
        let sent_at = entry.sent_at;
        let seen = SeenEntry { key, sent_at };
        let inbox = self.inboxes.entry(uid).or_default();
        match inbox.entries.get(&version) {
            Some(earlier) if *earlier == seen => {}
            Some(earlier) => {
                let found =
                    format!("version {version} of {uid} holds {seen:?}, earlier {earlier:?}");
                self.report(BreachKind::Moved, found);
            }
            None => {
                let other = inbox.versions.insert(seen.key.clone(), version);
                let key = seen.key.clone();
                inbox.entries.insert(version, seen);
                if let Some(other) = other {
                    let found = format!("{key} of {uid} is at {other} and {version}");
                    self.report(BreachKind::Duplicate, found);
                }
            }
        }
    }

    /// Checks the notify that followed the login. It reports the read mark, which nothing else shows to a client.
    fn check_read_mark(&mut self, inbox: &InboxContents) {
        let uid = inbox.uid;
        let total = inbox.pages.last().map_or(0, |page| page.total);
        let mark = &self.inboxes.entry(uid).or_default().read_mark;
        let (at_least, at_most) = (mark.at_least, mark.at_most);
        match inbox.notified {
            None if at_most < total => self.report(
                BreachKind::NotNotified,
                format!("{uid} has read {at_most} of {total}, and no notify followed the login"),
            ),
            None => {}
            Some((current, notified)) => {
                if notified != total {
                    let found = format!("{uid} was notified of {notified}, and finds {total}");
                    self.report(BreachKind::Gap, found);
                }
                if current < at_least {
                    let found = format!("{uid} had read {at_least}, and the mark is {current}");
                    self.report(BreachKind::ReadMarkBack, found);
                }
                if current > at_most {
                    let found = format!("{uid} has read {at_most}, and the mark is {current}");
                    self.report(BreachKind::ReadMarkAhead, found);
                }
            }
        }
    }

    /// Checks that the pages join, reach everything that was reported before, and keep the order of each sender.
    fn check_inbox(&mut self, inbox: &InboxContents) {
        let uid = inbox.uid;
        let mut after = 0;
        for page in &inbox.pages {
            if page.after != after {
                let found = format!("a page for {uid} begins after {}, not {after}", page.after);
                self.report(BreachKind::Gap, found);
            }
            self.take_sync_request(uid, page.after);
            self.take_page(page, Instant::now());
            after = page.current;
        }
        let reported = self.inboxes.entry(uid).or_default().highest_reported;
        if after < reported {
            let found = format!("the inbox of {uid} ends at {after}, and {reported} was reported");
            self.report(BreachKind::Vanished, found);
        }
        let mut latest: HashMap<i64, (Attempt, i64)> = HashMap::new();
        for entry in inbox.pages.iter().flat_map(|page| &page.entries) {
            let Some(key) = entry.key(uid) else { continue };
            let Some(sent) = self.sent.get(&key).filter(|sent| sent.is_first_stored) else {
                continue;
            };
            let attempt = sent.first_attempt;
            let earlier = latest.insert(key.source, (attempt, entry.version));
            if let Some((_, version)) = earlier.filter(|(earlier, _)| *earlier > attempt) {
                let found = format!(
                    "{key} is at {} of {uid}, behind what was sent after it, at {version}",
                    entry.version
                );
                self.report(BreachKind::OutOfOrder, found);
            }
        }
    }

    /// Checks that every acknowledged message is in the inboxes of all its receivers, and that every other message is in all
    /// of them or in none.
    fn check_sent(&mut self, inboxes: &[InboxContents]) {
        let mut holders: HashMap<MessageKey, HashSet<i64>> = HashMap::new();
        for inbox in inboxes {
            for entry in inbox.pages.iter().flat_map(|page| &page.entries) {
                if let Some(key) = entry.key(inbox.uid) {
                    holders.entry(key).or_default().insert(inbox.uid);
                }
            }
        }
        let mut breaches = Vec::new();
        for (key, sent) in &self.sent {
            let receiver = [key.scope];
            let receivers = match key.kind {
                EntryKind::Group => self.groups.get(&key.scope).map_or(&[][..], Vec::as_slice),
                EntryKind::P2p | EntryKind::Ack => &receiver,
            };
            let holders = holders.get(key);
            let is_missing = |uid: &i64| !holders.is_some_and(|holders| holders.contains(uid));
            let missing: Vec<i64> = receivers.iter().copied().filter(is_missing).collect();
            let kind = match holders {
                _ if missing.is_empty() => continue,
                Some(_) => BreachKind::HalfStored,
                None if sent.is_acknowledged => BreachKind::Lost,
                None => continue,
            };
            breaches.push(Breach::new(
                kind,
                format!(
                    "{key} is missing in the inboxes of {missing:?} (acknowledged: {})",
                    sent.is_acknowledged
                ),
            ));
        }
        // The order of a map differs between processes.
        breaches.sort_by(|a, b| a.found.cmp(&b.found));
        self.breaches.append(&mut breaches);
    }
}

/// Returns versions as ranges, such as `1-5, 7-9`.
fn ranges(versions: impl Iterator<Item = i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for version in versions {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == version => *end = version,
            _ => ranges.push((version, version)),
        }
    }
    let ranges = ranges.iter().map(|(start, end)| format!("{start}-{end}"));
    ranges.collect::<Vec<_>>().join(", ")
}

/// Returns the fields of an entry and the beginning of its text.
fn summary(entry: &Entry) -> String {
    let text: String = entry.text.chars().take(40).collect();
    let Entry {
        version,
        msg_type,
        source,
        target,
        group,
        msg_id,
        ..
    } = entry;
    format!(
        "version {version}: {msg_type} {msg_id:?} from {source} to {target} group {group}, {} bytes: {text:?}",
        entry.text.len()
    )
}
