//! One action each, for scripts.

use std::borrow::Cow;
use std::io::{self, Read};

use imd::client::{ClientError, new_msg_id};
use serde_json::json;

use super::failure::Failure;
use super::target::{Target, account};
use super::{GroupCommand, RegisterArgs, SendArgs, api, output, refusal};

/// No text that fits a frame comes near it.
const LONGEST_TEXT: u64 = 1 << 20;

/// Registers a user. Says nothing when it is done.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn register(args: &RegisterArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let uid = args.uid.to_string();
    let fields = [
        ("uid", uid.as_str()),
        ("name", &args.name),
        ("pw", &args.pw),
    ];
    api::post(target.user_api()?, "/x/user/register", &fields).await?;
    Ok(())
}

/// Creates a group and prints its id; or joins or quits one, and says nothing when it is done.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
pub async fn group(command: &GroupCommand) -> Result<(), Failure> {
    let (path, args) = match command {
        GroupCommand::Create { uid, name, target } => {
            let target = Target::find(target)?;
            let uid = uid.to_string();
            let fields = [("uid", uid.as_str()), ("name", name)];
            let data = api::post(target.group_api()?, "/x/group/create", &fields).await?;
            let gid = data.get("gid").and_then(serde_json::Value::as_i64);
            let gid = gid.ok_or_else(|| {
                Failure::Failed("the group was created, but the server does not say its id".into())
            })?;
            return output::json(&json!({ "gid": gid.to_string() }));
        }
        GroupCommand::Join(args) => ("/x/group/join", args),
        GroupCommand::Quit(args) => ("/x/group/quit", args),
    };
    let target = Target::find(&args.target)?;
    let (uid, gid) = (args.uid.to_string(), args.gid.to_string());
    let fields = [("uid", uid.as_str()), ("gid", gid.as_str())];
    api::post(target.group_api()?, path, &fields).await?;
    Ok(())
}

/// Sends a message and prints its id once it is stored.
///
/// # Errors
///
/// When the server can't be reached, or refuses.
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
    // The message is stored, whatever becomes of the goodbye.
    let _ = client.logout().await;
    Ok(())
}

/// All of stdin as a text, without the end of its last line.
fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(LONGEST_TEXT)
        .read_to_end(&mut bytes);
    read.map_err(|error| Failure::Failed(format!("stdin: {error}")))?;
    let text =
        imd::text::read(&bytes).map_err(|error| Failure::Usage(format!("stdin: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
