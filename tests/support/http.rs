//! An HTTP client for tests that looks at bytes: requests may be wrong, cut short or slow, and answers may be left
//! unread.
//!
//! Serves the tests of the user API, the group API and the admin API. Most of them need only [`post`], [`http`] or
//! [`request`].

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// A connection to an HTTP listener.
///
/// Every wait of it fails the test after [`PATIENCE`](super::PATIENCE).
pub struct Http {
    pub stream: TcpStream,
    /// The bytes that have arrived and were not returned yet.
    unread: Vec<u8>,
}

/// An answer as it was received.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    pub body: String,
}

impl Http {
    pub async fn connect(addr: SocketAddr) -> Http {
        Http::over(soon(TcpStream::connect(addr)).await.unwrap())
    }

    fn over(stream: TcpStream) -> Http {
        Http {
            stream,
            unread: Vec::new(),
        }
    }

    /// Connects, and sends these bytes.
    pub async fn sent(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Http {
        let mut http = Http::connect(addr).await;
        http.send(bytes).await;
        http
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Ends the writing side.
    pub async fn end(&mut self) {
        soon(self.stream.shutdown()).await.unwrap();
    }

    /// Reads once more. Returns whether anything came before the end.
    async fn read(&mut self) -> bool {
        soon(self.stream.read_buf(&mut self.unread)).await.unwrap() > 0
    }

    /// Takes these bytes out of those that have arrived, as text.
    fn take(&mut self, length: usize) -> String {
        let taken = self.unread.drain(..length).collect();
        String::from_utf8(taken).unwrap()
    }

    /// Reads up to the next `end`, and returns the text with it.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            let mut places = self.unread.windows(end.len());
            if let Some(at) = places.position(|place| place == end.as_bytes()) {
                return self.take(at + end.len());
            }
            let unread = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.read().await, "no {end:?} in {unread:?}");
        }
    }

    /// Reads the next bytes, which must be `expected`.
    pub async fn expect(&mut self, expected: &str) {
        while self.unread.len() < expected.len() && self.read().await {}
        let length = self.unread.len().min(expected.len());
        assert_eq!(self.take(length), expected);
    }

    /// Reads one answer whose head has a `content-length`. The connection may stay open.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = Answer::of_head(self.until("\r\n\r\n").await);
        let length = answer.header("content-length").parse().unwrap();
        while self.unread.len() < length {
            assert!(self.read().await, "{answer:?}");
        }
        answer.body = self.take(length);
        answer
    }

    /// Reads until the server closes the connection. A reset fails the test.
    pub async fn rest(&mut self) -> String {
        while self.read().await {}
        self.take(self.unread.len())
    }

    /// Reads until the server closes or resets the connection.
    pub async fn rest_or_reset(&mut self) -> String {
        while let Ok(1..) = soon(self.stream.read_buf(&mut self.unread)).await {}
        self.take(self.unread.len())
    }
}

impl Answer {
    fn of_head(head: String) -> Answer {
        let status = head.split(' ').nth(1).unwrap_or_default();
        Answer {
            status: status.parse().unwrap_or_else(|_| panic!("{head}")),
            head,
            body: String::new(),
        }
    }

    /// Splits the bytes of one answer into head and body. Returns `None` if the head is incomplete.
    pub fn of(text: &str) -> Option<Answer> {
        let end = text.find("\r\n\r\n")? + 4;
        let (head, body) = text.split_at(end);
        let body = body.to_owned();
        Some(Answer {
            body,
            ..Answer::of_head(head.to_owned())
        })
    }

    /// Returns the value of a header, whose name is in lower case as `imd` writes it.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = headers.find(|header| header.0 == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {}", self.head))
            .1
    }

    /// Parses the body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a request that closes its connection, and returns the answer. The `head` is the request line, with headers
/// behind it, and without the last line end.
pub async fn request(addr: SocketAddr, head: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let sent = Http::sent(addr, [head.as_bytes(), body].concat());
    Answer::of(&sent.await.rest().await).expect("a whole answer")
}

/// Posts a form to the user API or the group API. Returns the HTTP status and the body.
pub async fn post(addr: SocketAddr, path: &str, form: &str) -> (u16, Value) {
    http(addr, form_request(path, form).as_bytes()).await
}

/// Posts a form like [`post`], to a server that may end at any moment. Returns `None` if the server is gone, or ends before
/// it has written the whole answer.
pub async fn try_post(addr: SocketAddr, path: &str, form: &str) -> Option<(u16, Value)> {
    let mut http = Http::over(soon(TcpStream::connect(addr)).await.ok()?);
    let request = form_request(path, form);
    let _ = soon(http.stream.write_all(request.as_bytes())).await;
    let answer = Answer::of(&http.rest_or_reset().await)?;
    let body = serde_json::from_str(&answer.body).ok()?;
    Some((answer.status, body))
}

fn form_request(path: &str, form: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    )
}

/// Sends a whole request to the user API or the group API. Returns the HTTP status and the body, which is JSON in every
/// case.
pub async fn http(addr: SocketAddr, request: &[u8]) -> (u16, Value) {
    let answer = answered(addr, request).await.expect("a whole answer");
    assert_eq!(
        answer.header("content-type"),
        "application/json;charset=utf-8"
    );
    (answer.status, answer.json())
}

/// Sends a whole request, and returns the answer, or `None` if the server closes the connection without one. It may
/// answer and close before it has taken a body that is too long.
pub async fn answered(addr: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut http = Http::connect(addr).await;
    let _ = soon(http.stream.write_all(request)).await;
    Answer::of(&http.rest_or_reset().await)
}
