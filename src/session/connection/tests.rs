use super::*;
use crate::clock::RealClock;
use crate::lab::Lab;
use crate::session::{Deadlines, SessionIds};
use tokio::net::TcpListener;

struct Mute;

impl Handler for Mute {
    type Open = ();

    async fn frame(&self, _: &mut Turn<()>, _: &[u8]) {}

    async fn finish(&self, _: &mut Turn<()>) {}

    fn answered(&self, (): ()) {}
}

async fn connected() -> (Connection<Mute>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = TcpStream::connect(addr).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let minute = Duration::from_secs(60);
    let deadlines = Deadlines {
        login: None,
        idle: minute,
        half_frame: minute,
        write: minute,
    };
    let clock = Arc::new(RealClock::default());
    let manager = Manager::new(SessionIds::default(), clock, deadlines, 1 << 20);
    let session = manager.open(peer, addr);
    let server = Server {
        manager,
        frame_limit: MAX_FRAME,
        connections: Metrics::default().connections("gateway"),
        metrics: Arc::default(),
        tap: Tap::gateway(Lab::idle()),
        handler: Mute,
    };
    (Connection::new(stream, session, Arc::new(server)), client)
}

async fn take_turn(connection: &mut Connection<Mute>) {
    match poll_fn(|cx| connection.poll_event(cx)).await.unwrap() {
        Event::Read(input) => connection.turn(input).await.unwrap(),
        _ => panic!("there was something to read"),
    }
}

#[tokio::test]
async fn who_waits_in_the_middle_of_a_frame_holds_its_bytes_and_no_buffer() {
    let (mut connection, mut client) = connected().await;
    client.write_all(&[0, 4, 8]).await.unwrap();
    take_turn(&mut connection).await;
    let waits = poll_fn(|cx| Poll::Ready(connection.poll_event(cx).is_pending())).await;
    assert!(waits);
    let unread = &connection.rest.as_ref().unwrap().unread;
    assert_eq!(unread[..], [0, 4, 8]);
    assert!(unread.capacity() < 100, "{}", unread.capacity());

    client.write_all(&[1, 2, 3]).await.unwrap();
    take_turn(&mut connection).await;
    assert!(
        connection.rest.is_none(),
        "nothing is left of a whole frame"
    );
}

#[tokio::test]
async fn a_connection_that_waits_for_its_end_holds_no_buffer() {
    let (connection, mut client) = connected().await;
    let draining = drain(&connection.stream);
    let size = size_of_val(&draining);
    assert!(size < 512, "{size} bytes");
    client.write_all(&[7; 100_000]).await.unwrap();
    client.shutdown().await.unwrap();
    draining.await.unwrap();
}
