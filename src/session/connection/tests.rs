//! Tests of what a connection holds and writes, through a pipe instead of a socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;

use super::*;
use crate::clock::RealClock;
use crate::codec::{Encoded, Framing};
use crate::lab::{Fault, Lab, Site};
use crate::metrics::Metrics;
use crate::proto::{Cmd, ReqPing};
use crate::session::{Deadlines, FaultPoint, SessionIds, SessionManager};
use crate::transport::pipe::{self, Pipe};

/// A handler that replies to each request with the request itself, once it has taken all requests of a batch.
struct Echo;

impl Handler for Echo {
    type Notifies = ();

    async fn handle(&self, batch: &mut RequestBatch<'_>, (): &mut ()) {
        let mut requests = Vec::new();
        while let Some(request) = batch.next_request() {
            requests.push(request);
        }
        for request in requests {
            batch.reply(&Encoded(request));
        }
    }

    fn refuse(&self, _: &[u8], code: Code) -> Reply {
        Reply::server(code, code.text())
    }
}

/// The client's end of a pipe.
struct Client {
    transport: Transport,
    framing: Framing,
}

impl Client {
    fn frame(&self, message: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        self.framing.encode(&Encoded(message), &mut frame).unwrap();
        frame
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.transport.write_all(bytes).await.unwrap();
    }

    /// Reads the frames that were written to the client so far, and returns their messages.
    async fn read(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = BytesMut::with_capacity(READ);
        poll_fn(|cx| self.transport.poll_read(cx, &mut bytes, READ))
            .await
            .unwrap();
        let messages = self.framing.frames(&bytes);
        messages.map(|(message, _)| message.to_vec()).collect()
    }
}

fn connected(framing: Framing, capacity: usize) -> (Connection<Echo>, Client) {
    let fault_point = FaultPoint::gateway(Lab::idle());
    connected_to(Echo, fault_point, framing, capacity)
}

fn connected_to<H: Handler>(
    handler: H,
    fault_point: FaultPoint,
    framing: Framing,
    capacity: usize,
) -> (Connection<H>, Client) {
    let (server_end, client_end): (Pipe, Pipe) = pipe::pair(capacity);
    let minute = Duration::from_secs(60);
    let deadlines = Deadlines {
        login: None,
        idle: minute,
        half_frame: minute,
        write: minute,
    };
    let clock = Arc::new(RealClock::default());
    let manager = SessionManager::new(SessionIds::default(), clock, deadlines, 1 << 20);
    let session = manager.open(pipe::ADDRESS, pipe::ADDRESS);
    let context = ListenerContext {
        manager,
        framing,
        frame_before_login: MAX_FRAME,
        connection_counts: Metrics::default().connection_counts("gateway"),
        metrics: Arc::default(),
        fault_point,
        handler,
    };
    let connection = Connection::new(Transport::Pipe(server_end), session, Arc::new(context));
    let client = Client {
        transport: Transport::Pipe(client_end),
        framing,
    };
    (connection, client)
}

async fn process_one_read<H: Handler>(connection: &mut Connection<H>) {
    match poll_fn(|cx| connection.poll_next_step(cx)).await.unwrap() {
        step @ NextStep::Read(_) => {
            assert!(connection.start_step(step).await.unwrap().is_continue())
        }
        _ => panic!("there was something to read"),
    }
}

async fn is_waiting(connection: &mut Connection<Echo>) -> bool {
    poll_fn(|cx| Poll::Ready(connection.poll_next_step(cx).is_pending())).await
}

#[tokio::test]
async fn a_connection_in_the_middle_of_a_frame_holds_its_bytes_and_no_buffer() {
    let (mut connection, mut client) = connected(Framing::LengthPrefix, 1 << 16);
    client.write(&[0, 4, 8]).await;
    process_one_read(&mut connection).await;
    assert!(is_waiting(&mut connection).await);
    let partial = &connection.backlog.as_ref().unwrap().partial_frame;
    assert_eq!(partial[..], [0, 4, 8]);
    assert!(partial.capacity() < 100, "{}", partial.capacity());

    client.write(&[1, 2, 3]).await;
    process_one_read(&mut connection).await;
    assert!(
        connection.backlog.is_none(),
        "nothing is left of a whole frame"
    );
}

/// Every idle session has this future. With 152 bytes, what the runtime adds to it makes an allocation of 256 bytes; one
/// byte more would make it 384.
#[tokio::test]
async fn the_task_of_an_idle_session_is_small() {
    let (connection, _client) = connected(Framing::LengthPrefix, 1 << 16);
    let permit = [0_u8; 32];
    let held = size_of_val(&connection) + size_of_val(&permit);
    let beside = size_of_val(&connection.run(permit)) - held;
    assert!(beside <= 48, "{beside} bytes beside the connection");
    assert!(
        size_of::<tokio::net::TcpStream>() <= 40,
        "TcpStream has grown"
    );
}

/// Every session has this struct, of which an allocation takes 216 bytes with the counts of its `Arc`. What only some sessions
/// need is boxed.
#[test]
fn a_session_is_small() {
    let size = size_of::<Session>();
    assert!(size <= 200, "{size} bytes");
}

#[tokio::test]
async fn a_connection_that_waits_for_its_end_holds_no_buffer() {
    let (mut connection, mut client) = connected(Framing::LengthPrefix, 1 << 20);
    let draining = connection.transport.drain();
    let size = size_of_val(&draining);
    assert!(size < 512, "{size} bytes");
    client.write(&[7; 100_000]).await;
    client.transport.close_writing().await.unwrap();
    draining.await.unwrap();
}

/// With every framing, the requests of one read are answered in one write and in their order, and a frame that arrives in
/// parts is answered once.
#[tokio::test]
async fn messages_are_told_apart_by_the_framing_of_the_listener() {
    for framing in [Framing::LengthPrefix, Framing::Marked] {
        let (mut connection, mut client) = connected(framing, 1 << 16);
        let [long, short] = [client.frame(&[8; 300]), client.frame(&[9])];
        let (begin, end) = short.split_at(2);
        client.write(&[&long, begin].concat()).await;
        process_one_read(&mut connection).await;
        assert_eq!(client.read().await, [vec![8; 300]]);
        client.write(&[end, &short].concat()).await;
        process_one_read(&mut connection).await;
        assert_eq!(client.read().await, [[9], [9]]);
    }
}

#[tokio::test]
async fn what_the_transport_does_not_take_is_written_when_it_does() {
    let (mut connection, mut client) = connected(Framing::Marked, 400);
    let message = client.frame(&[8; 300]);
    client.write(&message).await;
    process_one_read(&mut connection).await;
    client.write(&message).await;
    process_one_read(&mut connection).await;
    assert!(is_waiting(&mut connection).await);
    assert_eq!(connection.session.queued(), 2 * message.len() - 400);

    let mut bytes = BytesMut::with_capacity(READ);
    poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ))
        .await
        .unwrap();
    assert!(matches!(
        poll_fn(|cx| connection.poll_next_step(cx)).await,
        Ok(NextStep::Write)
    ));
    let unwritten = ReplyBuffer::behind(connection.take_unwritten(), None);
    connection.write(unwritten).unwrap();
    poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ))
        .await
        .unwrap();
    assert_eq!(client.framing.frames(&bytes).count(), 2);
    assert_eq!(connection.session.queued(), 0);
}

#[tokio::test]
async fn a_client_sees_an_end_or_a_reset() {
    let (connection, mut client) = connected(Framing::LengthPrefix, 1 << 16);
    connection.session.close(CloseReason::Idle);
    connection.run(()).await;
    let mut bytes = BytesMut::with_capacity(READ);
    let read = poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ)).await;
    assert_eq!(read.unwrap(), 0);

    let (connection, mut client) = connected(Framing::LengthPrefix, 1 << 16);
    connection.session.close(CloseReason::Reset);
    connection.run(()).await;
    let read = poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ)).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// A handler that records the requests of each of its calls, and whether its notifies were sent.
#[derive(Clone, Default)]
struct Observer {
    visits: Arc<Mutex<Vec<Vec<u8>>>>,
    are_notified: Arc<AtomicBool>,
    panics: bool,
}

/// Stands for the notifies of a batch, and records when it is dropped, which sends them.
#[derive(Default)]
struct Notifies(Option<Arc<AtomicBool>>);

impl Drop for Notifies {
    fn drop(&mut self) {
        if let Some(are_notified) = &self.0 {
            are_notified.store(true, Ordering::Relaxed);
        }
    }
}

impl Handler for Observer {
    type Notifies = Notifies;

    async fn handle(&self, batch: &mut RequestBatch<'_>, notifies: &mut Notifies) {
        let mut visit = Vec::new();
        while let Some(request) = batch.next_request() {
            visit.extend(request.last());
            batch.reply(&Encoded(request));
        }
        self.visits.lock().push(visit);
        notifies.0 = Some(Arc::clone(&self.are_notified));
        assert!(!self.panics, "on purpose");
    }

    fn refuse(&self, _: &[u8], code: Code) -> Reply {
        Reply::server(code, code.text())
    }
}

/// Returns the requests of each call of the handler, when one read brings four pings and a fault is injected into the
/// second.
async fn visits(fault: Option<Fault>) -> Vec<Vec<u8>> {
    let lab = Lab::idle();
    let _guard = fault.map(|fault| lab.faults().inject(fault).unwrap());
    let fault_point = FaultPoint::access(lab, "access-1");
    let observer = Observer::default();
    let (mut connection, mut client) = connected_to(
        observer.clone(),
        fault_point,
        Framing::LengthPrefix,
        1 << 16,
    );
    let ping = |uid| {
        let cmd = Cmd::Ping.number();
        let ping = ReqPing {
            cmd,
            uid,
            ..Default::default()
        };
        client.frame(&ping.encode_to_vec())
    };
    let frames = [1, 2, 3, 4].map(ping).concat();
    client.write(&frames).await;
    process_one_read(&mut connection).await;
    assert!(observer.are_notified.load(Ordering::Relaxed));
    let visits = observer.visits.lock().clone();
    visits
        .into_iter()
        .filter(|visit| !visit.is_empty())
        .collect()
}

#[tokio::test]
async fn a_fault_divides_a_batch_only_where_something_has_to_be_written_before() {
    let second = || Fault::at(Site::AccessRequest).nth(2);
    assert_eq!(visits(None).await, [[1, 2, 3, 4]]);
    assert_eq!(visits(Some(second().drop_it())).await, [[1, 3, 4]]);
    assert_eq!(visits(Some(second().duplicate())).await, [[1, 2, 2, 3, 4]]);
    let overtaken = visits(Some(second().reorder())).await;
    assert_eq!(overtaken, [vec![1, 3], vec![2], vec![4]]);
    let refused = visits(Some(second().error(Code::ServerError))).await;
    assert_eq!(refused, [vec![1], vec![3, 4]]);
    let reset = visits(Some(second().reset())).await;
    assert_eq!(reset, [[1]]);
}

#[tokio::test]
async fn what_was_stored_is_notified_also_when_the_handler_panics() {
    let observer = Observer {
        panics: true,
        ..Observer::default()
    };
    let fault_point = FaultPoint::access(Lab::idle(), "access-1");
    let (connection, mut client) = connected_to(
        observer.clone(),
        fault_point,
        Framing::LengthPrefix,
        1 << 16,
    );
    let request = client.frame(&[8]);
    client.write(&request).await;
    let ended = tokio::spawn(connection.run(())).await;
    assert!(ended.unwrap_err().is_panic());
    assert!(observer.are_notified.load(Ordering::Relaxed));
}
