//! Checks the results of `imd bench`: whether every message arrived exactly once.
//!
//! Serves the report. The fields of [`Check`] are those of the JSON that `--json` prints.

use std::collections::HashMap;

use serde::Serialize;

use super::seqs::Seqs;
use super::stamp;
use super::tally::Tally;
use super::user::DeliveryRecord;

/// The verdict on a run: whether every request was answered once and every message arrived exactly once, with the
/// number of errors of each kind.
#[derive(Debug, Default, Serialize)]
pub struct Check {
    pub ok: bool,
    refused: u64,
    unanswered: u64,
    /// Answers to requests that were answered before, or that were never made.
    unasked: u64,
    /// Acknowledged messages that a receiver did not find in any page, counted per receiver.
    missing: u64,
    double: u64,
    altered: u64,
    /// Places where a page leaves messages out.
    gaps: u64,
    /// Code and text of the first refusal.
    refusal: Option<String>,
    /// Why the first connection was lost, if any was.
    lost: Option<String>,
}

impl Check {
    /// Compares the messages that were acknowledged with those that were received.
    pub fn new(tally: &Tally, records: Vec<DeliveryRecord>) -> Check {
        let counts = &tally.counts;
        let receivers: HashMap<usize, &DeliveryRecord> =
            records.iter().map(|record| (record.user, record)).collect();
        let missing = records.iter().flat_map(|sender| {
            let receivers = &receivers;
            sender.acknowledged.iter().map(move |(receiver, seqs)| {
                let missing_at = |receiver: &DeliveryRecord| match receiver.found.get(&sender.user)
                {
                    Some(found) => seqs.missing_in(found),
                    None => seqs.missing_in(&Seqs::default()),
                };
                match *receiver {
                    stamp::GROUP => receivers.values().map(|it| missing_at(it)).sum(),
                    receiver => receivers.get(&receiver).map_or(0, |it| missing_at(it)),
                }
            })
        });
        let mut check = Check {
            ok: false,
            refused: counts.refused,
            unanswered: counts.sent.saturating_sub(counts.answered),
            unasked: counts.unasked,
            missing: missing.sum::<u64>(),
            double: counts.double,
            altered: counts.altered,
            gaps: counts.gaps,
            refusal: tally.refusal.clone(),
            lost: tally.lost.clone(),
        };
        check.ok = check.wrong().is_empty();
        check
    }

    /// Returns a description of each kind of error that occurred, with its number.
    pub fn wrong(&self) -> Vec<String> {
        let counted = [
            (self.refused, "refused"),
            (self.unanswered, "not answered"),
            (self.unasked, "answered without being asked, or twice"),
            (self.missing, "acknowledged but missing"),
            (self.double, "double"),
            (self.altered, "altered"),
            (self.gaps, "left out of a page"),
        ];
        let counted = counted.iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(count, what)| format!("{count} {what}"));
        let reasons = [("a refusal", &self.refusal), ("lost", &self.lost)];
        let reasons = reasons.iter().filter_map(|(what, text)| {
            let text = text.as_ref()?;
            Some(format!("{what}: {text}"))
        });
        counted.chain(reasons).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(
        user: usize,
        (receiver, acknowledged): (usize, u64),
        found: &[(usize, u64)],
    ) -> DeliveryRecord {
        let mut record = DeliveryRecord {
            user,
            ..Default::default()
        };
        for number in 0..acknowledged {
            record
                .acknowledged
                .entry(receiver)
                .or_default()
                .insert(number);
        }
        for (sender, number) in found {
            record.found.entry(*sender).or_default().insert(*number);
        }
        record
    }

    #[test]
    fn every_member_of_a_group_must_receive_every_message() {
        let group = |last: &[u64]| {
            let from_0 = |numbers: &[u64]| numbers.iter().map(|it| (0, *it)).collect::<Vec<_>>();
            let records = vec![
                record(2, (stamp::GROUP, 0), &from_0(last)),
                record(0, (stamp::GROUP, 3), &from_0(&[0, 1, 2])),
                record(1, (stamp::GROUP, 0), &from_0(&[2, 0, 1])),
            ];
            Check::new(&Tally::default(), records)
        };
        assert!(group(&[0, 1, 2]).ok);
        let missing = group(&[1]);
        assert_eq!((missing.ok, missing.missing), (false, 2));
        assert_eq!(missing.wrong(), ["2 acknowledged but missing"]);
    }

    #[test]
    fn a_message_is_missing_where_its_receiver_did_not_find_it() {
        let records = vec![
            record(0, (1, 2), &[(1, 0)]),
            record(1, (0, 1), &[(0, 0), (2, 1)]),
            record(2, (1, 1), &[]),
        ];
        // The second message of user 0, and the first one of user 2.
        assert_eq!(Check::new(&Tally::default(), records).missing, 2);
    }

    #[test]
    fn a_message_that_was_stored_but_not_acknowledged_is_no_error() {
        let records = vec![record(0, (0, 1), &[(0, 0), (0, 1)])];
        assert!(Check::new(&Tally::default(), records).ok);
    }
}
