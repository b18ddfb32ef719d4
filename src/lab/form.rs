//! How a fault is written in imd.toml and in JSON: flat, with one key for its action.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Direction, Fault, FaultError, Site};
use crate::clock::written::optional_duration;
use crate::proto::{Cmd, Code};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(skip_serializing)]
    nth: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(
        rename = "for",
        with = "optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    lasting: Option<Duration>,
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    delay: Option<Duration>,
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    jitter: Option<Duration>,
    #[serde(skip_serializing_if = "is_false")]
    drop: bool,
    #[serde(skip_serializing_if = "is_false")]
    duplicate: bool,
    #[serde(skip_serializing_if = "is_false")]
    reorder: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    reset: bool,
    #[serde(skip_serializing_if = "is_false")]
    half_open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<usize>,
    #[serde(skip_serializing_if = "is_false")]
    truncate: bool,
    #[serde(skip_serializing_if = "is_false")]
    stale: bool,
    #[serde(skip_serializing_if = "is_false")]
    gap: bool,
}

/// A command, by its number or its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Named {
    Number(u32),
    Name(String),
}

impl Named {
    fn cmd(&self) -> Result<Cmd, FaultError> {
        match self {
            Named::Number(number) => {
                Cmd::from_number(*number).ok_or_else(|| FaultError::NoSuchCmd(number.to_string()))
            }
            Named::Name(name) => {
                Cmd::named(name).ok_or_else(|| FaultError::NoSuchCmd(name.clone()))
            }
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Form {
    /// The one action that it names.
    fn action(&self) -> Result<Action, FaultError> {
        let code = |number| Code::from_number(number).ok_or(FaultError::NoSuchCode(number));
        let delay = |by| Action::Delay {
            by,
            jitter: self.jitter.unwrap_or_default(),
        };
        let given = [
            self.delay.map(delay),
            self.drop.then_some(Action::Drop),
            self.duplicate.then_some(Action::Duplicate),
            self.reorder.then_some(Action::Reorder),
            self.error.map(code).transpose()?.map(Action::Error),
            self.reset.then_some(Action::Reset),
            self.half_open.then_some(Action::HalfOpen),
            self.throttle.map(Action::Throttle),
            self.slice.map(Action::Slice),
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
            return Err(FaultError::Pointless {
                key: "jitter",
                with: action.name(),
            });
        }
        Ok(*action)
    }
}

impl TryFrom<Form> for Fault {
    type Error = FaultError;

    fn try_from(form: Form) -> Result<Fault, FaultError> {
        let action = form.action()?;
        let at = Site::named(&form.at).ok_or_else(|| FaultError::NoSuchSite(form.at.clone()))?;
        let mut fault = Fault {
            name: form.name,
            uid: form.uid,
            access: form.access,
            session: form.session,
            cmd: form.cmd.map(|cmd| cmd.cmd()).transpose()?,
            direction: form.direction,
            after: form.after.unwrap_or_default(),
            times: form.times,
            probability: form.probability.unwrap_or(1.0),
            lasting: form.lasting,
            ..Fault::at(at).doing(action)
        };
        if let Some(nth) = form.nth {
            if nth == 0 {
                return Err(FaultError::Zero("nth"));
            }
            if form.after.is_some() || form.times.is_some() {
                let with = "after and times, which it stands for";
                return Err(FaultError::Pointless { key: "nth", with });
            }
            fault = fault.nth(nth);
        }
        fault.check()?;
        Ok(fault)
    }
}

impl From<Fault> for Form {
    fn from(fault: Fault) -> Form {
        let mut form = Form {
            name: fault.name,
            at: fault.at.name().to_owned(),
            uid: fault.uid,
            access: fault.access,
            session: fault.session,
            cmd: fault.cmd.map(|cmd| Named::Name(cmd.name().to_owned())),
            direction: fault.direction,
            after: (fault.after > 0).then_some(fault.after),
            times: fault.times,
            probability: (fault.probability < 1.0).then_some(fault.probability),
            lasting: fault.lasting,
            ..Form::default()
        };
        match fault.action {
            Action::Delay { by, jitter } => {
                form.delay = Some(by);
                form.jitter = (!jitter.is_zero()).then_some(jitter);
            }
            Action::Drop => form.drop = true,
            Action::Duplicate => form.duplicate = true,
            Action::Reorder => form.reorder = true,
            Action::Error(code) => form.error = Some(code.number()),
            Action::Reset => form.reset = true,
            Action::HalfOpen => form.half_open = true,
            Action::Throttle(bytes) => form.throttle = Some(bytes),
            Action::Slice(bytes) => form.slice = Some(bytes),
            Action::Truncate => form.truncate = true,
            Action::Stale => form.stale = true,
            Action::Gap => form.gap = true,
        }
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn it_is_read_as_people_write_it() {
        let json = r#"{"at": "notify", "uid": 7, "drop": true, "times": 1}"#;
        let expected = Fault::at(Site::Notify).uid(7).drop_it().times(1);
        assert_eq!(from_json(json), Ok(expected));
        let json = r#"{"at": "access.reply", "cmd": 20003, "delay": "1m 5s", "for": "1h"}"#;
        let expected = Fault::at(Site::AccessReply)
            .cmd(Cmd::SendP2PMsg)
            .delay(Duration::from_secs(65))
            .lasting(Duration::from_secs(3600));
        assert_eq!(from_json(json), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said() {
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
            (r#"{"at": "store.write", "error": 7}"#, "7 is no error code"),
            (
                r#"{"at": "notify", "drop": true, "jitter": "1s"}"#,
                "jitter means nothing with drop",
            ),
            (
                r#"{"at": "notify", "drop": true, "nth": 0}"#,
                "nth must be more than 0",
            ),
            (
                r#"{"at": "notify", "drop": true, "nth": 1, "times": 1}"#,
                "nth means nothing with",
            ),
            (
                r#"{"at": "notify", "drop": true, "who": 1}"#,
                "unknown field `who`",
            ),
            (r#"{"at": "notify", "delay": "soon"}"#, "is no duration"),
        ] {
            let error = from_json(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
