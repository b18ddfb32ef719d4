//! Runs `imd tail`: prints the journal of a running stack, event by event, until a signal.
//!
//! Serves the dispatch of commands. Events that were missed are reported as a line of their own, and every line is escaped,
//! because it holds texts of clients.

use serde_json::Value;

use super::args::TailArgs;
use super::call::Admin;
use crate::cli::api::StreamItem;
use crate::cli::escape::escape;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::signals::Signals;

/// Prints events as they happen, until a signal arrives or nobody reads stdout.
///
/// # Errors
///
/// The errors of [`Admin::events`], and [`Failure::Failed`] when the stack ends or the stream breaks.
pub async fn run(args: &TailArgs) -> Result<(), Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let uid = args.uid.map(|uid| uid.to_string());
    for (key, value) in [
        ("uid", uid.as_deref()),
        ("cmd", args.cmd.as_deref()),
        ("server", args.server.as_deref()),
    ] {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    let path = format!("/v1/journal?{}", query.finish());
    let mut signals = Signals::listen()?;
    let admin = Admin::find(&args.admin)?;
    let follow = async {
        let mut events = admin.events(&path).await?;
        while let Some(item) = events.next().await? {
            let (text, to_line): (_, fn(&Value) -> String) = match item {
                StreamItem::Event(text) => (text, event_line),
                StreamItem::Gap(text) => (text, gap_line),
            };
            if args.json {
                output::print_json_text(&text).await?;
            } else {
                output::print(to_line(&serde_json::from_str(&text).unwrap_or_default())).await?;
            }
        }
        Err(Failure::Failed("the stack has ended".into()))
    };
    tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        followed = follow => followed,
        () = output::closed() => Ok(()),
    }
}

/// Returns the line that reports a gap.
fn gap_line(gap: &Value) -> String {
    let count = gap.get("count").and_then(Value::as_u64);
    let count = count.unwrap_or_default();
    format!("-- {count} events are missing here: they passed faster than they were read")
}

/// Formats an event as a line for people, escaped.
fn event_line(event: &Value) -> String {
    let of = |key: &str| event.get(key).unwrap_or(&Value::Null);
    let text = |key: &str| of(key).as_str().unwrap_or("-").to_owned();
    let number = |key: &str| {
        of(key)
            .as_i64()
            .map_or("-".to_owned(), |number| number.to_string())
    };
    let arrow = match of("what").as_str() {
        Some("in") => "<-",
        Some("out") => "->",
        Some(other) => other,
        None => "?",
    };
    let rest = match (of("frame"), of("detail")) {
        (Value::Null, Value::Null) => String::new(),
        (Value::Null, detail) => detail.to_string(),
        (frame, _) => frame.to_string(),
    };
    let line = format!(
        "{} {} #{} uid {} {arrow} {} {rest}",
        number("seq"),
        text("server"),
        number("session"),
        number("uid"),
        text("cmd"),
    );
    escape(line.trim_end()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "seq": 7, "server": "access-1", "session": 3, "uid": 1, "cmd": "SendP2PMsg",
            "what": "in", "detail": null, "frame": { "msg": "hi\nthere" },
        });
        assert_eq!(
            event_line(&event),
            r#"7 access-1 #3 uid 1 <- SendP2PMsg {"msg":"hi\nthere"}"#
        );
        let event = json!({
            "seq": 8, "server": "access-1", "session": 3, "uid": null, "cmd": null,
            "what": "closed", "detail": "reset", "frame": null,
        });
        assert_eq!(
            event_line(&event),
            r#"8 access-1 #3 uid - closed - "reset""#
        );
    }
}
