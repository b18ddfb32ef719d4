//! Compares what clients were told with what they read back. It knows nothing of a store: only what was sent and
//! answered, and the promises.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::RngExt;
use rand::rngs::StdRng;

use super::breach::{Breach, Charge};
use super::event::{Entry, Event, Inbox, Page};
use super::key::{Key, Kind};

/// All that was sent to one store and seen of it, over all of its lives.
#[derive(Debug, Default)]
pub struct Checker {
    groups: BTreeMap<i64, Vec<i64>>,
    /// A group whose members have not all joined.
    unfinished: Option<(i64, Vec<i64>)>,
    tokens: HashMap<i64, String>,
    sent: HashMap<Key, Sent>,
    users: BTreeMap<i64, User>,
    /// Counts the sends, over all connections.
    sends: u64,
    /// Codes that requests may be refused with.
    tolerated: HashSet<u32>,
    found: Vec<Breach>,
}

#[derive(Debug)]
struct Sent {
    tries: u32,
    acknowledged: bool,
    /// The connection of the first try, and which send that was.
    place: (u64, u64),
    /// Whether the first try says where it belongs: it was answered, or no other was made.
    has_place: bool,
}

/// What was seen of an inbox.
#[derive(Debug, Default)]
struct User {
    seen: BTreeMap<i64, Seen>,
    versions: HashMap<Key, i64>,
    /// The highest version that was shown or spoken of.
    told: i64,
    /// The read mark is at least what was answered, and at most what was asked.
    read: (i64, i64),
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    key: Key,
    sent_at: i64,
}

impl Checker {
    /// From now on requests may be refused with `code`: then nothing is promised of them.
    pub fn tolerate(&mut self, code: u32) {
        self.tolerated.insert(code);
    }

    /// The groups that a store has to know, with their members.
    pub fn groups(&self) -> &BTreeMap<i64, Vec<i64>> {
        &self.groups
    }

    /// A group that a store has to know, which some of its members have still to join.
    pub fn unfinished(&self) -> Option<(i64, Vec<i64>)> {
        self.unfinished.clone()
    }

    /// A token that was issued to `uid`.
    pub fn token(&self, uid: i64) -> Option<&str> {
        self.tokens.get(&uid).map(String::as_str)
    }

    /// How many messages were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.sent.values().filter(|sent| sent.acknowledged).count()
    }

    /// What `source` should send again, with whether it was acknowledged: some of what was, and most of the rest.
    pub fn to_resend(&self, source: i64, rng: &mut StdRng) -> Vec<(Key, bool)> {
        let mine = self.sent.iter().filter(|(key, _)| key.source == source);
        let mut keys: Vec<(&Key, bool)> =
            mine.map(|(key, sent)| (key, sent.acknowledged)).collect();
        // The order of a map is another one in each run.
        keys.sort_by(|(a, _), (b, _)| (&a.msg_id, a.scope).cmp(&(&b.msg_id, b.scope)));
        let known = keys
            .iter()
            .filter(|(_, acknowledged)| *acknowledged)
            .count();
        let chance = 20.0 / (known.max(20) as f64);
        keys.retain(|(_, acknowledged)| rng.random_bool(if *acknowledged { chance } else { 0.8 }));
        let owned = keys
            .into_iter()
            .map(|(key, acknowledged)| (key.clone(), acknowledged));
        owned.collect()
    }

    /// Takes in what the clients of one life wrote down.
    pub fn take(&mut self, events: Vec<Event>) -> Vec<Breach> {
        // A reader may have written down a message before its sender has.
        let mut seen = Vec::new();
        for event in events {
            match event {
                Event::Created { group, members } => self.unfinished = Some((group, members)),
                Event::Founded { group, members } => {
                    self.unfinished = None;
                    self.groups.insert(group, members);
                }
                Event::Issued { uid, token } => {
                    self.tokens.insert(uid, token);
                }
                Event::Sent { key, connection } => self.take_sent(key, connection),
                Event::Answered { key, code } => self.take_answer(&key, code),
                Event::Refused { code, .. } if self.tolerated.contains(&code) => {}
                Event::Refused { what, code } => {
                    self.charge(Charge::Refused, format!("{what}: {code}"));
                }
                Event::Strange { what } => self.charge(Charge::Strange, what),
                Event::Asked { .. } | Event::Paged(_) | Event::Notified { .. } => seen.push(event),
            }
        }
        for event in seen {
            match event {
                Event::Asked { uid, after } => self.asked(uid, after),
                Event::Paged(page) => self.take_page(&page),
                Event::Notified { uid, total } => {
                    let user = self.users.entry(uid).or_default();
                    user.told = user.told.max(total);
                }
                _ => {}
            }
        }
        std::mem::take(&mut self.found)
    }

    /// The power went. Read marks are promised to survive a kill alone: losing one makes nobody miss a message.
    pub fn forget_marks(&mut self) {
        for user in self.users.values_mut() {
            user.read.0 = 0;
        }
    }

    /// Compares with all inboxes, which were read while nobody sent.
    pub fn compare(&mut self, inboxes: &[Inbox]) -> Vec<Breach> {
        for inbox in inboxes {
            self.check_mark(inbox);
            self.check_inbox(inbox);
        }
        self.check_sent(inboxes);
        std::mem::take(&mut self.found)
    }

    fn charge(&mut self, charge: Charge, found: impl Into<String>) {
        self.found.push(Breach::new(charge, found));
    }

    fn take_sent(&mut self, key: Key, connection: u64) {
        self.sends += 1;
        let place = (connection, self.sends);
        let sent = self.sent.entry(key).or_insert(Sent {
            tries: 0,
            acknowledged: false,
            place,
            has_place: true,
        });
        sent.tries += 1;
        // Which of the tries was stored is not known.
        sent.has_place = sent.tries == 1 || (sent.has_place && sent.acknowledged);
    }

    fn take_answer(&mut self, key: &Key, code: u32) {
        match (self.sent.get_mut(key), code) {
            (Some(sent), 0) => sent.acknowledged = true,
            (Some(_), code) if self.tolerated.contains(&code) => {}
            (Some(_), code) => self.charge(Charge::Refused, format!("{key}: {code}")),
            (None, _) => self.charge(Charge::Strange, format!("an answer to {key}")),
        }
    }

    fn asked(&mut self, uid: i64, after: i64) {
        let (_, most) = &mut self.users.entry(uid).or_default().read;
        *most = (*most).max(after);
    }

    /// A page continues exactly where the question ended, and says what it did before.
    fn take_page(&mut self, page: &Page) {
        let Page {
            uid,
            after,
            current,
            total,
            ..
        } = *page;
        let user = self.users.entry(uid).or_default();
        let told = user.told;
        let (least, _) = &mut user.read;
        *least = (*least).max(after);
        if total < told {
            self.charge(
                Charge::Vanished,
                format!("the inbox of {uid} ends at {total}, after {told}"),
            );
        }
        let versions = page.entries.iter().map(|entry| entry.version);
        let end = after + page.entries.len() as i64;
        if !versions.clone().eq(after + 1..=end)
            || current != end
            || (current == after && total > after)
        {
            let found = format!(
                "a page for {uid} after {after} holds {}, and says {current} of {total}",
                runs(versions)
            );
            self.charge(Charge::Gap, found);
        }
        for entry in &page.entries {
            self.take_entry(uid, entry);
        }
        let user = self.users.entry(uid).or_default();
        user.told = user.told.max(total).max(current);
    }

    fn take_entry(&mut self, uid: i64, entry: &Entry) {
        let version = entry.version;
        let Some(key) = entry.key(uid).filter(|key| self.sent.contains_key(key)) else {
            let found = format!("in the inbox of {uid}: {}", brief(entry));
            return self.charge(Charge::Unsent, found);
        };
        if entry.text != key.text() {
            let found = format!("{key}: in the inbox of {uid}: {}", brief(entry));
            self.charge(Charge::Altered, found);
        }
        let sent_at = entry.sent_at;
        let seen = Seen { key, sent_at };
        let user = self.users.entry(uid).or_default();
        let mut found = None;
        match user.seen.get(&version) {
            Some(before) if *before == seen => {}
            Some(before) => {
                let now = format!("version {version} of {uid} holds {seen:?}, before {before:?}");
                found = Some((Charge::Moved, now));
            }
            None => {
                if let Some(other) = user.versions.insert(seen.key.clone(), version) {
                    let now = format!("{} of {uid} is at {other} and {version}", seen.key);
                    found = Some((Charge::Duplicate, now));
                }
                user.seen.insert(version, seen);
            }
        }
        if let Some((charge, found)) = found {
            self.charge(charge, found);
        }
    }

    /// The login tells how far the user has read, when there is more: that is how the read mark is seen from outside.
    fn check_mark(&mut self, inbox: &Inbox) {
        let uid = inbox.uid;
        let total = inbox.pages.last().map_or(0, |page| page.total);
        let (least, most) = self.users.entry(uid).or_default().read;
        match inbox.notified {
            None if most < total => self.charge(
                Charge::NotNotified,
                format!("{uid} has read {most} of {total}, and the login says nothing"),
            ),
            None => {}
            Some((current, told)) => {
                if told != total {
                    let found = format!("{uid} was told of {told}, and finds {total}");
                    self.charge(Charge::Gap, found);
                }
                if current < least {
                    let found = format!("{uid} had read {least}, and is at {current}");
                    self.charge(Charge::MarkBack, found);
                }
                if current > most {
                    let found = format!("{uid} has read {most}, and is at {current}");
                    self.charge(Charge::MarkAhead, found);
                }
            }
        }
    }

    fn check_inbox(&mut self, inbox: &Inbox) {
        let uid = inbox.uid;
        let mut after = 0;
        for page in &inbox.pages {
            if page.after != after {
                let found = format!("a page for {uid} begins after {}, not {after}", page.after);
                self.charge(Charge::Gap, found);
            }
            self.asked(uid, page.after);
            self.take_page(page);
            after = page.current;
        }
        let told = self.users.entry(uid).or_default().told;
        if after < told {
            let found = format!("the inbox of {uid} ends at {after}, after {told}");
            self.charge(Charge::Vanished, found);
        }
        let mut last: HashMap<i64, ((u64, u64), i64)> = HashMap::new();
        for entry in inbox.pages.iter().flat_map(|page| &page.entries) {
            let Some(key) = entry.key(uid) else { continue };
            let Some(sent) = self.sent.get(&key).filter(|sent| sent.has_place) else {
                continue;
            };
            let place = (sent.place, entry.version);
            let before = last.insert(key.source, place);
            if let Some((_, version)) = before.filter(|(before, _)| *before > sent.place) {
                let found = format!(
                    "{key} is at {} of {uid}, behind what was sent after it, at {version}",
                    entry.version
                );
                self.charge(Charge::OutOfOrder, found);
            }
        }
    }

    /// Everything that was acknowledged is with all of its receivers; everything else with all or none.
    fn check_sent(&mut self, inboxes: &[Inbox]) {
        let mut there: HashMap<Key, HashSet<i64>> = HashMap::new();
        for inbox in inboxes {
            for entry in inbox.pages.iter().flat_map(|page| &page.entries) {
                if let Some(key) = entry.key(inbox.uid) {
                    there.entry(key).or_default().insert(inbox.uid);
                }
            }
        }
        let mut found = Vec::new();
        for (key, sent) in &self.sent {
            let one = [key.scope];
            let receivers = match key.kind {
                Kind::Group => self.groups.get(&key.scope).map_or(&[][..], Vec::as_slice),
                Kind::P2p | Kind::Ack => &one,
            };
            let with = there.get(key);
            let missing: Vec<i64> = receivers
                .iter()
                .copied()
                .filter(|uid| !with.is_some_and(|with| with.contains(uid)))
                .collect();
            let charge = match (with, missing.is_empty()) {
                (_, true) => continue,
                (Some(_), false) => Charge::HalfStored,
                (None, false) if sent.acknowledged => Charge::Lost,
                (None, false) => continue,
            };
            found.push(Breach::new(
                charge,
                format!(
                    "{key} is not with {missing:?} (acknowledged: {})",
                    sent.acknowledged
                ),
            ));
        }
        found.sort_by(|a, b| a.found.cmp(&b.found));
        self.found.append(&mut found);
    }
}

/// Versions as ranges.
fn runs(versions: impl Iterator<Item = i64>) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for version in versions {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == version => *end = version,
            _ => runs.push((version, version)),
        }
    }
    let runs = runs.iter().map(|(start, end)| format!("{start}-{end}"));
    runs.collect::<Vec<_>>().join(", ")
}

/// An entry without all of its text.
fn brief(entry: &Entry) -> String {
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
