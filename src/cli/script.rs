//! Runs the commands that do one action each, for scripts: `imd register`, `imd group` and `imd send`.
//!
//! Serves the dispatch of commands. On success, stdout has the id of what was created or sent as one line of JSON, or
//! nothing.

use std::borrow::Cow;
use std::io::{self, Read};

use imd::client::{ClientError, new_msg_id};
use serde_json::json;

use super::failure::Failure;
use super::stack_addresses::{StackAddresses, account};
use super::{GroupCommand, RegisterArgs, SendArgs, api, output, refusal};

/// Number of bytes that are read from stdin at most. It is far more than fits a frame, so a text that is cut off here
/// is refused anyway.
const MAX_STDIN_BYTES: u64 = 1 << 20;

/// Runs `imd register`. Prints nothing on success.
///
/// # Errors
///
/// [`Failure::Failed`] when the user API can't be reached or refuses, for example because the uid is taken.
/// [`Failure::Usage`] when the address is wrong.
pub async fn register(args: &RegisterArgs) -> Result<(), Failure> {
    let stack = StackAddresses::find(&args.target)?;
    let uid = args.uid.to_string();
    let fields = [
        ("uid", uid.as_str()),
        ("name", &args.name),
        ("pw", &args.pw),
    ];
    api::post(stack.user_api()?, "/x/user/register", &fields).await?;
    Ok(())
}

/// Runs `imd group`: creates a group and prints its id, or joins or quits one and prints nothing on success.
///
/// # Errors
///
/// [`Failure::Failed`] when the group API can't be reached or refuses, for example because there is no such group.
/// [`Failure::Usage`] when the address is wrong.
pub async fn group(command: &GroupCommand) -> Result<(), Failure> {
    let (path, args) = match command {
        GroupCommand::Create { uid, name, target } => {
            let stack = StackAddresses::find(target)?;
            let uid = uid.to_string();
            let fields = [("uid", uid.as_str()), ("name", name)];
            let data = api::post(stack.group_api()?, "/x/group/create", &fields).await?;
            let gid = data.get("gid").and_then(serde_json::Value::as_i64);
            let gid = gid.ok_or_else(|| {
                Failure::Failed("the group was created, but the server does not say its id".into())
            })?;
            return output::json(&json!({ "gid": gid.to_string() }));
        }
        GroupCommand::Join(args) => ("/x/group/join", args),
        GroupCommand::Quit(args) => ("/x/group/quit", args),
    };
    let stack = StackAddresses::find(&args.target)?;
    let (uid, gid) = (args.uid.to_string(), args.gid.to_string());
    let fields = [("uid", uid.as_str()), ("gid", gid.as_str())];
    api::post(stack.group_api()?, path, &fields).await?;
    Ok(())
}

/// Runs `imd send`: sends a message, and prints its id once it is stored.
///
/// # Errors
///
/// [`Failure::Usage`] when the text is too long or stdin holds no text. [`Failure::Failed`] when the server can't be
/// reached or refuses the login or the message; with the same `--msg-id`, sending again stores the message once.
pub async fn send(args: &SendArgs) -> Result<(), Failure> {
    let text = match args.text.as_str() {
        "-" => Cow::Owned(read_stdin()?),
        text => Cow::Borrowed(text),
    };
    let mut client = account(args.from, &args.login)?.log_in().await?;
    let msg_id = args.msg_id.clone().unwrap_or_else(new_msg_id);
    let (to, sent) = match (args.to, args.group) {
        (Some(uid), _) => {
            let sent = client.send_p2p_as(uid, &msg_id, &text).await;
            (format!("{uid}"), sent)
        }
        (None, Some(gid)) => {
            let sent = client.send_group_as(gid, &msg_id, &text).await;
            (format!("group {gid}"), sent)
        }
        (None, None) => return Err(Failure::Usage("give --to UID or --group GID".into())),
    };
    let sent = sent.map_err(|error| {
        let why = format!("message to {to}: {}", refusal::explain(&error));
        match error {
            ClientError::TooLong(_) => Failure::Usage(why),
            _ => Failure::Failed(why),
        }
    })?;
    output::json(&json!({ "msg_id": sent.msg_id }))?;
    // The message is stored, so a failed logout does not matter.
    let _ = client.logout().await;
    Ok(())
}

/// Reads all of stdin as a text, without the end of its last line.
fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(MAX_STDIN_BYTES)
        .read_to_end(&mut bytes);
    read.map_err(|error| Failure::Failed(format!("stdin: {error}")))?;
    let text =
        imd::text::read(&bytes).map_err(|error| Failure::Usage(format!("stdin: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
