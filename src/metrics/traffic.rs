//! The counters of the sessions: frames and bytes by command and direction, and how long replies took.
//!
//! Serves the connections of the sessions, which count each read and each write here, and [`Metrics`](super::Metrics).
//!
//! The time of a reply is what its client sees, in real time: from the read that brought the request to the write of
//! the reply, including what faults delayed, throttled or held back. A ping that was read together with a message
//! waits for the disk as well, since both are replied to in one write.
//!
//! All frames of one read are counted together. Each thread adds to a shard of its own, so that threads do not contend
//! for cache lines.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

use crate::proto::Cmd;

/// Number of slots: one for each command, and a last one for frames without a known command.
const SLOTS: usize = Cmd::ALL.len() + 1;

/// Number of buckets of the histogram. Bucket n counts times up to 2^n microseconds; the last one all beyond 2^24,
/// about 17 s.
pub const BUCKETS: usize = 26;

/// Number of shards. More threads than that share them.
const SHARDS: usize = 16;

/// Numbers the threads of the process. All `imd` of a process use the same numbers, for counters of their own.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Index of the shard that this thread adds to.
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// The counters of the sessions of one `imd`.
#[derive(Debug, Default)]
pub struct Traffic {
    shards: [Shard; SHARDS],
}

/// The counters of some threads, on cache lines that no other shard shares.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    commands: [Counters; SLOTS],
}

/// The counters of one command in one shard.
#[derive(Debug, Default)]
struct Counters {
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Counters {
    /// Counts replies that took this long each.
    fn add_times(&self, replies: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros
            .fetch_add(replies.saturating_mul(micros), Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.fetch_add(replies, Ordering::Relaxed);
        }
    }
}

/// The sums for one command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Number of frames that were received.
    pub frames_in: u64,
    /// Bytes of these frames, length prefixes included.
    pub bytes_in: u64,
    /// Number of frames that were sent, or were about to be when their connection failed.
    pub frames_out: u64,
    /// Bytes of these frames, length prefixes included.
    pub bytes_out: u64,
    /// Histogram of the times of replies: entry n counts those of more than 2^(n-1) and at most 2^n microseconds, the
    /// last one all beyond.
    pub answered: [u64; BUCKETS],
    /// Sum of the times of replies, in microseconds.
    pub micros: u64,
}

/// The number of frames and their bytes for each command, of one buffer of frames.
#[derive(Debug, Default)]
struct Sums([(u64, u64); SLOTS]);

impl Sums {
    fn of<'a>(frames: impl Iterator<Item = (&'a [u8], usize)>) -> Self {
        let mut sums = Sums::default();
        for (message, taken) in frames {
            if let Some((count, bytes)) = sums.0.get_mut(slot(message)) {
                *count += 1;
                *bytes += taken as u64;
            }
        }
        sums
    }
}

impl Traffic {
    /// Counts received frames, each given as its message and the bytes that the frame took.
    pub fn received<'a>(&self, frames: impl Iterator<Item = (&'a [u8], usize)>) {
        for (_, counters, frames, bytes) in self.counters(&Sums::of(frames)) {
            counters.frames_in.fetch_add(frames, Ordering::Relaxed);
            counters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counts frames that are about to be sent. With `read_at`, all of them but notifies also count as replies to
    /// requests that were read then.
    pub fn sent<'a>(
        &self,
        frames: impl Iterator<Item = (&'a [u8], usize)>,
        read_at: Option<Instant>,
    ) {
        let took = read_at.map(|read_at| read_at.elapsed());
        for (slot, counters, frames, bytes) in self.counters(&Sums::of(frames)) {
            counters.frames_out.fetch_add(frames, Ordering::Relaxed);
            counters.bytes_out.fetch_add(bytes, Ordering::Relaxed);
            if let Some(took) = took
                && slot != Cmd::Notify.index()
            {
                counters.add_times(frames, took);
            }
        }
    }

    /// Counts the time of one reply. The frame itself is counted by [`sent`](Self::sent).
    pub fn replied(&self, message: &[u8], took: Duration) {
        for (_, counters, frames, _) in self.counters(&Sums::of([(message, 0)].into_iter())) {
            counters.add_times(frames, took);
        }
    }

    /// Returns, for each command that occurs in `sums`: its slot, its counters in this thread's shard, and the numbers
    /// of frames and bytes to add.
    fn counters<'a>(
        &'a self,
        sums: &'a Sums,
    ) -> impl Iterator<Item = (usize, &'a Counters, u64, u64)> {
        let shard = self.shards.get(SHARD.with(|shard| *shard));
        let commands = shard.map_or(&[][..], |shard| &shard.commands);
        let counted = commands.iter().zip(&sums.0).enumerate();
        counted
            .filter(|(_, (_, (frames, _)))| *frames > 0)
            .map(|(slot, (counters, &(frames, bytes)))| (slot, counters, frames, bytes))
    }

    /// Returns the number of all frames, received and sent.
    pub fn frames(&self) -> u64 {
        let counted = self.read();
        let both = |(_, counted): &(Option<Cmd>, Counted)| counted.frames_in + counted.frames_out;
        counted.iter().map(both).sum()
    }

    /// Returns the sums so far for each command, and for frames without a known command.
    pub fn read(&self) -> Vec<(Option<Cmd>, Counted)> {
        let commands = Cmd::ALL.into_iter().map(Some).chain([None]);
        let counted = (0..SLOTS).map(|slot| {
            let mut sum = Counted::default();
            for counters in self
                .shards
                .iter()
                .filter_map(|shard| shard.commands.get(slot))
            {
                counters.add_to(&mut sum);
            }
            sum
        });
        commands.zip(counted).collect()
    }
}

impl Counters {
    fn add_to(&self, sum: &mut Counted) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        sum.frames_in += load(&self.frames_in);
        sum.bytes_in += load(&self.bytes_in);
        sum.frames_out += load(&self.frames_out);
        sum.bytes_out += load(&self.bytes_out);
        sum.micros = sum.micros.saturating_add(load(&self.micros));
        for (sum, bucket) in sum.answered.iter_mut().zip(&self.buckets) {
            *sum += load(bucket);
        }
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counted = self.read();
        let directions = |of_in: fn(&Counted) -> u64, of_out: fn(&Counted) -> u64| {
            counted.iter().flat_map(move |(cmd, counted)| {
                [("in", of_in(counted)), ("out", of_out(counted))].map(|(direction, count)| {
                    ([("direction", direction), ("cmd", name(*cmd))], count)
                })
            })
        };
        let frames = directions(|counted| counted.frames_in, |counted| counted.frames_out);
        let about = "Frames that came from clients and went to them.";
        counters(&mut encoder, "imd_frames", about, frames)?;
        let bytes = directions(|counted| counted.bytes_in, |counted| counted.bytes_out);
        let about = "Bytes of these frames, the lengths in front included.";
        counters(&mut encoder, "imd_frame_bytes", about, bytes)?;
        let notifies = counted.iter().filter(|(cmd, _)| *cmd == Some(Cmd::Notify));
        let sent: u64 = notifies.map(|(_, counted)| counted.frames_out).sum();
        let about = "Notifies that were written.";
        let counter = MetricType::Counter;
        let notifies = encoder.encode_descriptor("imd_notifies_sent", about, None, counter)?;
        ConstCounter::new(sent).encode(notifies)?;

        let mut times = encoder.encode_descriptor(
            "imd_request",
            "From the read that brought a request until its reply is written.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (cmd, counted) in &counted {
            let labels = [("cmd", name(*cmd))];
            let buckets: Vec<_> = bounds().zip(counted.answered).collect();
            #[allow(
                clippy::cast_precision_loss,
                reason = "a sum of times need not be exact"
            )]
            times.encode_family(&labels)?.encode_histogram::<NoLabels>(
                counted.micros as f64 / 1e6,
                counted.answered.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// The labels of a histogram bucket that has no exemplar.
type NoLabels = [(&'static str, &'static str); 0];

/// Returns the upper bound of each bucket, in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    let bounds = (0..).map(|power| 2f64.powi(power) / 1e6);
    bounds.take(BUCKETS - 1).chain([f64::INFINITY])
}

/// Encodes one family of counters.
fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    about: &str,
    counts: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, about, None, MetricType::Counter)?;
    for (labels, count) in counts {
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Returns the value of the label `cmd`.
fn name(cmd: Option<Cmd>) -> &'static str {
    cmd.map_or("none", Cmd::name)
}

/// Returns the slot of the command of a message.
fn slot(message: &[u8]) -> usize {
    Cmd::of(message).map_or(Cmd::ALL.len(), Cmd::index)
}

/// Returns the bucket of a time.
fn bucket(micros: u64) -> usize {
    let power = micros.max(1).next_power_of_two().trailing_zeros();
    usize::try_from(power).map_or(BUCKETS - 1, |power| power.min(BUCKETS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_powers_of_two() {
        let all = [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (1 << 24, 24),
        ];
        for (micros, expected) in all {
            assert_eq!(bucket(micros), expected, "{micros}");
        }
        assert_eq!(bucket((1 << 24) + 1), 25);
        assert_eq!(bucket(u64::MAX >> 1), 25);
    }
}
