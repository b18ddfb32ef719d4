//! Tests of what a connection holds and writes, through a pipe instead of a socket.

use std::time::Duration;

use super::*;
use crate::clock::RealClock;
use crate::codec::{Encoded, Framing};
use crate::lab::Lab;
use crate::metrics::Metrics;
use crate::session::{Deadlines, FaultPoint, Manager, SessionIds};
use crate::transport::pipe::{self, Pipe};

/// Answers each request with the same message, when all requests of a batch were taken out.
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

    /// Reads what has been written to it so far, and returns the messages.
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
    let (server_end, client_end): (Pipe, Pipe) = pipe::pair(capacity);
    let minute = Duration::from_secs(60);
    let deadlines = Deadlines {
        login: None,
        idle: minute,
        half_frame: minute,
        write: minute,
    };
    let clock = Arc::new(RealClock::default());
    let manager = Manager::new(SessionIds::default(), clock, deadlines, 1 << 20);
    let session = manager.open(pipe::ADDRESS, pipe::ADDRESS);
    let server = Server {
        manager,
        framing,
        frame_limit: MAX_FRAME,
        connections: Metrics::default().connections("gateway"),
        metrics: Arc::default(),
        fault_point: FaultPoint::gateway(Lab::idle()),
        handler: Echo,
    };
    let connection = Connection::new(Transport::Pipe(server_end), session, Arc::new(server));
    let client = Client {
        transport: Transport::Pipe(client_end),
        framing,
    };
    (connection, client)
}

async fn take_turn(connection: &mut Connection<Echo>) {
    match poll_fn(|cx| connection.poll_event(cx)).await.unwrap() {
        Event::Read(input) => connection.process_read(input).await.unwrap(),
        _ => panic!("there was something to read"),
    }
}

async fn is_waiting(connection: &mut Connection<Echo>) -> bool {
    poll_fn(|cx| Poll::Ready(connection.poll_event(cx).is_pending())).await
}

#[tokio::test]
async fn a_connection_in_the_middle_of_a_frame_holds_its_bytes_and_no_buffer() {
    let (mut connection, mut client) = connected(Framing::LengthPrefix, 1 << 16);
    client.write(&[0, 4, 8]).await;
    take_turn(&mut connection).await;
    assert!(is_waiting(&mut connection).await);
    let unread = &connection.backlog.as_ref().unwrap().unread;
    assert_eq!(unread[..], [0, 4, 8]);
    assert!(unread.capacity() < 100, "{}", unread.capacity());

    client.write(&[1, 2, 3]).await;
    take_turn(&mut connection).await;
    assert!(
        connection.backlog.is_none(),
        "nothing is left of a whole frame"
    );
}

#[tokio::test]
async fn a_connection_that_waits_for_its_end_holds_no_buffer() {
    let (mut connection, mut client) = connected(Framing::LengthPrefix, 1 << 20);
    let draining = connection.transport.drain();
    let size = size_of_val(&draining);
    assert!(size < 512, "{size} bytes");
    client.write(&[7; 100_000]).await;
    client.transport.shutdown().await.unwrap();
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
        take_turn(&mut connection).await;
        assert_eq!(client.read().await, [vec![8; 300]]);
        client.write(&[end, &short].concat()).await;
        take_turn(&mut connection).await;
        assert_eq!(client.read().await, [[9], [9]]);
    }
}

#[tokio::test]
async fn what_the_transport_does_not_take_is_written_when_it_does() {
    let (mut connection, mut client) = connected(Framing::Marked, 400);
    let message = client.frame(&[8; 300]);
    client.write(&message).await;
    take_turn(&mut connection).await;
    client.write(&message).await;
    take_turn(&mut connection).await;
    assert!(is_waiting(&mut connection).await);
    assert_eq!(connection.session.queued(), 2 * message.len() - 400);

    let mut bytes = BytesMut::with_capacity(READ);
    poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ))
        .await
        .unwrap();
    assert!(matches!(
        poll_fn(|cx| connection.poll_event(cx)).await,
        Ok(Event::Write)
    ));
    let unwritten = connection.take_unwritten();
    let counted = unwritten.len();
    connection.write(unwritten, counted, None).unwrap();
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
    connection.run().await;
    let mut bytes = BytesMut::with_capacity(READ);
    let read = poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ)).await;
    assert_eq!(read.unwrap(), 0);

    let (connection, mut client) = connected(Framing::LengthPrefix, 1 << 16);
    connection.session.close(CloseReason::Reset);
    connection.run().await;
    let read = poll_fn(|cx| client.transport.poll_read(cx, &mut bytes, READ)).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
