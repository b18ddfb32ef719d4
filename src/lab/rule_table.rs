//! A rule as imd.toml and JSON write it: one flat table with one key for the action.
//!
//! Serves the config, the admin API and the `imd fault` commands: [`Fault`] is serialized and deserialized by way of
//! [`RuleTable`]. A rule keeps its meaning on the way there and back.

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::check::{MAX_NUMBER, whole_number};
use super::raw_value::RawValue;
use super::{Action, Direction, Fault, FaultError, Site};
use crate::proto::Code;

/// The keys of a rule. Exactly one of the action keys is given, `delay` to `gap`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(skip_serializing)]
    nth: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<RawValue>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<RawValue>,
    #[serde(skip_serializing_if = "is_false")]
    drop: bool,
    #[serde(skip_serializing_if = "is_false")]
    duplicate: bool,
    #[serde(skip_serializing_if = "is_false")]
    reorder: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RawValue>,
    #[serde(skip_serializing_if = "is_false")]
    reset: bool,
    #[serde(skip_serializing_if = "is_false")]
    half_open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<RawValue>,
    #[serde(skip_serializing_if = "is_false")]
    truncate: bool,
    #[serde(skip_serializing_if = "is_false")]
    stale: bool,
    #[serde(skip_serializing_if = "is_false")]
    gap: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Parses an optional whole number. `min` stands only in the message; the rule as a whole is checked later.
fn count(key: &'static str, raw: Option<&RawValue>, min: u64) -> Result<Option<u64>, FaultError> {
    raw.map(|raw| raw.whole(key, &(min..=MAX_NUMBER)))
        .transpose()
}

/// Parses an optional number of bytes, which is at least 1.
fn bytes(key: &'static str, raw: Option<&RawValue>) -> Result<Option<u64>, FaultError> {
    let bytes = raw.map(|raw| raw.bytes(key, &(1..=MAX_NUMBER)));
    bytes.transpose()
}

impl RuleTable {
    /// Returns the action.
    ///
    /// # Errors
    ///
    /// [`FaultError`] if none or several are given, or the value of one can't be parsed.
    fn action(&self) -> Result<Action, FaultError> {
        let time = |key, raw: Option<&RawValue>| raw.map(|time| time.time(key)).transpose();
        let jitter = time("jitter", self.jitter.as_ref())?;
        let delay = |by| Action::Delay {
            by,
            jitter: jitter.unwrap_or_default(),
        };
        let slice = bytes("slice", self.slice.as_ref())?;
        // On a machine with 32 bits a number may not fit; the largest one is refused as well as any beyond it.
        let slice = slice.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let given = [
            time("delay", self.delay.as_ref())?.map(delay),
            self.drop.then_some(Action::Drop),
            self.duplicate.then_some(Action::Duplicate),
            self.reorder.then_some(Action::Reorder),
            self.error
                .as_ref()
                .map(code)
                .transpose()?
                .map(Action::Error),
            self.reset.then_some(Action::Reset),
            self.half_open.then_some(Action::HalfOpen),
            bytes("throttle", self.throttle.as_ref())?.map(Action::Throttle),
            slice.map(Action::Slice),
            self.truncate.then_some(Action::Truncate),
            self.stale.then_some(Action::Stale),
            self.gap.then_some(Action::Gap),
        ];
        let given: Vec<Action> = given.into_iter().flatten().collect();
        let [action] = given.as_slice() else {
            return Err(FaultError::NotOneAction(
                given.iter().map(Action::name).collect(),
            ));
        };
        if self.jitter.is_some() && self.delay.is_none() {
            return Err(FaultError::MeaninglessKey {
                key: "jitter",
                with: action.name(),
            });
        }
        Ok(*action)
    }
}

fn code(raw: &RawValue) -> Result<Code, FaultError> {
    let number = raw.whole("error", &(0..=0)).ok();
    let code = number.and_then(Code::from_number);
    code.ok_or_else(|| FaultError::no_code(raw))
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        RuleTable::from(self.clone()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let table = RuleTable::deserialize(from)?;
        Fault::try_from(table).map_err(de::Error::custom)
    }
}

impl TryFrom<RuleTable> for Fault {
    type Error = FaultError;

    fn try_from(table: RuleTable) -> Result<Fault, FaultError> {
        let action = table.action()?;
        let at = Site::named(&table.at).ok_or_else(|| FaultError::NoSuchSite(table.at.clone()))?;
        let max_uid = i64::MAX.unsigned_abs();
        let uid = table.uid.map(|uid| uid.whole("uid", &(1..=max_uid)));
        let chance = table.probability.map(|chance| chance.chance());
        let mut fault = Fault {
            name: table.name,
            uid: uid.transpose()?,
            access: table.access,
            session: count("session", table.session.as_ref(), 1)?,
            cmd: table.cmd.map(|cmd| cmd.cmd()).transpose()?,
            direction: table.direction,
            after: count("after", table.after.as_ref(), 0)?.unwrap_or_default(),
            times: count("times", table.times.as_ref(), 1)?,
            probability: chance.transpose()?.unwrap_or(1.0),
            lasting: table.lasting.map(|time| time.time("for")).transpose()?,
            ..Fault::at(at).doing(action)
        };
        if let Some(nth) = count("nth", table.nth.as_ref(), 1)? {
            let bounds = 1..=MAX_NUMBER;
            if !bounds.contains(&nth) {
                let bounds = whole_number(&bounds);
                return Err(FaultError::out_of_bounds("nth", nth, bounds));
            }
            if table.after.is_some() || table.times.is_some() {
                let with = "after and times, which it stands for";
                return Err(FaultError::MeaninglessKey { key: "nth", with });
            }
            fault = fault.nth(nth);
        }
        fault.check()?;
        Ok(fault)
    }
}

impl From<Fault> for RuleTable {
    fn from(fault: Fault) -> RuleTable {
        let mut table = RuleTable {
            name: fault.name,
            at: fault.at.name().to_owned(),
            uid: fault.uid.map(|uid| RawValue::number(uid.0)),
            access: fault.access,
            session: fault.session.map(RawValue::number),
            cmd: fault.cmd.map(|cmd| RawValue::Text(cmd.name().to_owned())),
            direction: fault.direction,
            after: (fault.after > 0).then_some(RawValue::number(fault.after)),
            times: fault.times.map(RawValue::number),
            probability: (fault.probability < 1.0).then_some(RawValue::Fraction(fault.probability)),
            lasting: fault.lasting.map(RawValue::duration),
            ..RuleTable::default()
        };
        match fault.action {
            Action::Delay { by, jitter } => {
                table.delay = Some(RawValue::duration(by));
                table.jitter = (!jitter.is_zero()).then_some(RawValue::duration(jitter));
            }
            Action::Drop => table.drop = true,
            Action::Duplicate => table.duplicate = true,
            Action::Reorder => table.reorder = true,
            Action::Error(code) => table.error = Some(RawValue::number(code.number())),
            Action::Reset => table.reset = true,
            Action::HalfOpen => table.half_open = true,
            Action::Throttle(bytes) => table.throttle = Some(RawValue::number(bytes)),
            Action::Slice(bytes) => table.slice = Some(RawValue::number(bytes as u64)),
            Action::Truncate => table.truncate = true,
            Action::Stale => table.stale = true,
            Action::Gap => table.gap = true,
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::Cmd;

    fn from_json(json: &str) -> Result<Fault, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_action_is_written_and_read_back() {
        let by = Duration::from_secs(2);
        let all = [
            Fault::at(Site::AccessReply)
                .cmd(Cmd::SendP2PMsg)
                .uid(7)
                .named("x")
                .nth(3),
            Fault::at(Site::Notify)
                .delay(by)
                .access("access-1")
                .after(1)
                .times(2),
            Fault::at(Site::Notify)
                .jitter(by, by)
                .probability(0.5)
                .lasting(by),
            Fault::at(Site::AccessRequest)
                .duplicate()
                .direction(Direction::In),
            Fault::at(Site::AccessRequest).reorder(),
            Fault::at(Site::StoreWrite).error(Code::ServerError),
            Fault::at(Site::AccessAccept).reset(),
            Fault::at(Site::AccessLogin).half_open(),
            Fault::at(Site::GatewayReply).throttle(100),
            Fault::at(Site::GatewayReply).slice(1),
            Fault::at(Site::GatewayReply).truncate(),
            Fault::at(Site::StoreRead).stale(),
            Fault::at(Site::StoreRead).gap(),
        ];
        for fault in all {
            let json = serde_json::to_string(&fault).unwrap();
            assert_eq!(from_json(&json), Ok(fault), "{json}");
        }
    }

    #[test]
    fn numbers_and_durations_are_read_as_people_write_them() {
        let json = r#"{"at": "notify", "uid": 7, "drop": true, "times": 1}"#;
        let expected = Fault::at(Site::Notify).uid(7).drop_it().times(1);
        assert_eq!(from_json(json), Ok(expected));
        let json = r#"{"at": "gateway.reply", "throttle": "16KiB"}"#;
        let expected = Fault::at(Site::GatewayReply).throttle(16 << 10);
        assert_eq!(from_json(json), Ok(expected));
        let json = r#"{"at": "access.reply", "cmd": 20003, "delay": "1m 5s", "for": "1h"}"#;
        let expected = Fault::at(Site::AccessReply)
            .cmd(Cmd::SendP2PMsg)
            .delay(Duration::from_secs(65))
            .lasting(Duration::from_secs(3600));
        assert_eq!(from_json(json), Ok(expected));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (json, why) in [
            (r#"{"at": "notify"}"#, "a fault does one thing: say which"),
            (
                r#"{"at": "notify", "drop": true, "gap": true}"#,
                "a fault does one thing: drop, gap",
            ),
            (
                r#"{"at": "nowhere", "drop": true}"#,
                "\"nowhere\" is no site: gateway.reply",
            ),
            (r#"{"drop": true}"#, "\"\" is no site"),
            (
                r#"{"at": "notify", "drop": true, "cmd": 1}"#,
                "1 is no command",
            ),
            (
                r#"{"at": "store.write", "error": 7}"#,
                "error: 7 must be an error code of the contract: 10001, 90001, ",
            ),
            (
                r#"{"at": "store.write", "error": 0}"#,
                "error: 0 must be an error code",
            ),
            (
                r#"{"at": "notify", "drop": true, "jitter": "1s"}"#,
                "jitter means nothing with drop",
            ),
            (
                r#"{"at": "notify", "drop": true, "nth": 0}"#,
                "nth: 0 must be a whole number from 1 to 9007199254740991",
            ),
            (
                r#"{"at": "notify", "drop": true, "nth": 1, "times": 1}"#,
                "nth means nothing with",
            ),
            (
                r#"{"at": "notify", "drop": true, "who": 1}"#,
                "unknown field `who`",
            ),
            (
                r#"{"at": "gateway.reply", "throttle": "1.5KiB"}"#,
                r#"throttle: "1.5KiB" must be a whole number from 1 to 9007199254740991, or a size such as "16KiB" (write a whole"#,
            ),
            (
                r#"{"at": "gateway.reply", "slice": "2MX"}"#,
                r#"or a size such as "16KiB" (write a number, and behind it B, KiB"#,
            ),
            (
                r#"{"at": "gateway.reply", "slice": "1MiB"}"#,
                "slice: 1048576 must be a whole number from 1 to 65536",
            ),
            (
                r#"{"at": "notify", "delay": "soon"}"#,
                r#"delay: "soon" must be a duration such as "10s" or "5m", at most 365 days"#,
            ),
            (
                r#"{"at": "notify", "delay": 5}"#,
                r#"delay: 5 must be a duration such as "10s""#,
            ),
        ] {
            let error = from_json(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
