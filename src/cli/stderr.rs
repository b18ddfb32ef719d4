//! Stderr, for logs and warnings: lines wait in a bounded queue, and a thread of its own writes them.
//!
//! A pipe that nobody reads, or a terminal that was stopped, blocks that thread alone. Nothing that serves, handles a
//! signal or ends ever waits for stderr: lines that find no room are dropped, and their number is said as soon as
//! something can be written again.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use imd::metrics::LostLogs;
use parking_lot::{Condvar, Mutex};

/// Logs that wait take at most this many bytes.
const ROOM: usize = 1 << 20;

/// Warnings may take more: they are few, and each says what somebody has to do.
const ROOM_FOR_WARNINGS: usize = ROOM + (64 << 10);

/// How long the end of the process waits for what has been said.
const LAST_WORDS: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Has everything that is said from now on written by a thread of its own. `tell_dropped` makes the line that says how
/// many lines are missing.
///
/// # Errors
///
/// When the thread can't be had.
pub fn start(tell_dropped: fn(u64) -> String) -> io::Result<()> {
    let queue = Queue::start(io::stderr(), tell_dropped)?;
    // Whoever was first serves this process just as well.
    let _ = QUEUE.set(queue);
    Ok(())
}

/// Says a warning, which may hold several lines.
pub fn say(text: &str) {
    match QUEUE.get() {
        Some(queue) => queue.push(text.as_bytes(), ROOM_FOR_WARNINGS),
        // Before the start nobody else needs this thread. With stderr closed there is nobody left to tell.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Counts dropped lines there too, those that are dropped already included.
pub fn count_dropped(counter: LostLogs) {
    if let Some(queue) = QUEUE.get() {
        let state = queue.state.lock();
        counter.add(state.dropped);
        let _ = queue.counter.set(counter);
    }
}

/// Waits until what has been said is written, but not for a reader who does not read.
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.finish(LAST_WORDS);
    }
}

/// Writes logs: each call of `write` is an event, kept whole or dropped.
pub struct Logs;

impl Write for Logs {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get() {
            queue.push(event, ROOM);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What waits to be written, and the thread that is woken for it.
struct Queue {
    state: Mutex<State>,
    grown: Condvar,
    written: Condvar,
    counter: OnceLock<LostLogs>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// How many events were dropped since the process began, and how many of these were said to be.
    dropped: u64,
    told: u64,
    /// How many bytes were taken in since the process began, and how many of these are done with.
    taken: u64,
    done: u64,
}

impl Queue {
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
        state.taken += event.len() as u64;
        self.grown.notify_one();
    }

    /// The thread that may be blocked by whoever does not read.
    fn write_all(&self, mut sink: impl Write, tell_dropped: fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let missing = {
                let mut state = self.state.lock();
                while state.waiting.is_empty() {
                    self.grown.wait(&mut state);
                }
                mem::swap(&mut batch, &mut state.waiting);
                let missing = state.dropped - state.told;
                state.told = state.dropped;
                missing
            };
            // When stderr is closed or its disk is full, there is nobody left to tell.
            let _ = sink.write_all(&batch);
            if missing > 0 {
                let _ = sink.write_all(tell_dropped(missing).as_bytes());
            }
            let _ = sink.flush();
            let mut state = self.state.lock();
            state.done += batch.len() as u64;
            self.written.notify_all();
            batch.clear();
            // A burst's memory is not kept.
            batch.shrink_to(1 << 16);
        }
    }

    fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        let taken = state.taken;
        while state.done < taken {
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

    /// Takes what is written when somebody reads it, as a full pipe does.
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

    fn unread() -> (Arc<Queue>, mpsc::Receiver<Vec<u8>>) {
        let (send, read) = mpsc::sync_channel(0);
        let queue = Queue::start(Pipe(send), |n| format!("{n} dropped\n")).unwrap();
        (queue, read)
    }

    #[test]
    fn what_nobody_reads_is_bounded_dropped_and_counted_where_it_is_missing() {
        let (queue, read) = unread();
        let metrics = imd::metrics::Metrics::default();
        queue.counter.set(metrics.lost_logs()).ok().unwrap();
        queue.push(b"first\n", ROOM);
        // The thread has it, and is blocked by it.
        while !queue.state.lock().waiting.is_empty() {
            thread::yield_now();
        }
        let long = vec![b'x'; ROOM];
        queue.push(&long, ROOM);
        queue.push(b"too much\n", ROOM);
        queue.push(b"too much\n", ROOM);
        queue.push(b"a warning\n", ROOM_FOR_WARNINGS);
        queue.finish(Duration::from_millis(1));
        assert_eq!(read.recv().unwrap(), b"first\n");
        let batch = read.recv().unwrap();
        assert!(batch.starts_with(&long) && batch.ends_with(b"xa warning\n"));
        assert_eq!(read.recv().unwrap(), b"2 dropped\n");
        queue.push(b"last\n", ROOM);
        assert_eq!(
            read.recv().unwrap(),
            b"last\n",
            "what was said is not said again"
        );
        let text = metrics.text(&Default::default()).unwrap();
        assert!(text.contains("imd_log_lines_dropped_total 2"), "{text}");
    }

    #[test]
    fn the_end_waits_for_a_reader_who_reads() {
        let (queue, read) = unread();
        let reader = thread::spawn(move || read.recv().unwrap());
        queue.push(b"last words\n", ROOM);
        queue.finish(Duration::from_secs(60));
        assert_eq!(queue.state.lock().done, 11);
        assert_eq!(reader.join().unwrap(), b"last words\n");
    }
}
