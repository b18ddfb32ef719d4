//! Runs the commands that print a list of what a running stack holds, each item as a line of JSON, and `imd mark` and
//! `imd wait`.
//!
//! Serves the dispatch of commands, and `imd access ls`.

use serde_json::Value;

use super::args::{AdminArgs, InboxesArgs, WaitArgs};
use super::call::Admin;
use crate::cli::failure::Failure;
use crate::cli::output;

/// Number of items per page: the maximum of the admin API.
const PAGE_SIZE: usize = 1_000;

/// Runs `imd users`.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn users(args: &AdminArgs) -> Result<(), Failure> {
    print_all(args, "/v1/users", "users").await
}

/// Runs `imd groups`.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn groups(args: &AdminArgs) -> Result<(), Failure> {
    print_all(args, "/v1/groups", "groups").await
}

/// Runs `imd inboxes`.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn inboxes(args: &InboxesArgs) -> Result<(), Failure> {
    match args.uid {
        None => print_all(&args.admin, "/v1/inboxes", "inboxes").await,
        Some(uid) => print_all(&args.admin, &format!("/v1/inboxes/{uid}"), "entries").await,
    }
}

/// Runs `imd sessions`.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn sessions(args: &AdminArgs) -> Result<(), Failure> {
    print_all(args, "/v1/sessions", "sessions").await
}

/// Runs `imd access ls`.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn access(args: &AdminArgs) -> Result<(), Failure> {
    print_one(args, "/v1/state", "access").await
}

/// Runs `imd mark`.
///
/// # Errors
///
/// The errors of [`Admin::get`], for example because the stack never records anything.
pub async fn mark(args: &AdminArgs) -> Result<(), Failure> {
    const PATH: &str = "/v1/mark";
    let admin = Admin::find(args)?;
    let answer = admin.get(PATH).await?;
    match answer.get("mark") {
        Some(mark) => output::json(mark),
        None => Err(admin.wrong_server(PATH).await),
    }
}

/// Runs `imd wait`.
///
/// # Errors
///
/// The errors of [`Admin::get_within`], and [`Failure::Failed`] when no event arrived in time.
pub async fn wait(args: &WaitArgs) -> Result<(), Failure> {
    let text = |number: Option<u64>| number.map(|number| number.to_string());
    let (since, session) = (text(args.since), text(args.session));
    let uid = args.uid.map(|uid| uid.to_string());
    let timeout = humantime::format_duration(args.timeout).to_string();
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in [
        ("since", since.as_deref()),
        ("uid", uid.as_deref()),
        ("cmd", args.cmd.as_deref()),
        ("server", args.server.as_deref()),
        ("session", session.as_deref()),
        ("what", args.what.as_deref()),
        ("bytes", args.bytes.then_some("true")),
        ("timeout", Some(timeout.as_str())),
    ] {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    let path = format!("/v1/wait?{}", query.finish());
    let admin = Admin::find(&args.admin)?;
    output::json(&admin.get_within(args.timeout, &path).await?)
}

/// Prints a list that the API returns in one answer.
async fn print_one(args: &AdminArgs, path: &str, key: &str) -> Result<(), Failure> {
    let admin = Admin::find(args)?;
    let answer = admin.get(path).await?;
    print(&admin, path, &answer, key).await
}

/// Prints a list that the API returns in pages.
async fn print_all(args: &AdminArgs, path: &str, key: &str) -> Result<(), Failure> {
    let admin = Admin::find(args)?;
    let mut after = "0".to_owned();
    loop {
        let page = format!("{path}?after={after}&limit={PAGE_SIZE}");
        let answer = admin.get(&page).await?;
        print(&admin, path, &answer, key).await?;
        match next(&answer) {
            // A page that names itself as the next one would be requested for ever.
            Some(next) if next != after => after = next,
            _ => return Ok(()),
        }
    }
}

/// Prints the items of an answer, which are under `key`.
async fn print(admin: &Admin, path: &str, answer: &Value, key: &str) -> Result<(), Failure> {
    match answer.get(key).and_then(Value::as_array) {
        Some(items) => items.iter().try_for_each(output::json),
        None => Err(admin.wrong_server(path).await),
    }
}

/// Returns the id after which the next page begins. It is a number or, to keep all digits for JavaScript, a string.
fn next(page: &Value) -> Option<String> {
    match page.get("next")? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(text.clone()).filter(|text| !text.is_empty())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_next_page_begins_after_a_number_or_a_string() {
        let of = |value: Value| next(&json!({ "next": value }));
        assert_eq!(of(json!(7)).as_deref(), Some("7"));
        assert_eq!(
            of(json!("9223372036854775807")).as_deref(),
            Some("9223372036854775807")
        );
        for end in [json!(null), json!(""), json!("x"), json!(true)] {
            assert_eq!(of(end), None);
        }
        assert_eq!(next(&json!({})), None);
    }
}
