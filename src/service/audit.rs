//! Counts refused commands, and answers to clients that were not true, such as the acknowledgement of a lost message.
//!
//! Serves the operations, which report to it, and `report` and the admin API, which show the counts. Answers are untrue
//! only where a fault or a quirk asks for it, so all counts but those of refusals are zero otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use super::Refusal;
use crate::id::Version;
use crate::lab;
use crate::proto::{Cmd, Code};
use crate::store::Page;

/// The counts of refusals and of untrue answers, since the start or since the contents of the store were replaced.
///
/// They take a constant amount of memory, whatever the number of messages.
#[derive(Debug, Default)]
pub struct Audit {
    refused: AtomicU64,
    /// The kinds of refusals, by the numbers of command and code.
    refusals: Mutex<BTreeMap<(u32, u32), RefusalCount>>,
    lost: AtomicU64,
    repeated: AtomicU64,
    swapped: AtomicU64,
}

/// The counts since the start, or since the contents of the store were replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// Messages that were not stored, and whose senders were told why.
    pub refused: u64,
    /// Messages that were acknowledged and not stored, and entries that a page skipped.
    pub lost: u64,
    /// Entries in a page whose reader had asked only for newer ones.
    pub repeated: u64,
    /// Entries that followed a newer entry in their page.
    pub swapped: u64,
}

/// The refusals of one command with one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalCount {
    /// The command; serialized as the name that the contract has for it.
    #[serde(serialize_with = "by_name")]
    pub cmd: Cmd,
    /// The error code; serialized as its number.
    #[serde(serialize_with = "by_number")]
    pub code: Code,
    /// The number of these refusals.
    pub count: u64,
    /// The text that the last refused client was told. If a fault was the cause, ` (a fault)` is added, which no client is
    /// told.
    pub reason: String,
}

fn by_name<S: serde::Serializer>(cmd: &Cmd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cmd.name())
}

fn by_number<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(code.number())
}

impl fmt::Display for RefusalCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefusalCount {
            cmd,
            code,
            count,
            reason,
        } = self;
        write!(f, "refused {count} {cmd} with {}: {reason}", code.number())
    }
}

impl Audit {
    /// Counts a refusal of a command.
    pub fn count_refusal(&self, cmd: Cmd, refusal: &Refusal) {
        if matches!(cmd, Cmd::SendP2PMsg | Cmd::SendGroupMsg) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let code = refusal.code;
        let mut refusals = self.refusals.lock();
        let refused = refusals
            .entry((cmd.number(), code.number()))
            .or_insert_with(|| RefusalCount {
                cmd,
                code,
                count: 0,
                reason: String::new(),
            });
        refused.count += 1;
        refused.reason.clone_from(&refusal.text);
        if refusal.is_injected {
            refused.reason += " (a fault)";
        }
    }

    /// Returns all kinds of refusals, in the order of command and code.
    pub fn refusals(&self) -> Vec<RefusalCount> {
        self.refusals.lock().values().cloned().collect()
    }

    /// Sets all counts to zero.
    pub fn clear(&self) {
        for count in [&self.refused, &self.lost, &self.repeated, &self.swapped] {
            count.store(0, Ordering::Relaxed);
        }
        self.refusals.lock().clear();
    }

    /// Counts messages that were acknowledged and not stored, or that a page has skipped.
    pub fn count_lost(&self, messages: u64) {
        self.lost.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts the gaps, repetitions and swaps in a page for a reader who asked for the entries after version `after`.
    pub fn count_page(&self, after: Version, page: &Page) {
        if lab::IS_LEFT_OUT {
            return;
        }
        // A request beyond the end of the inbox is answered from its beginning.
        let after = if after > page.total {
            Version::START
        } else {
            after
        };
        let mut found = Audited::default();
        let mut last = None;
        for entry in &page.entries {
            let version = entry.version;
            found.repeated += u64::from(version <= after);
            if let Some(last) = last {
                found.swapped += u64::from(version <= last);
                found.lost += u64::try_from(version - last - 1).unwrap_or(0);
            }
            last = Some(version);
        }
        if found != Audited::default() {
            self.count_lost(found.lost);
            self.repeated.fetch_add(found.repeated, Ordering::Relaxed);
            self.swapped.fetch_add(found.swapped, Ordering::Relaxed);
        }
    }

    /// Returns the counts.
    pub fn read(&self) -> Audited {
        Audited {
            refused: self.refused.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            repeated: self.repeated.load(Ordering::Relaxed),
            swapped: self.swapped.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{MsgId, Uid};
    use crate::store::{Entry, Kind, Message};
    use std::sync::Arc;

    fn audited(after: i64, versions: &[i64]) -> Audited {
        let message = Arc::new(Message::new(
            Kind::P2p,
            Uid(1),
            None,
            MsgId("id"),
            "text",
            1,
        ));
        let entry = |&version: &i64| Entry {
            version: Version(version),
            message: Arc::clone(&message),
        };
        let audit = Audit::default();
        audit.count_page(
            Version(after),
            &Page {
                entries: versions.iter().map(entry).collect(),
                current: Version::START,
                total: Version(9),
            },
        );
        audit.read()
    }

    #[test]
    fn refusals_are_counted_by_command_and_code() {
        let audit = Audit::default();
        let because = |why: &str| Refusal::because(Code::RequestErr, why);
        audit.count_refusal(Cmd::SendP2PMsg, &because("first"));
        audit.count_refusal(Cmd::SendP2PMsg, &because("second"));
        audit.count_refusal(Cmd::Login, &Refusal::plain(Code::NoToken));
        let told: Vec<String> = audit
            .refusals()
            .iter()
            .map(RefusalCount::to_string)
            .collect();
        let expected = [
            "refused 1 Login with 93001: no token",
            "refused 2 SendP2PMsg with 10001: request err: second",
        ];
        assert_eq!(told, expected);
        assert_eq!(audit.read().refused, 2, "messages alone");
        audit.clear();
        assert_eq!(
            (audit.read(), audit.refusals()),
            (Audited::default(), vec![])
        );
    }

    #[test]
    fn what_is_not_so_is_counted() {
        let nothing = Audited::default();
        assert_eq!(audited(0, &[]), nothing);
        assert_eq!(audited(2, &[3, 4, 5]), nothing);
        // A page begins later if old entries were removed. A request beyond the end of the inbox is answered from its start.
        assert_eq!(audited(2, &[7, 8]), nothing);
        assert_eq!(audited(99, &[1, 2]), nothing);
        let (lost, repeated, swapped) = (1, 1, 1);
        assert_eq!(audited(0, &[1, 3]), Audited { lost, ..nothing });
        assert_eq!(
            audited(3, &[3, 4]),
            Audited {
                repeated,
                ..nothing
            }
        );
        assert_eq!(audited(0, &[2, 1]), Audited { swapped, ..nothing });
        assert_eq!(audited(0, &[1, 1]), Audited { swapped, ..nothing });
    }
}
