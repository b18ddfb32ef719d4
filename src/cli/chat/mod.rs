//! A terminal client: it shows what arrives while its user types, and comes back when the connection breaks.

mod input;
mod line;
mod screen;
mod show;
mod terminal;

use std::time::Duration;

use futures_util::FutureExt;
use imd::Client;
use imd::client::{ClientError, Event, new_msg_id};
use imd::proto::Code;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::cli::ChatArgs;
use crate::cli::backoff::Backoff;
use crate::cli::failure::Failure;
use crate::cli::inbox::{PING_EVERY, ReadError, read_on};
use crate::cli::link::Account;
use crate::cli::refusal;
use crate::cli::signals::Signals;
use crate::cli::target::account;
use input::Input;
use line::{HELP, Line, Partner};
use screen::Screen;

/// A script whose input has ended does not wait for a lost server for ever.
const TRIES_AT_END: usize = 5;

/// Chats until the user leaves.
///
/// # Errors
///
/// When the login fails, when another session takes over, and when lines of a script were refused.
pub async fn run(args: &ChatArgs) -> Result<(), Failure> {
    let account = account(args.uid, &args.login)?;
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        result = chat(account) => result,
    }
}

async fn chat(account: Account) -> Result<(), Failure> {
    let client = account.log_in().await?;
    let (screen, input) = Screen::open();
    let chat = Chat {
        account,
        client,
        screen,
        input,
        version: None,
        written_to: None,
        heard_from: None,
        refused: 0,
    };
    match chat.talk().await {
        Ok(()) | Err(Trouble::Left) => Ok(()),
        // Unlike a reader, a script must know that not all of it was carried out.
        Err(Trouble::Failed(Failure::OutputClosed)) => Err(Failure::Failed(
            "nobody reads stdout any more: the lines that followed were not carried out".into(),
        )),
        Err(Trouble::Failed(failure)) => Err(failure),
        Err(Trouble::Lost(error) | Trouble::Refused(error)) => {
            Err(Failure::Failed(refusal::explain(&error)))
        }
    }
}

struct Chat {
    account: Account,
    client: Client,
    screen: Screen,
    input: Input,
    /// The last version shown; not known before the first notify says how far this user has read.
    version: Option<i64>,
    written_to: Option<Partner>,
    heard_from: Option<Partner>,
    /// Lines that were not carried out.
    refused: usize,
}

/// A message on its way. Its id stays the same until the server has answered, so that it is stored once.
struct Outgoing<'a> {
    to: Partner,
    msg_id: String,
    text: &'a str,
}

/// What keeps the chat from going on.
enum Trouble {
    /// The connection is of no more use.
    Lost(ClientError),
    /// The server refuses this one request.
    Refused(ClientError),
    /// The user does not wait.
    Left,
    /// It is over.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            // Coming back would end the other session, which would come back too.
            ClientError::Refused { code, .. } if code == Code::LoggedInElsewhere.number() => {
                let why = refusal::explain(&error);
                Trouble::Failed(Failure::Failed(format!("this chat was ended: {why}")))
            }
            ClientError::Refused { .. } | ClientError::TooLong(_) => Trouble::Refused(error),
            _ => Trouble::Lost(error),
        }
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Client(error) => error.into(),
            ReadError::Show(failure) => failure.into(),
        }
    }
}

/// What happens next.
enum Next {
    Line(Option<String>),
    Event(Result<Event, ClientError>),
    Ping,
}

impl Chat {
    async fn talk(mut self) -> Result<(), Trouble> {
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
            // Both waits can be given up without a loss; requests, which can't, are made outside.
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
                Next::Event(event) => self.take(event).await,
                Next::Ping => self.client.ping().await.map_err(Trouble::from),
            };
            self.recover(done).await?;
        }
    }

    /// Comes back when the connection is lost. A refusal of what was no user's request means that too: it is how the
    /// server says that it closes.
    async fn recover(&mut self, done: Result<(), Trouble>) -> Result<(), Trouble> {
        match done {
            Err(Trouble::Lost(error) | Trouble::Refused(error)) => self.come_back(error).await,
            done => done,
        }
    }

    async fn carry_out(&mut self, line: Line<'_>) -> Result<(), Trouble> {
        match line {
            Line::Empty | Line::Quit => {}
            Line::Help => {
                for line in HELP {
                    self.screen.say(line).await?;
                }
            }
            Line::Bad(why) => self.refuse(&why).await?,
            Line::Say(to, text) => match to.or(self.written_to).or(self.heard_from) {
                Some(to) => self.deliver(to, text).await?,
                None => {
                    self.refuse("to whom? Write /to UID TEXT or /group GID TEXT")
                        .await?
                }
            },
        }
        Ok(())
    }

    async fn refuse(&mut self, why: &str) -> Result<(), Trouble> {
        self.refused += 1;
        Ok(self.screen.say(&format!("refused: {why}")).await?)
    }

    /// Sends until the server has answered, over as many connections as that takes.
    async fn deliver(&mut self, to: Partner, text: &str) -> Result<(), Trouble> {
        let outgoing = Outgoing {
            to,
            msg_id: new_msg_id(),
            text,
        };
        loop {
            match self.send(&outgoing).await {
                Ok(()) => {
                    self.written_to = Some(to);
                    return Ok(self.screen.say(&format!("to {to}: stored")).await?);
                }
                Err(Trouble::Lost(error)) => {
                    self.come_back(error).await?;
                    self.screen.say("Sending your last message again.").await?;
                }
                Err(Trouble::Refused(error)) => {
                    return self.refuse(&refusal::explain(&error)).await;
                }
                Err(other) => return Err(other),
            }
        }
    }

    async fn send(&mut self, outgoing: &Outgoing<'_>) -> Result<(), Trouble> {
        let Outgoing { to, msg_id, text } = outgoing;
        let sent = match *to {
            Partner::User(uid) => self.client.send_p2p_as(uid, msg_id, text).await,
            Partner::Group(gid) => self.client.send_group_as(gid, msg_id, text).await,
        };
        let Err(error) = sent else {
            return Ok(());
        };
        // The same code is said for "can't store this" and before a close. After the one, a ping is answered.
        if error.code() == Some(Code::ServerError.number())
            && let Err(error) = self.client.ping().await
        {
            return match Trouble::from(error) {
                Trouble::Refused(error) => Err(Trouble::Lost(error)),
                other => Err(other),
            };
        }
        Err(error.into())
    }

    /// Takes what the server says on its own.
    async fn take(&mut self, event: Result<Event, ClientError>) -> Result<(), Trouble> {
        match event? {
            Event::Message(message) => {
                let me = self.account.uid();
                self.heard_from = show::partner(&message, me).or(self.heard_from);
                self.screen.say(&show::show(&message, me)).await?;
            }
            Event::Notify { current, .. } => {
                self.version.get_or_insert(current);
                self.read().await?;
            }
        }
        Ok(())
    }

    /// Shows what came after the last version shown. Returns how many messages that were.
    async fn read(&mut self) -> Result<usize, Trouble> {
        let Some(version) = &mut self.version else {
            return Ok(0);
        };
        let (me, screen, heard_from) = (self.account.uid(), &self.screen, &mut self.heard_from);
        let shown = read_on(&mut self.client, version, async |message| {
            *heard_from = show::partner(message, me).or(*heard_from);
            screen.say(&show::show(message, me)).await
        });
        Ok(shown.await?)
    }

    /// Connects again through the gateway, and catches up.
    async fn come_back(&mut self, lost: ClientError) -> Result<(), Trouble> {
        self.screen
            .say(&format!("Connection lost: {lost}. Connecting again ..."))
            .await?;
        let mut backoff = Backoff::default();
        for tries in 0_usize.. {
            if tries >= TRIES_AT_END && self.input.has_ended() {
                break;
            }
            self.wait(backoff.wait()).await?;
            let trouble = match self.account.log_in().await {
                Ok(client) => {
                    self.client = client;
                    match self.catch_up().await {
                        Err(Trouble::Lost(error) | Trouble::Refused(error)) => error.to_string(),
                        done => return done,
                    }
                }
                Err(error) if error.is_final() => return Err(Trouble::Failed(error.into())),
                Err(error) => error.to_string(),
            };
            self.screen.say(&format!("Not yet: {trouble}")).await?;
        }
        let why = "the server did not come back; what you wrote last may not be stored";
        Err(Trouble::Failed(Failure::Failed(why.into())))
    }

    async fn catch_up(&mut self) -> Result<(), Trouble> {
        self.screen
            .say(&format!("Connected again, to {}.", self.client.peer()))
            .await?;
        // Without a version the server's notify says where to begin.
        if self.version.is_some() {
            let text = match self.read().await? {
                0 => "You missed nothing.".to_owned(),
                1 => "You missed 1 message.".to_owned(),
                missed => format!("You missed {missed} messages."),
            };
            self.screen.say(&text).await?;
        }
        Ok(())
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Trouble> {
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = self.input.wants_to_leave() => Err(Trouble::Left),
        }
    }

    /// Shows what was notified already, and logs out.
    async fn leave(mut self) -> Result<(), Trouble> {
        loop {
            let settled = self.settle().await;
            if self.input.is_by_hand() {
                break;
            }
            match settled {
                Ok(()) => break,
                lost => self.recover(lost).await?,
            }
        }
        // The connection ends in any case.
        let _ = self.client.logout().await;
        match self.refused {
            0 => Ok(()),
            _ if self.input.is_by_hand() => Ok(()),
            1 => Err(Failure::Failed("1 line was refused".into()).into()),
            n => Err(Failure::Failed(format!("{n} lines were refused")).into()),
        }
    }

    async fn settle(&mut self) -> Result<(), Trouble> {
        // Its answer comes after every notify that was on its way.
        self.client.ping().await?;
        while let Some(event) = self.client.next_event().now_or_never() {
            self.take(event).await?;
        }
        Ok(())
    }
}
