//! Checks the results of `imd bench`: whether every message arrived exactly once.
//!
//! Serves the report. The fields of [`Check`] are those of the JSON that `--json` prints.

use serde::Serialize;

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
    pub fn new(tally: &Tally, mut records: Vec<DeliveryRecord>) -> Check {
        let counts = &tally.counts;
        records.sort_by_key(|record| record.user);
        let missing = records.iter().map(|record| {
            let sender = record.receives_from.and_then(|user| {
                let at = records.binary_search_by_key(&user, |record| record.user);
                records.get(at.ok()?)
            });
            sender.map_or(0, |sender| sender.acknowledged.missing_in(&record.found))
        });
        let mut check = Check {
            ok: false,
            refused: counts.refused,
            unanswered: counts.sent.saturating_sub(counts.answered),
            unasked: counts.unasked,
            missing: missing.sum(),
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
        receives_from: usize,
        acknowledged: u64,
        found: &[u64],
    ) -> DeliveryRecord {
        let mut record = DeliveryRecord {
            user,
            receives_from: Some(receives_from),
            ..Default::default()
        };
        for number in 0..acknowledged {
            record.acknowledged.insert(number);
        }
        for number in found {
            record.found.insert(*number);
        }
        record
    }

    #[test]
    fn every_member_of_a_group_must_receive_every_message() {
        let group = |last: &[u64]| {
            let records = vec![
                record(2, 0, 0, last),
                record(0, 0, 3, &[0, 1, 2]),
                record(1, 0, 0, &[2, 0, 1]),
            ];
            Check::new(&Tally::default(), records)
        };
        assert!(group(&[0, 1, 2]).ok);
        let missing = group(&[1]);
        assert_eq!((missing.ok, missing.missing), (false, 2));
        assert_eq!(missing.wrong(), ["2 acknowledged but missing"]);
    }

    #[test]
    fn a_message_that_was_stored_but_not_acknowledged_is_no_error() {
        let records = vec![record(0, 0, 1, &[0, 1])];
        assert!(Check::new(&Tally::default(), records).ok);
    }
}
