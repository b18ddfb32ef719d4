//! Runs `imd chat`, a client for the terminal: it shows messages while the user types, and reconnects by itself.
//!
//! A [`Chat`] handles one thing at a time: a line of the user, an event of the server, or a ping. A message is sent
//! under one id until the server has answered, so that it is stored once however often the connection breaks.

mod input;
mod line;
mod screen;
mod show;
mod terminal;

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use imd::Client;
use imd::client::{ClientError, Event, new_msg_id};
use imd::proto::Code;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::cli::ChatArgs;
use crate::cli::backoff::Backoff;
use crate::cli::failure::Failure;
use crate::cli::inbox::{PING_EVERY, ReadError, ShownMessages, read_on};
use crate::cli::link::Account;
use crate::cli::refusal;
use crate::cli::signals::Signals;
use crate::cli::stack_addresses::account;
use input::Input;
use line::{HELP, Line, Partner};
use screen::Screen;

/// Number of attempts to reconnect after the input of a script has ended. Before its end, attempts go on for ever.
const ATTEMPTS_AFTER_END: usize = 5;

/// How long after a login a script that has ended still waits for the notify of what was unread. A server sends it 100 ms after
/// the login by default.
const FIRST_NOTIFY: Duration = Duration::from_millis(200);

/// Runs the chat until the user leaves, the script ends, or a signal arrives.
///
/// # Errors
///
/// When the login fails, when another session of the user takes over, when the server does not come back for a script
/// that has ended, and when lines of a script were refused.
pub async fn run(args: &ChatArgs) -> Result<(), Failure> {
    let account = account(args.uid, &args.login)?;
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        result = chat(account) => result,
    }
}

/// Logs in, opens the screen, and runs the chat to its end.
async fn chat(account: Account) -> Result<(), Failure> {
    let client = account.log_in().await?;
    let (screen, input) = Screen::open();
    let chat = Chat {
        account,
        client,
        logged_in: Instant::now(),
        screen,
        input,
        version: None,
        shown: ShownMessages::default(),
        last_sent_to: None,
        last_received_from: None,
        refused: 0,
    };
    match chat.run().await {
        Ok(()) | Err(ChatError::UserLeft) => Ok(()),
        // A script has to know that a part of its lines was not carried out, so this is not the silent end that it is
        // for other commands.
        Err(ChatError::Failed(Failure::OutputClosed)) => Err(Failure::Failed(
            "nobody reads stdout any more: the lines that followed were not carried out".into(),
        )),
        Err(ChatError::Failed(failure)) => Err(failure),
        Err(ChatError::ConnectionLost(error) | ChatError::Refused(error)) => {
            Err(Failure::Failed(refusal::explain(&error)))
        }
    }
}

/// A chat: the connection, the terminal, and what the user has done so far.
struct Chat {
    account: Account,
    client: Client,
    /// When the client has logged in.
    logged_in: Instant,
    screen: Screen,
    input: Input,
    /// The last version shown. Unknown until the first notify says how far this user has read.
    version: Option<i64>,
    /// The messages that were shown, of those that come both pushed and in a page.
    shown: ShownMessages,
    /// The receiver of the last message that was sent, to whom the next line goes by default.
    last_sent_to: Option<Partner>,
    /// The partner of the last message that arrived, used when nothing was sent yet.
    last_received_from: Option<Partner>,
    /// Number of lines that were not carried out.
    refused: usize,
}

/// A message that is being sent. Its id stays the same until the server has answered, so that it is stored once.
struct Outgoing<'a> {
    to: Partner,
    msg_id: String,
    text: &'a str,
}

/// The reason why an action of the chat did not succeed.
enum ChatError {
    /// The connection can't be used any further: reconnecting helps.
    ConnectionLost(ClientError),
    /// The server refused one request; the connection may be used further.
    Refused(ClientError),
    /// The user left while the chat was reconnecting.
    UserLeft,
    /// The chat has failed for good.
    Failed(Failure),
}

impl From<Failure> for ChatError {
    fn from(failure: Failure) -> Self {
        ChatError::Failed(failure)
    }
}

impl From<ClientError> for ChatError {
    fn from(error: ClientError) -> Self {
        match error {
            // Reconnecting would end the other session, which would then reconnect too.
            ClientError::Refused { code, .. } if code == Code::LoggedInElsewhere.number() => {
                let why = refusal::explain(&error);
                ChatError::Failed(Failure::Failed(format!("this chat was ended: {why}")))
            }
            ClientError::Refused { .. } | ClientError::TooLong(_) => ChatError::Refused(error),
            _ => ChatError::ConnectionLost(error),
        }
    }
}

impl From<ReadError> for ChatError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Client(error) => error.into(),
            ReadError::Show(failure) => failure.into(),
        }
    }
}

/// What the chat handles next.
enum Next {
    Line(Option<String>),
    Event(Result<Event, ClientError>),
    Ping,
}

impl Chat {
    /// Handles lines, events and pings until the user leaves or the chat fails.
    async fn run(mut self) -> Result<(), ChatError> {
        self.screen
            .say(&format!(
                "You are {}, connected to {}. /help shows what you can write.",
                self.account.uid(),
                self.client.peer()
            ))
            .await?;
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // All three waits are cancel safe. Requests are not, so they are made outside of the selection.
            let next = tokio::select! {
                line = self.input.next() => Next::Line(line),
                event = self.client.next_event() => Next::Event(event),
                _ = pings.tick() => Next::Ping,
            };
            let done = match next {
                Next::Line(None) => return self.leave().await,
                Next::Line(Some(line)) => match Line::parse(&line) {
                    Line::Quit => return self.leave().await,
                    line => {
                        self.carry_out(line).await?;
                        Ok(())
                    }
                },
                Next::Event(event) => self.handle_event(event).await,
                Next::Ping => self.client.ping().await.map_err(ChatError::from),
            };
            self.recover(done).await?;
        }
    }

    /// Reconnects when the connection is lost. A refusal that answers no request of the user counts as that too: it
    /// is how the server announces that it closes.
    async fn recover(&mut self, done: Result<(), ChatError>) -> Result<(), ChatError> {
        match done {
            Err(ChatError::ConnectionLost(error) | ChatError::Refused(error)) => {
                self.reconnect(error).await
            }
            done => done,
        }
    }

    /// Does what a line asks for. Problems that the user can solve are shown, not returned.
    async fn carry_out(&mut self, line: Line<'_>) -> Result<(), ChatError> {
        match line {
            Line::Empty | Line::Quit => {}
            Line::Help => {
                for line in HELP {
                    self.screen.say(line).await?;
                }
            }
            Line::Bad(why) => self.refuse(&why).await?,
            Line::Message(to, text) => match to.or(self.last_sent_to).or(self.last_received_from) {
                Some(to) => self.deliver(to, text).await?,
                None => {
                    self.refuse("to whom? Write /to UID TEXT or /group GID TEXT")
                        .await?
                }
            },
        }
        Ok(())
    }

    /// Shows that a line was not carried out, and counts it.
    async fn refuse(&mut self, why: &str) -> Result<(), ChatError> {
        self.refused += 1;
        Ok(self.screen.say(&format!("refused: {why}")).await?)
    }

    /// Sends a message until the server has answered, over as many connections as that takes.
    async fn deliver(&mut self, to: Partner, text: &str) -> Result<(), ChatError> {
        let outgoing = Outgoing {
            to,
            msg_id: new_msg_id(),
            text,
        };
        loop {
            match self.send(&outgoing).await {
                Ok(()) => {
                    self.last_sent_to = Some(to);
                    return Ok(self.screen.say(&format!("to {to}: stored")).await?);
                }
                Err(ChatError::ConnectionLost(error)) => {
                    self.reconnect(error).await?;
                    self.screen.say("Sending your last message again.").await?;
                }
                Err(ChatError::Refused(error)) => {
                    return self.refuse(&refusal::explain(&error)).await;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Sends a message once, over the current connection.
    async fn send(&mut self, outgoing: &Outgoing<'_>) -> Result<(), ChatError> {
        let Outgoing { to, msg_id, text } = outgoing;
        let sent = match *to {
            Partner::User(uid) => self.client.send_p2p_as(uid, msg_id, text).await,
            Partner::Group(gid) => self.client.send_group_as(gid, msg_id, text).await,
        };
        let Err(error) = sent else {
            return Ok(());
        };
        // The server sends this code both when it can't store a message and before it closes the connection. A ping
        // tells the cases apart: it is answered only in the first one.
        if error.code() == Some(Code::ServerError.number())
            && let Err(error) = self.client.ping().await
        {
            return match ChatError::from(error) {
                ChatError::Refused(error) => Err(ChatError::ConnectionLost(error)),
                other => Err(other),
            };
        }
        Err(error.into())
    }

    /// Handles an event that the server sent without a request.
    async fn handle_event(&mut self, event: Result<Event, ClientError>) -> Result<(), ChatError> {
        match event? {
            Event::Message(message) => {
                // The page has the version and the time of the message, if the server stores what it pushes.
                self.show_new().await?;
                if !self.shown.is_new_push(&message) {
                    return Ok(());
                }
                let me = self.account.uid();
                self.last_received_from = show::partner(&message, me).or(self.last_received_from);
                self.screen.say(&show::show(&message, me)).await?;
            }
            Event::Notify { current, .. } => {
                self.version.get_or_insert(current);
                self.show_new().await?;
            }
        }
        Ok(())
    }

    /// Shows all messages after the last version shown, and returns their number.
    async fn show_new(&mut self) -> Result<usize, ChatError> {
        let Some(version) = &mut self.version else {
            return Ok(0);
        };
        let (me, screen, last_received_from) = (
            self.account.uid(),
            &self.screen,
            &mut self.last_received_from,
        );
        let known = &mut self.shown;
        let shown = read_on(&mut self.client, version, async |message| {
            if !known.is_new_in_page(message) {
                return Ok(());
            }
            *last_received_from = show::partner(message, me).or(*last_received_from);
            screen.say(&show::show(message, me)).await
        });
        Ok(shown.await?)
    }

    /// Reconnects through the gateway, and shows the messages that were missed.
    async fn reconnect(&mut self, lost: ClientError) -> Result<(), ChatError> {
        self.screen
            .say(&format!("Connection lost: {lost}. Connecting again ..."))
            .await?;
        let mut backoff = Backoff::default();
        for tries in 0_usize.. {
            if tries >= ATTEMPTS_AFTER_END && self.input.has_ended() {
                break;
            }
            self.wait(backoff.wait()).await?;
            let trouble = match self.account.log_in().await {
                Ok(client) => {
                    self.client = client;
                    self.logged_in = Instant::now();
                    match self.catch_up().await {
                        Err(ChatError::ConnectionLost(error) | ChatError::Refused(error)) => {
                            error.to_string()
                        }
                        done => return done,
                    }
                }
                Err(error) if error.is_final() => return Err(ChatError::Failed(error.into())),
                Err(error) => error.to_string(),
            };
            self.screen.say(&format!("Not yet: {trouble}")).await?;
        }
        let why = "the server did not come back; what you wrote last may not be stored";
        Err(ChatError::Failed(Failure::Failed(why.into())))
    }

    /// Shows the messages that arrived while the connection was down.
    async fn catch_up(&mut self) -> Result<(), ChatError> {
        self.screen
            .say(&format!("Connected again, to {}.", self.client.peer()))
            .await?;
        // Without a version, the first notify of the server says where to begin.
        if self.version.is_some() {
            let text = match self.show_new().await? {
                0 => "You missed nothing.".to_owned(),
                1 => "You missed 1 message.".to_owned(),
                missed => format!("You missed {missed} messages."),
            };
            self.screen.say(&text).await?;
        }
        Ok(())
    }

    /// Waits between two attempts, unless the user leaves.
    async fn wait(&mut self, time: Duration) -> Result<(), ChatError> {
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = self.input.wants_to_leave() => Err(ChatError::UserLeft),
        }
    }

    /// Shows the messages that were announced already, logs out, and reports refused lines.
    async fn leave(mut self) -> Result<(), ChatError> {
        loop {
            let pending_shown = self.show_pending().await;
            if self.input.is_interactive() {
                break;
            }
            match pending_shown {
                Ok(()) => break,
                lost => self.recover(lost).await?,
            }
        }
        // The connection is closed anyway, so a failed logout does not matter.
        let _ = self.client.logout().await;
        match self.refused {
            0 => Ok(()),
            _ if self.input.is_interactive() => Ok(()),
            1 => Err(Failure::Failed("1 line was refused".into()).into()),
            n => Err(Failure::Failed(format!("{n} lines were refused")).into()),
        }
    }

    /// Shows the messages that the server has announced up to now.
    async fn show_pending(&mut self) -> Result<(), ChatError> {
        // Without a version, no notify has come so far. A person who leaves has seen the screen for longer than that takes.
        if self.version.is_none() && !self.input.is_interactive() {
            let left = FIRST_NOTIFY.saturating_sub(self.logged_in.elapsed());
            if let Ok(event) = timeout(left, self.client.next_event()).await {
                self.handle_event(event).await?;
            }
        }
        // The answer to a ping arrives after every notify that was sent before it.
        self.client.ping().await?;
        while let Some(event) = self.client.next_event().now_or_never() {
            self.handle_event(event).await?;
        }
        Ok(())
    }
}
