use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::listener::{Admission, accept};
use crate::session::Pause;
use crate::shutdown::Shutdown;

/// Serves HTTP/1.1 until the shutdown begins; requests that are under way are answered.
///
/// `timeout` is how long the head of a request may take to arrive.
pub async fn serve(
    listener: TcpListener,
    admission: Admission,
    shutdown: Shutdown,
    timeout: Duration,
    router: Router,
) {
    let serve = |stream, _, place| {
        let (router, until) = (router.clone(), shutdown.clone());
        shutdown.spawn(async move {
            connection(stream, router, until, timeout).await;
            drop(place);
        });
    };
    let never = Arc::<Pause>::default();
    accept(listener, admission, shutdown.clone(), never, serve).await;
}

async fn connection(stream: TcpStream, router: Router, until: Shutdown, timeout: Duration) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(timeout);
    let connection =
        server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return log(result),
        () = until.begun() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        result = connection => log(result),
        () = until.hurried() => {}
    }
}

fn log(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "http connection ended");
    }
}
