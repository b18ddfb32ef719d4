//! Writes logs and warnings to stderr: lines wait in a bounded queue, and a dedicated thread writes them.
//!
//! Serves [`log`](super::log), [`failure`](super::failure) and the progress of `imd bench`. Only the writing thread is ever
//! blocked by a pipe that nobody reads or a stopped terminal. Serving, handling signals and ending the process never wait
//! for stderr: lines that do not fit the queue are dropped, and their number is written as soon as stderr accepts something
//! again.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use imd::metrics::LostLogs;
use parking_lot::{Condvar, Mutex};

/// Size of the queue for logs, in bytes. A log line that does not fit is dropped.
const LOG_CAPACITY: usize = 1 << 20;

/// Size of the queue for warnings, in bytes. It is larger than that for logs, so that a warning still fits when logs
/// have filled the queue: warnings are few, and each tells the user what to do.
const WARNING_CAPACITY: usize = LOG_CAPACITY + (64 << 10);

/// How long the end of the process waits for the queue to be written.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Starts the thread that writes everything from now on. `tell_dropped` builds the line that reports a number of
/// dropped lines.
///
/// # Errors
///
/// When the thread can't be started. Warnings are then written directly, and logs are discarded.
pub fn start(tell_dropped: fn(u64) -> String) -> io::Result<()> {
    let queue = Queue::start(io::stderr(), tell_dropped)?;
    // An earlier queue stays in use: it writes to the stderr of the same process.
    let _ = QUEUE.set(queue);
    Ok(())
}

/// Writes a warning, which may have several lines.
pub fn write_warning(text: &str) {
    match QUEUE.get() {
        Some(queue) => queue.push(text.as_bytes(), WARNING_CAPACITY),
        // Before the thread runs, only the main thread writes, and it may block. When stderr is closed, there is
        // nowhere left to report that.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Adds dropped lines to a metric from now on, including those that were dropped before.
pub fn count_dropped(counter: LostLogs) {
    if let Some(queue) = QUEUE.get() {
        let state = queue.state.lock();
        counter.add(state.dropped);
        let _ = queue.counter.set(counter);
    }
}

/// Waits until everything in the queue is written, but no longer than [`FINAL_WRITE_TIMEOUT`].
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.finish(FINAL_WRITE_TIMEOUT);
    }
}

/// Writer for the logs. Each call of `write` is one event, which is queued whole or dropped.
pub struct Logs;

impl Write for Logs {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get() {
            queue.push(event, LOG_CAPACITY);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Events that wait to be written, with the conditions that wake the writing thread and the end of the process.
struct Queue {
    state: Mutex<State>,
    /// Signalled when events were added.
    grown: Condvar,
    /// Signalled when a batch of events was written.
    written: Condvar,
    /// The metric of dropped lines, once the stack that owns it has started.
    counter: OnceLock<LostLogs>,
}

/// The contents of a queue, and its counters since the process began.
#[derive(Default)]
struct State {
    /// Events that the writing thread has not taken yet, one after the other.
    waiting: Vec<u8>,
    /// Number of events that were dropped.
    dropped: u64,
    /// Number of dropped events that a written line has reported.
    reported: u64,
    /// Number of bytes that were accepted into the queue.
    accepted_bytes: u64,
    /// Number of accepted bytes that were written, or that stderr refused.
    written_bytes: u64,
}

impl Queue {
    /// Creates a queue and the thread that writes it to `sink`.
    fn start(
        sink: impl Write + Send + 'static,
        tell_dropped: fn(u64) -> String,
    ) -> io::Result<Arc<Queue>> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            grown: Condvar::new(),
            written: Condvar::new(),
            counter: OnceLock::new(),
        });
        let writer = Arc::clone(&queue);
        thread::Builder::new()
            .name("stderr".into())
            .spawn(move || writer.write_all(sink, tell_dropped))?;
        Ok(queue)
    }

    /// Adds an event, or drops it if the queue would exceed `room` bytes.
    fn push(&self, event: &[u8], room: usize) {
        let mut state = self.state.lock();
        if state.waiting.len() + event.len() > room {
            state.dropped += 1;
            if let Some(counter) = self.counter.get() {
                counter.add(1);
            }
            return;
        }
        state.waiting.extend_from_slice(event);
        state.accepted_bytes += event.len() as u64;
        self.grown.notify_one();
    }

    /// Writes batches of events for ever. Runs on the dedicated thread, which an unread stderr may block.
    fn write_all(&self, mut sink: impl Write, tell_dropped: fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let missing = {
                let mut state = self.state.lock();
                while state.waiting.is_empty() {
                    self.grown.wait(&mut state);
                }
                mem::swap(&mut batch, &mut state.waiting);
                let missing = state.dropped - state.reported;
                state.reported = state.dropped;
                missing
            };
            // When stderr is closed or its disk is full, there is nowhere left to report that.
            let _ = sink.write_all(&batch);
            if missing > 0 {
                let _ = sink.write_all(tell_dropped(missing).as_bytes());
            }
            let _ = sink.flush();
            let mut state = self.state.lock();
            state.written_bytes += batch.len() as u64;
            self.written.notify_all();
            batch.clear();
            // Gives back the memory that a burst of events needed.
            batch.shrink_to(1 << 16);
        }
    }

    /// Waits until everything that was accepted before this call is written, or until `patience` is over.
    fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        let accepted_bytes = state.accepted_bytes;
        while state.written_bytes < accepted_bytes {
            if self.written.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A sink that blocks each write until it is read, as a full pipe does.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(text.to_vec()).map_err(io::Error::other)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Creates a queue whose sink is read only by the returned receiver.
    fn unread() -> (Arc<Queue>, mpsc::Receiver<Vec<u8>>) {
        let (send, read) = mpsc::sync_channel(0);
        let queue = Queue::start(Pipe(send), |n| format!("{n} dropped\n")).unwrap();
        (queue, read)
    }

    #[test]
    fn an_unread_queue_is_bounded_and_dropped_lines_are_counted() {
        let (queue, read) = unread();
        let metrics = imd::metrics::Metrics::default();
        queue.counter.set(metrics.lost_logs()).ok().unwrap();
        queue.push(b"first\n", LOG_CAPACITY);
        // The writing thread has taken the event, and is blocked by it.
        while !queue.state.lock().waiting.is_empty() {
            thread::yield_now();
        }
        let long = vec![b'x'; LOG_CAPACITY];
        queue.push(&long, LOG_CAPACITY);
        queue.push(b"too much\n", LOG_CAPACITY);
        queue.push(b"too much\n", LOG_CAPACITY);
        queue.push(b"a warning\n", WARNING_CAPACITY);
        queue.finish(Duration::from_millis(1));
        assert_eq!(read.recv().unwrap(), b"first\n");
        let batch = read.recv().unwrap();
        assert!(batch.starts_with(&long) && batch.ends_with(b"xa warning\n"));
        assert_eq!(read.recv().unwrap(), b"2 dropped\n");
        queue.push(b"last\n", LOG_CAPACITY);
        assert_eq!(
            read.recv().unwrap(),
            b"last\n",
            "what was said is not said again"
        );
        let text = metrics.text(&Default::default()).unwrap();
        assert!(text.contains("imd_log_lines_dropped_total 2"), "{text}");
    }

    #[test]
    fn finishing_waits_until_the_queue_is_read() {
        let (queue, read) = unread();
        let reader = thread::spawn(move || read.recv().unwrap());
        queue.push(b"last words\n", LOG_CAPACITY);
        queue.finish(Duration::from_secs(60));
        assert_eq!(queue.state.lock().written_bytes, 11);
        assert_eq!(reader.join().unwrap(), b"last words\n");
    }
}
