//! A WebSocket server that sends each message back, on the listeners, sessions and transport of imd. For the
//! Autobahn|Testsuite, whose cases expect an echo: `tests/autobahn/run`.

use std::sync::Arc;
use std::time::Duration;

use imd::Config;
use imd::clock::RealClock;
use imd::codec::{Encoded, MAX_FRAME};
use imd::lab::Lab;
use imd::listener::{Admission, Listeners, serve_server};
use imd::metrics::Metrics;
use imd::proto::{Code, Reply};
use imd::session::{
    Deadlines, FaultPoint, Handler, ListenerContext, RequestBatch, SessionIds, SessionManager,
};
use imd::tls::Acceptor;

/// Replies to each message with the message itself.
struct Echo;

impl Handler for Echo {
    type Notifies = ();

    async fn handle(&self, batch: &mut RequestBatch<'_>, (): &mut ()) {
        while let Some(message) = batch.next_request() {
            batch.reply(&Encoded(message));
        }
    }

    fn refuse(&self, _: &[u8], code: Code) -> Reply {
        Reply::server(code, code.text())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::default();
    let long = Duration::from_secs(600);
    let deadlines = Deadlines {
        login: None,
        idle: long,
        half_frame: long,
        write: long,
    };
    let clock = Arc::new(RealClock::default());
    let journal = &config.journal;
    let lab = Lab::new(clock.clone(), 0, journal.capture, journal.bounds());
    let manager = SessionManager::new(
        SessionIds::default(),
        clock,
        deadlines,
        config.limits.outbound,
    );
    let any_port = ([127, 0, 0, 1], 0).into();
    let listeners = Listeners::bind(any_port, Some(any_port))?;
    let websocket = listeners.websocket.as_ref();
    let addr = websocket.ok_or("no listener")?.local_addr()?;
    let metrics = Arc::new(Metrics::default());
    let context = |framing| ListenerContext {
        manager: Arc::clone(&manager),
        framing,
        frame_before_login: MAX_FRAME,
        connection_counts: metrics.connection_counts("echo"),
        metrics: Arc::clone(&metrics),
        fault_point: FaultPoint::gateway(Arc::clone(&lab)),
        handler: Echo,
    };
    serve_server(
        listeners,
        &Admission::new(&config)?,
        &Acceptor::default(),
        &Arc::default(),
        &manager,
        context,
    );
    println!("ws://{addr}");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
