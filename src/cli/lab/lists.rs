//! Runs the commands that print a list of what a running stack holds, each item as a line of JSON, and `imd mark` and
//! `imd wait`.
//!
//! Serves the dispatch of commands, `imd access ls` and `imd fault ls`.

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

/// Runs `imd groups`. Each group is printed with all its members.
///
/// # Errors
///
/// The errors of [`Admin::get`].
pub async fn groups(args: &AdminArgs) -> Result<(), Failure> {
    const PATH: &str = "/v1/groups";
    let admin = Admin::find(args)?;
    let mut pages = Pages::of(PATH);
    while let Some(page) = pages.next(&admin).await? {
        let Some(groups) = page.get("groups").and_then(Value::as_array) else {
            return Err(admin.wrong_server(PATH).await);
        };
        for group in groups {
            output::json(&with_all_members(&admin, group.clone()).await?)?;
        }
    }
    Ok(())
}

/// Adds the members of a group that did not fit the list of groups.
async fn with_all_members(admin: &Admin, mut group: Value) -> Result<Value, Failure> {
    let Some(first) = next(&group) else {
        return Ok(group);
    };
    let path = format!("/v1/groups/{}", group.get("gid_str").map_or("", text));
    let mut pages = Pages::after(&path, first);
    while let Some(mut page) = pages.next(admin).await? {
        for key in ["members", "members_str"] {
            let more = page.get_mut(key).and_then(Value::as_array_mut);
            let members = group.get_mut(key).and_then(Value::as_array_mut);
            if let (Some(members), Some(more)) = (members, more) {
                members.append(more);
            }
        }
    }
    if let Some(fields) = group.as_object_mut() {
        fields.remove("next");
    }
    Ok(group)
}

/// Runs `imd fault ls`.
///
/// # Errors
///
/// The errors of [`Admin::get`], for example because a fault has ended while the list was read.
pub async fn faults(args: &AdminArgs) -> Result<(), Failure> {
    const PATH: &str = "/v1/faults";
    let admin = Admin::find(args)?;
    let mut path = format!("{PATH}?limit={PAGE_SIZE}");
    loop {
        let page = admin.get(&path).await?;
        let Some(faults) = page.as_array() else {
            return Err(admin.wrong_server(PATH).await);
        };
        faults.iter().try_for_each(output::json)?;
        // This list has no `next`: the next page begins behind the last name, and a page that is not full is the last.
        let last = faults.last().and_then(|fault| fault.get("name"));
        let Some(last) = last.filter(|_| faults.len() == PAGE_SIZE) else {
            return Ok(());
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("after", text(last));
        path = format!("{PATH}?limit={PAGE_SIZE}&{}", query.finish());
    }
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
    let digits = |number: Option<u64>| number.map(|number| number.to_string());
    let (since, session) = (digits(args.since), digits(args.session));
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
    let mut pages = Pages::of(path);
    while let Some(page) = pages.next(&admin).await? {
        print(&admin, path, &page, key).await?;
    }
    Ok(())
}

/// The pages of a list.
struct Pages<'a> {
    path: &'a str,
    /// The id after which the next page begins; none behind the last page.
    after: Option<String>,
}

impl<'a> Pages<'a> {
    /// Returns all pages of the list at `path`.
    fn of(path: &'a str) -> Pages<'a> {
        Pages::after(path, "0".to_owned())
    }

    /// Returns the pages of the list at `path` that begin after an id.
    fn after(path: &'a str, id: String) -> Pages<'a> {
        let after = Some(id);
        Pages { path, after }
    }

    /// Gets the next page; none behind the last one.
    async fn next(&mut self, admin: &Admin) -> Result<Option<Value>, Failure> {
        let Some(after) = self.after.take() else {
            return Ok(None);
        };
        let path = format!("{}?after={after}&limit={PAGE_SIZE}", self.path);
        let page = admin.get(&path).await?;
        // A page that names itself as the next one would be requested for ever.
        self.after = next(&page).filter(|next| *next != after);
        Ok(Some(page))
    }
}

/// Returns a value that is a text; an empty one for any other.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
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
