//! The load of every row about messages: users who write to one another, whatever the server.
//!
//! Serves the rows and [`latency`](crate::latency), [`fair`](crate::fair), [`growth`](crate::growth). There is one loop,
//! [`User`], for all servers; a [`Peer`] says how a message is sent to a server and what the server's frames mean. [`Run`] has
//! all messages of a run. Each is sent when it is due, must be acknowledged once where the server acknowledges, and must
//! arrive once in every inbox that it is for; otherwise the run fails. In a closed loop a message is due when another one of
//! its sender is done: delivered *and* acknowledged, or only acknowledged, as [`Until`] says.
//!
//! All users are tasks of one thread, on the core of the load.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::load::{
    Connection, Driver, FrameScanner, LatencyHistogram, Mailbox, Pattern, ReceiverChooser, Until,
    nanos,
};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::kind::Kind;
use crate::load::{Crowd, Sample, Stopwatch, WARM_UP};
use crate::server::Server;
use crate::{Fault, imd_peer, memory, mqtt, nats, redis, wire};

/// How long messages may take to arrive after the last one was sent.
const DRAIN: Duration = Duration::from_secs(10);

/// Who writes to whom, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// How many users there are.
    pub users: usize,
    /// How many users of the server have lower numbers, and take no part. Only `imd` and its mock have such users.
    pub first: usize,
    /// To whom they write; without a pattern, all are members of a group, and a random one writes to all.
    pub pattern: Option<Pattern>,
    /// When a message makes room for the next one.
    pub until: Until,
    /// How many messages of each user are on their way, in a group how many in all. With 0, messages are due when
    /// [`Mailbox::push`] says so.
    pub outstanding: usize,
    /// Whether the senders give ids to their messages. Otherwise the server does.
    pub gives_ids: bool,
    /// Whether the users read nothing from their sockets until [`Users::catch_up`].
    pub is_slow: bool,
}

/// A connection of a user to some server.
pub trait Peer: Send + 'static {
    /// Finds the frames that the server sends.
    type Scanner: FrameScanner;
    /// Whether the connection is the one that the user sends on. A user may have another one to receive.
    const SENDS: bool = true;

    /// Appends the message with this number to the user `to`, or to the group if there is one.
    fn send(&mut self, to: usize, number: usize, out: &mut BytesMut);

    /// Looks at whole frames, tells `seen` what they mean, and appends what the protocol asks for. It is called without frames
    /// when the connection begins.
    fn take(&mut self, frames: &[u8], seen: &mut Seen<'_>, out: &mut BytesMut)
    -> Result<(), Fault>;
}

/// What a connection reports of the messages in the frames of one read.
pub struct Seen<'a> {
    run: &'a mut Run,
    user: usize,
    /// The messages of this user that were not acknowledged yet, oldest first.
    unacknowledged: &'a mut VecDeque<usize>,
    due: &'a mut VecDeque<u64>,
}

impl Seen<'_> {
    /// The server has acknowledged the oldest message of this user that it has not acknowledged yet: all servers acknowledge
    /// the messages of a connection in their order.
    pub fn acknowledged(&mut self) -> Result<(), Fault> {
        let oldest = self.unacknowledged.pop_front();
        let number = oldest.ok_or("an acknowledgement of nothing")?;
        let done = self.run.acknowledge(number)?;
        self.make_room(done);
        Ok(())
    }

    /// The message with this text has reached this user.
    pub fn delivered(&mut self, text: &[u8]) -> Result<(), Fault> {
        let done = self.run.deliver(wire::number(text)?)?;
        self.make_room(done);
        Ok(())
    }

    /// Lets a user send, if there is one whose message is done.
    fn make_room(&mut self, sender: Option<usize>) {
        match sender {
            Some(user) if user == self.user => self.due.push_back(self.run.now),
            Some(user) => self.run.mailboxes[user].push(self.run.now),
            None => {}
        }
    }
}

/// A message of a run.
struct Message {
    sender: u16,
    /// How many users have received it.
    received: u16,
    is_acknowledged: bool,
    /// When it was due, in nanoseconds since the run began.
    due: u64,
}

/// All messages of a run.
pub struct Run {
    traffic: Traffic,
    /// Whether the server acknowledges messages. If not, only deliveries count.
    acknowledges: bool,
    begun: Instant,
    /// The time of this turn, in nanoseconds since the run began.
    now: u64,
    messages: Vec<Message>,
    /// How many messages were not acknowledged yet, and how many deliveries are missing.
    open: [u64; 2],
    delivered: u64,
    is_over: bool,
    /// How long after it was due each message was delivered. None is recorded of messages that were due before `timed`.
    latency: LatencyHistogram,
    timed: u64,
    mailboxes: Vec<Arc<Mailbox>>,
    /// Chooses the sender of the next message to a group.
    random: SmallRng,
}

impl Run {
    fn new(traffic: Traffic, acknowledges: bool) -> Run {
        Run {
            traffic,
            acknowledges,
            begun: Instant::now(),
            now: 0,
            messages: Vec::new(),
            open: [0; 2],
            delivered: 0,
            is_over: false,
            latency: LatencyHistogram::default(),
            timed: 0,
            mailboxes: (0..traffic.users).map(|_| Arc::default()).collect(),
            random: SmallRng::seed_from_u64(0),
        }
    }

    /// Returns the time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns how many inboxes each message is for.
    fn receivers(&self) -> u16 {
        match self.traffic.pattern {
            Some(_) => 1,
            None => self.traffic.users as u16,
        }
    }

    /// Adds a message that is sent now, and returns its number.
    fn send(&mut self, sender: usize, due: u64) -> usize {
        self.messages.push(Message {
            sender: sender as u16,
            received: 0,
            is_acknowledged: !self.acknowledges,
            due,
        });
        self.open[0] += u64::from(self.acknowledges);
        self.open[1] += u64::from(self.receivers());
        self.messages.len() - 1
    }

    /// Counts the acknowledgement of a message. Returns the user who may send another one now, if any.
    fn acknowledge(&mut self, number: usize) -> Result<Option<usize>, Fault> {
        let receivers = self.receivers();
        let message = self.messages.get_mut(number).ok_or("an unknown message")?;
        if std::mem::replace(&mut message.is_acknowledged, true) {
            return Err("a message was acknowledged twice".into());
        }
        let is_done = match self.traffic.until {
            Until::Acknowledged => true,
            Until::Delivered => message.received == receivers,
        };
        let sender = message.sender.into();
        self.open[0] -= 1;
        Ok(is_done.then(|| self.next_sender(sender)).flatten())
    }

    /// Counts a delivery of a message. Returns the user who may send another one now, if any.
    fn deliver(&mut self, number: usize) -> Result<Option<usize>, Fault> {
        let receivers = self.receivers();
        let message = self.messages.get_mut(number).ok_or("an unknown message")?;
        if message.received == receivers {
            return Err("a message arrived twice".into());
        }
        message.received += 1;
        if message.due >= self.timed {
            self.latency.record(self.now.saturating_sub(message.due));
        }
        let waits_for_it = !self.acknowledges || self.traffic.until == Until::Delivered;
        let is_done = waits_for_it && message.is_acknowledged && message.received == receivers;
        let sender = message.sender.into();
        self.open[1] -= 1;
        self.delivered += 1;
        Ok(is_done.then(|| self.next_sender(sender)).flatten())
    }

    /// Returns who sends a message in place of one of `sender` that is done.
    fn next_sender(&mut self, sender: usize) -> Option<usize> {
        match (self.traffic.outstanding, self.traffic.pattern) {
            (0, _) => None,
            (_, Some(_)) => Some(sender),
            (_, None) => Some(self.random.random_range(0..self.traffic.users)),
        }
    }
}

/// One connection of a user, on any server.
struct User<P> {
    user: usize,
    run: Arc<Mutex<Run>>,
    peer: P,
    mailbox: Arc<Mailbox>,
    /// Chooses the receivers; none if the user writes to a group.
    receivers: Option<ReceiverChooser>,
    unacknowledged: VecDeque<usize>,
    /// When the messages were due that are to be sent.
    due: VecDeque<u64>,
    /// Whether the users read what the server sends.
    reads: Arc<AtomicBool>,
}

impl<P: Peer> Driver for User<P> {
    type Scanner = P::Scanner;
    type Error = Fault;

    fn react(&mut self, cx: &Context<'_>, frames: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let mut run = self.run.lock();
        run.now = nanos(run.begun.elapsed());
        let mut seen = Seen {
            run: &mut run,
            user: self.user,
            unacknowledged: &mut self.unacknowledged,
            due: &mut self.due,
        };
        self.peer.take(frames, &mut seen, out)?;
        if !P::SENDS {
            return Ok(());
        }
        self.mailbox.take(cx, &mut self.due);
        for due in self.due.drain(..) {
            if run.is_over {
                continue;
            }
            let to = self.receivers.as_mut().map_or(0, ReceiverChooser::choose);
            let number = run.send(self.user, due);
            if run.acknowledges {
                self.unacknowledged.push_back(number);
            }
            self.peer.send(to, number, out);
        }
        Ok(())
    }

    fn reads(&self) -> bool {
        self.reads.load(Ordering::Relaxed)
    }
}

/// The users of a run, connected to one server.
pub struct Users {
    pub run: Arc<Mutex<Run>>,
    pub crowd: Crowd,
    receivers: Vec<Option<ReceiverChooser>>,
    reads: Arc<AtomicBool>,
}

impl Users {
    /// Connects the users of a server whose addresses are these, and lets them begin.
    pub async fn connect(
        kind: Kind,
        addrs: &[SocketAddr],
        traffic: Traffic,
    ) -> Result<Users, Fault> {
        let mut users = Users::new(traffic, kind != Kind::Nats);
        for user in 0..traffic.users {
            let addr = addrs[user % addrs.len()];
            match kind {
                Kind::Nats | Kind::JetStream => nats::join(&mut users, user, addr, kind).await?,
                Kind::Mosquitto => mqtt::join(&mut users, user, addr).await?,
                Kind::Redis => redis::join(&mut users, user, addr).await?,
                _ => imd_peer::join(&mut users, user, addr).await?,
            }
        }
        users.begin();
        Ok(users)
    }

    /// Creates a run without users. `acknowledges` says whether the server acknowledges messages.
    pub fn new(traffic: Traffic, acknowledges: bool) -> Users {
        let numbers: Vec<usize> = (0..traffic.users).collect();
        let receivers = traffic.pattern.map(|pattern| {
            let receivers = ReceiverChooser::of(pattern, traffic.users, &numbers);
            receivers.map(Some).collect()
        });
        Users {
            run: Arc::new(Mutex::new(Run::new(traffic, acknowledges))),
            crowd: Crowd::default(),
            receivers: receivers.unwrap_or_else(|| vec![None; traffic.users]),
            reads: Arc::new(AtomicBool::new(!traffic.is_slow)),
        }
    }

    /// Returns what the users do.
    pub fn traffic(&self) -> Traffic {
        self.run.lock().traffic
    }

    /// Adds a connection of a user.
    pub fn add<P: Peer>(&mut self, user: usize, connection: Connection<P::Scanner>, peer: P) {
        let driver = User {
            user,
            run: Arc::clone(&self.run),
            peer,
            mailbox: Arc::clone(&self.run.lock().mailboxes[user]),
            receivers: self.receivers[user].take_if(|_| P::SENDS),
            unacknowledged: VecDeque::new(),
            due: VecDeque::new(),
            reads: Arc::clone(&self.reads),
        };
        self.crowd.add(connection, driver);
    }

    /// Makes the first messages of a closed loop due.
    pub fn begin(&self) {
        let run = self.run.lock();
        let now = nanos(run.elapsed());
        let users = match run.traffic.pattern {
            Some(_) => &run.mailboxes[..],
            None => &run.mailboxes[..1],
        };
        for mailbox in users {
            (0..run.traffic.outstanding).for_each(|_| mailbox.push(now));
        }
    }

    /// Returns the mailboxes of the users, by their numbers.
    pub fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.run.lock().mailboxes.clone()
    }

    /// Begins to record latencies: those of the messages that are due from this time on.
    pub fn time_from(&self, since_begin: Duration) {
        let mut run = self.run.lock();
        run.timed = nanos(since_begin);
        run.latency = LatencyHistogram::default();
    }

    /// Returns the latencies since the last call.
    pub fn take_latency(&self) -> LatencyHistogram {
        std::mem::take(&mut self.run.lock().latency)
    }

    /// Measures as [`rate_now`](Self::rate_now) does, with memory that is ready for use.
    pub async fn rate(self, server: &Server, secs: f64) -> Result<Sample, Fault> {
        memory::warm()?;
        self.rate_now(server, secs).await
    }

    /// Counts deliveries for a while, and then waits until everything has arrived. The figure is deliveries per second. Of the
    /// latencies, those of all messages count that were sent meanwhile.
    pub async fn rate_now(mut self, server: &Server, secs: f64) -> Result<Sample, Fault> {
        self.crowd.for_(WARM_UP).await?;
        let delivered = || self.run.lock().delivered;
        let (before, watch) = (delivered(), Stopwatch::start(server));
        let elapsed = self.run.lock().elapsed();
        self.time_from(elapsed);
        self.crowd.for_(Duration::from_secs_f64(secs)).await?;
        let spent = watch.stop(server, (delivered() - before) as f64);
        self.run.lock().is_over = true;
        self.settle().await?;
        Ok(Sample {
            latency: self.take_latency(),
            ..spent.rate()
        })
    }

    /// Lets slow users read everything, and waits as [`settle`](Self::settle) does. They send no more.
    pub async fn catch_up(&mut self) -> Result<(), Fault> {
        self.reads.store(true, Ordering::Relaxed);
        self.run.lock().is_over = true;
        // A message that is not sent any more wakes its sender.
        self.mailboxes().iter().for_each(|mailbox| mailbox.push(0));
        self.settle().await
    }

    /// Waits until every message was acknowledged and has arrived, and a moment longer, in case one arrives twice.
    pub async fn settle(&mut self) -> Result<(), Fault> {
        let begun = Instant::now();
        while self.run.lock().open != [0, 0] {
            if begun.elapsed() > DRAIN {
                return Err("messages were lost".into());
            }
            self.crowd.for_(Duration::from_millis(10)).await?;
        }
        self.crowd.for_(Duration::from_millis(50)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hub, mock};
    use imd::{Config, Imd};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    fn traffic(pattern: Option<Pattern>, until: Until) -> Traffic {
        Traffic {
            users: 3,
            first: 0,
            pattern,
            until,
            outstanding: 2,
            gives_ids: false,
            is_slow: false,
        }
    }

    #[test]
    fn a_message_makes_room_when_both_have_happened_in_either_order() {
        let mut run = Run::new(traffic(Some(Pattern::Random), Until::Delivered), true);
        let (first, second) = (run.send(2, 0), run.send(1, 0));
        assert_eq!(run.acknowledge(first).unwrap(), None);
        assert_eq!(run.deliver(first).unwrap(), Some(2));
        assert_eq!(run.deliver(second).unwrap(), None);
        assert_eq!(run.open, [1, 0]);
        assert_eq!(run.acknowledge(second).unwrap(), Some(1));
        assert_eq!((run.open, run.delivered), ([0, 0], 2));
    }

    #[test]
    fn an_acknowledgement_is_enough_if_the_traffic_says_so() {
        let mut run = Run::new(traffic(Some(Pattern::Ring), Until::Acknowledged), true);
        let message = run.send(0, 0);
        assert_eq!(run.acknowledge(message).unwrap(), Some(0));
        assert_eq!(run.deliver(message).unwrap(), None);
    }

    #[test]
    fn a_server_that_acknowledges_nothing_is_waited_for_by_deliveries() {
        let mut run = Run::new(traffic(Some(Pattern::Ring), Until::Acknowledged), false);
        let message = run.send(0, 0);
        assert_eq!(run.open, [0, 1]);
        assert_eq!(run.deliver(message).unwrap(), Some(0));
    }

    #[test]
    fn a_group_message_is_done_when_every_member_has_it() {
        let mut run = Run::new(traffic(None, Until::Delivered), true);
        let message = run.send(0, 0);
        assert_eq!(run.acknowledge(message).unwrap(), None);
        assert_eq!(run.deliver(message).unwrap(), None);
        assert_eq!(run.deliver(message).unwrap(), None);
        assert!(run.deliver(message).unwrap().is_some_and(|next| next < 3));
        assert!(run.deliver(message).is_err(), "it arrived once more");
    }

    #[test]
    fn what_happens_twice_or_to_an_unknown_message_is_an_error() {
        let mut run = Run::new(traffic(Some(Pattern::Random), Until::Delivered), true);
        let message = run.send(0, 0);
        run.acknowledge(message).unwrap();
        run.deliver(message).unwrap();
        assert!(run.acknowledge(message).is_err() && run.deliver(message).is_err());
        assert!(run.deliver(message + 1).is_err());
    }

    #[test]
    fn latencies_are_those_of_all_messages_that_were_due_in_time() {
        let mut run = Run::new(traffic(Some(Pattern::Random), Until::Delivered), true);
        run.timed = 1_000;
        let due = [999, 1_000, 2_000].map(|due| run.send(0, due));
        run.now = 52_000;
        for message in due {
            run.deliver(message).unwrap();
        }
        let latency = run.latency.percentiles().unwrap();
        assert_eq!((latency.p50, latency.max), (50.0, 51.0));
    }

    /// Lets users write for a moment, and returns how many deliveries there were.
    async fn try_out(kind: Kind, addrs: &[SocketAddr], traffic: Traffic) -> u64 {
        let mut users = Users::connect(kind, addrs, traffic).await.unwrap();
        users.crowd.for_(Duration::from_millis(20)).await.unwrap();
        users.run.lock().is_over = true;
        users.settle().await.unwrap();
        users.run.lock().delivered
    }

    /// Starts a mock with a thread, and so a state, of its own.
    fn start_mock(members: i64) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            hub::with(|hub| hub.members = (1..=members).collect());
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { mock::serve(TcpListener::from_std(listener)?, None).await })
        });
        addr
    }

    #[tokio::test]
    async fn the_same_load_works_with_imd_and_with_the_mock() {
        let loads = [
            (Some(Pattern::Random), Until::Delivered, false),
            (Some(Pattern::Ring), Until::Acknowledged, true),
            (Some(Pattern::Zipf), Until::Delivered, true),
            (Some(Pattern::Pairs), Until::Acknowledged, false),
            (None, Until::Delivered, false),
        ];
        for (pattern, until, gives_ids) in loads {
            let traffic = Traffic {
                gives_ids,
                ..traffic(pattern, until)
            };
            let delivered = try_out(Kind::Mock, &[start_mock(3)], traffic).await;
            assert!(delivered >= 6, "mock, {traffic:?}: {delivered}");
            if pattern.is_none() {
                continue;
            }
            let imd = Imd::start(Config::ephemeral()).await.unwrap();
            let addrs: Vec<_> = imd.access_servers().iter().map(|it| it.addr()).collect();
            let delivered = try_out(Kind::Imd, &addrs, traffic).await;
            assert!(delivered >= 6, "imd, {traffic:?}: {delivered}");
            imd.shutdown().await;
        }
    }

    #[tokio::test]
    async fn slow_users_read_nothing_until_they_catch_up_and_others_are_served() {
        let imd = Imd::start(Config::ephemeral()).await.unwrap();
        let addrs: Vec<_> = imd.access_servers().iter().map(|it| it.addr()).collect();
        let slow = Traffic {
            first: 3,
            outstanding: 0,
            is_slow: true,
            ..traffic(Some(Pattern::Ring), Until::Delivered)
        };
        let mut slow = Users::connect(Kind::Imd, &addrs, slow).await.unwrap();
        slow.mailboxes().iter().for_each(|mailbox| mailbox.push(0));
        let others = traffic(Some(Pattern::Ring), Until::Delivered);
        assert!(try_out(Kind::Imd, &addrs, others).await >= 6);
        slow.crowd.for_(Duration::from_millis(20)).await.unwrap();
        assert_eq!(slow.run.lock().open, [3, 3], "all are on their way");
        slow.catch_up().await.unwrap();
        assert_eq!(slow.run.lock().open, [0, 0]);
        assert_eq!(slow.run.lock().delivered, 3);
        imd.shutdown().await;
    }
}
