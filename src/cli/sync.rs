//! Runs `imd sync`: prints the messages of a user as JSON lines, and with `--follow` those that arrive later.
//!
//! A run that follows reconnects by itself. Each message is printed at least once: the version reached is kept across
//! connections.

use imd::Client;
use imd::client::{ClientError, Event, Message};
use imd::proto::Code;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::backoff::Backoff;
use super::failure::{Failure, warn};
use super::inbox::{PING_EVERY, ReadError, ShownMessages, read_on};
use super::link::Account;
use super::signals::Signals;
use super::stack_addresses::account;
use super::{SyncArgs, output, refusal};

/// A message as one line of output. The id of a group is a string, because it is a snowflake, and not every JSON
/// reader keeps all digits of a 64-bit number.
#[derive(Serialize)]
struct Line<'a> {
    version: i64,
    kind: &'a str,
    from: i64,
    group: Option<String>,
    msg_id: &'a str,
    text: &'a str,
    sent_at: i64,
}

/// Prints a message as a line of JSON.
async fn print(message: &Message) -> Result<(), Failure> {
    let line = Line {
        version: message.version,
        kind: message.kind.as_str(),
        from: message.source,
        group: (message.group != 0).then(|| message.group.to_string()),
        msg_id: &message.msg_id,
        text: &message.text,
        sent_at: message.sent_at,
    };
    output::print_json(&line).await
}

/// Prints the messages in the inbox, and with `--follow` those that arrive later.
///
/// # Errors
///
/// When the first login fails or a request is refused. A run that follows reconnects after a lost connection, and
/// fails only when a login is refused for good, when another session of the user takes over, or when stdout fails.
pub async fn run(args: &SyncArgs) -> Result<(), Failure> {
    let account = account(args.uid, &args.login)?;
    if !args.follow {
        let (mut client, mut after) = (account.log_in().await?, args.after);
        let read = async {
            if begin(&mut client, &mut after, print).await? {
                read_on(&mut client, &mut after, print).await?;
            }
            Ok(())
        };
        read.await.map_err(|error| match error {
            ReadError::Client(error) => failed(&account, &error),
            ReadError::Show(failure) => failure,
        })?;
        // The work is done, so a failed logout does not matter.
        let _ = client.logout().await;
        return Ok(());
    }
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        () = output::closed() => Ok(()),
        result = follow(&account, args.after) => result,
    }
}

/// Prints the first page after version `after`. Returns false when the inbox ends before that version; `after` is
/// then moved back to the end of the inbox. `print` prints a message.
///
/// The server answers such a request from the first message, for clients whose versions are from an earlier
/// generation of the inbox. A user who names a version on the command line does not want that.
async fn begin(
    client: &mut Client,
    after: &mut i64,
    mut print: impl AsyncFnMut(&Message) -> Result<(), Failure>,
) -> Result<bool, ReadError> {
    let page = client.sync(*after, 0).await.map_err(ReadError::Client)?;
    if page.current < *after {
        let end = match page.total {
            0 => "the inbox is empty".to_owned(),
            total => format!("the inbox ends at version {total}"),
        };
        warn(&format!("{end}: there is nothing after {after}"));
        *after = page.total;
        return Ok(false);
    }
    for message in &page.messages {
        print(message).await.map_err(ReadError::Show)?;
    }
    *after = page.current;
    Ok(true)
}

/// Returns the failure of the command for an error of a request.
fn failed(account: &Account, error: &ClientError) -> Failure {
    let (uid, why) = (account.uid(), refusal::explain(error));
    Failure::Failed(format!("messages of {uid}: {why}"))
}

/// Prints messages and reconnects until something fails for good. The caller drops the future when a signal arrives.
async fn follow(account: &Account, mut after: i64) -> Result<(), Failure> {
    let mut client = account.log_in().await?;
    let mut shown = ShownMessages::default();
    let begun = begin(&mut client, &mut after, async |message| {
        print_from_page(message, &mut shown).await
    });
    let mut begun = begun.await;
    loop {
        let lost = match begun {
            Ok(goes_on) => listen(&mut client, &mut after, &mut shown, goes_on).await,
            Err(error) => error,
        };
        let lost = match lost {
            ReadError::Show(failure) => return Err(failure),
            ReadError::Client(error) => error,
        };
        if lost.code() == Some(Code::LoggedInElsewhere.number()) {
            return Err(failed(account, &lost));
        }
        warn(&format!("connection lost: {lost}; connecting again"));
        client = log_in_again(account).await?;
        begun = Ok(true);
        warn("connected again");
    }
}

/// Prints a message of a page, unless it was printed when the server pushed it.
async fn print_from_page(message: &Message, shown: &mut ShownMessages) -> Result<(), Failure> {
    match shown.is_new_in_page(message) {
        true => print(message).await,
        false => Ok(()),
    }
}

/// Prints on one connection until an error occurs: first the rest of the inbox, if `goes_on` is set, and then what
/// arrives. `shown` has what was printed before.
async fn listen(
    client: &mut Client,
    after: &mut i64,
    shown: &mut ShownMessages,
    goes_on: bool,
) -> ReadError {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if goes_on && let Err(error) = print_new(client, after, shown).await {
        return error;
    }
    loop {
        let event = tokio::select! {
            event = client.next_event() => Some(event),
            _ = pings.tick() => None,
        };
        let done = match event {
            None => client.ping().await.map_err(ReadError::Client),
            Some(Err(error)) => Err(ReadError::Client(error)),
            Some(Ok(Event::Message(message))) => print_pushed(client, after, shown, &message).await,
            Some(Ok(Event::Notify { .. })) => print_new(client, after, shown).await,
        };
        if let Err(error) = done {
            return error;
        }
    }
}

/// Prints the messages after version `after`, except those that were printed when the server pushed them.
async fn print_new(
    client: &mut Client,
    after: &mut i64,
    shown: &mut ShownMessages,
) -> Result<(), ReadError> {
    let print = async |message: &Message| print_from_page(message, shown).await;
    read_on(client, after, print).await.map(drop)
}

/// Prints a message that the server has pushed: as it stands in a page, with its version, if the server stores what it
/// pushes.
async fn print_pushed(
    client: &mut Client,
    after: &mut i64,
    shown: &mut ShownMessages,
    message: &Message,
) -> Result<(), ReadError> {
    print_new(client, after, shown).await?;
    match shown.is_new_push(message) {
        true => print(message).await.map_err(ReadError::Show),
        false => Ok(()),
    }
}

/// Logs in again, with growing waits between the attempts, until it works or is refused for good.
async fn log_in_again(account: &Account) -> Result<Client, Failure> {
    let mut backoff = Backoff::default();
    loop {
        tokio::time::sleep(backoff.wait()).await;
        match account.log_in().await {
            Ok(client) => return Ok(client),
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) => warn(&format!("{error}; trying again")),
        }
    }
}
