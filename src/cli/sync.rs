//! A user's messages as JSON lines.

use imd::Client;
use imd::client::{ClientError, Event, Message};
use imd::proto::Code;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::backoff::Backoff;
use super::failure::{Failure, warn};
use super::inbox::{PING_EVERY, ReadError, read_on};
use super::link::Account;
use super::signals::Signals;
use super::target::account;
use super::{SyncArgs, output, refusal};

/// One line of output. A group's id is a string: it is a snowflake, whose digits not every reader of JSON keeps.
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

/// Prints what there is, and with `--follow` also what comes.
///
/// # Errors
///
/// When the server can't be reached at first, or refuses; later only when another session of the user takes over.
pub async fn run(args: &SyncArgs) -> Result<(), Failure> {
    let account = account(args.uid, &args.login)?;
    if !args.follow {
        let (mut client, mut after) = (account.log_in().await?, args.after);
        let read = async {
            if begin(&mut client, &mut after).await? {
                read_on(&mut client, &mut after, print).await?;
            }
            Ok(())
        };
        read.await.map_err(|error| match error {
            ReadError::Client(error) => failed(&account, &error),
            ReadError::Show(failure) => failure,
        })?;
        // Everything is printed, whatever becomes of the goodbye.
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

/// Prints the first page. False where the inbox does not reach as far as `after`, which is then moved back to its end.
///
/// The server answers such a request from the first message, for clients that were with another life of it. Whoever says
/// on the command line where to begin has not forgotten a life.
async fn begin(client: &mut Client, after: &mut i64) -> Result<bool, ReadError> {
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

fn failed(account: &Account, error: &ClientError) -> Failure {
    let (uid, why) = (account.uid(), refusal::explain(error));
    Failure::Failed(format!("messages of {uid}: {why}"))
}

/// Ends only by a failure: the caller drops it when a signal comes.
async fn follow(account: &Account, mut after: i64) -> Result<(), Failure> {
    let mut client = account.log_in().await?;
    let mut begun = begin(&mut client, &mut after).await;
    loop {
        let lost = match begun {
            Ok(goes_on) => listen(&mut client, &mut after, goes_on).await,
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

/// Prints until something fails: what is there, where `goes_on` says so, and what comes.
async fn listen(client: &mut Client, after: &mut i64, goes_on: bool) -> ReadError {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if goes_on && let Err(error) = read_on(client, after, print).await {
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
            Some(Ok(Event::Message(message))) => print(&message).await.map_err(ReadError::Show),
            Some(Ok(Event::Notify { .. })) => read_on(client, after, print).await.map(drop),
        };
        if let Err(error) = done {
            return error;
        }
    }
}

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
