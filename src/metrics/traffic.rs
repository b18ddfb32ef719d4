//! What passed through the sessions: frames and bytes by command and direction, and how long answers took.
//!
//! How long an answer took is what its client sees: from the read that brought the request until the answer is written,
//! with all that a fault has delayed, throttled or held back on the way. It is real time always. A ping that was read
//! together with a send waits for the disk too.
//!
//! A turn's frames are counted at once, in a part of its thread's own: counting costs no thread the time of another.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

use crate::codec;
use crate::proto::Cmd;

/// One place for each command, and one for what is none.
const PLACES: usize = Cmd::ALL.len() + 1;

/// Times are counted by their power of two in microseconds: up to 1, up to 2, ... and beyond 2^24, about 17 s.
pub const BUCKETS: usize = 26;

/// So many parts; more threads than that share them.
const PARTS: usize = 16;

/// Numbers the threads of this process, which may hold several `imd`: it says nothing of any of them.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PART: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
}

/// The counters of the sessions of one `imd`.
#[derive(Debug, Default)]
pub struct Traffic {
    parts: [Part; PARTS],
}

/// Alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part {
    commands: [Counters; PLACES],
}

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
    /// So many answers took this long.
    fn took(&self, answers: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros
            .fetch_add(answers.saturating_mul(micros), Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.fetch_add(answers, Ordering::Relaxed);
        }
    }
}

/// What was counted for one command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Frames that came from clients.
    pub frames_in: u64,
    /// Their bytes, the lengths in front included.
    pub bytes_in: u64,
    /// Frames that went to clients, or were about to.
    pub frames_out: u64,
    /// Their bytes, the lengths in front included.
    pub bytes_out: u64,
    /// How many answers of this command took at most 2^n microseconds and more than 2^(n-1); in the last, all beyond.
    pub answered: [u64; BUCKETS],
    /// How long these answers took, summed, in microseconds.
    pub micros: u64,
}

/// The frames in a run of them, and their bytes, by command.
#[derive(Debug, Default)]
struct Sums([(u64, u64); PLACES]);

impl Sums {
    fn of(frames: &[u8]) -> Self {
        let mut sums = Sums::default();
        for (message, taken) in codec::frames(frames) {
            if let Some((count, bytes)) = sums.0.get_mut(place(message)) {
                *count += 1;
                *bytes += taken as u64;
            }
        }
        sums
    }
}

impl Traffic {
    /// These frames came.
    pub fn came(&self, frames: &[u8]) {
        for (_, counters, frames, bytes) in self.counters(&Sums::of(frames)) {
            counters.frames_in.fetch_add(frames, Ordering::Relaxed);
            counters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// These frames go out. The answers among them, all but notifies, are to requests that were read then.
    pub fn went(&self, frames: &[u8], read_at: Option<Instant>) {
        let took = read_at.map(|read_at| read_at.elapsed());
        for (place, counters, frames, bytes) in self.counters(&Sums::of(frames)) {
            counters.frames_out.fetch_add(frames, Ordering::Relaxed);
            counters.bytes_out.fetch_add(bytes, Ordering::Relaxed);
            if let Some(took) = took
                && place != Cmd::Notify.index()
            {
                counters.took(frames, took);
            }
        }
    }

    /// This frame is an answer that goes out so long after its request was read. The frame itself is counted by
    /// [`went`](Self::went).
    pub fn answered(&self, frame: &[u8], took: Duration) {
        for (_, counters, frames, _) in self.counters(&Sums::of(frame)) {
            counters.took(frames, took);
        }
    }

    /// Where to add what is not 0: the place of each command, its counters, and what to add.
    fn counters<'a>(
        &'a self,
        sums: &'a Sums,
    ) -> impl Iterator<Item = (usize, &'a Counters, u64, u64)> {
        let part = self.parts.get(PART.with(|part| *part));
        let commands = part.map_or(&[][..], |part| &part.commands);
        let counted = commands.iter().zip(&sums.0).enumerate();
        counted
            .filter(|(_, (_, (frames, _)))| *frames > 0)
            .map(|(place, (counters, &(frames, bytes)))| (place, counters, frames, bytes))
    }

    /// How many frames came and went.
    pub fn frames(&self) -> u64 {
        let counted = self.read();
        let both = |(_, counted): &(Option<Cmd>, Counted)| counted.frames_in + counted.frames_out;
        counted.iter().map(both).sum()
    }

    /// What was counted so far: for each command, and for frames of none.
    pub fn read(&self) -> Vec<(Option<Cmd>, Counted)> {
        let commands = Cmd::ALL.into_iter().map(Some).chain([None]);
        let counted = (0..PLACES).map(|place| {
            let mut sum = Counted::default();
            for counters in self
                .parts
                .iter()
                .filter_map(|part| part.commands.get(place))
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
            "From the read that brought a request until its answer is written.",
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

/// What has none.
type NoLabels = [(&'static str, &'static str); 0];

/// Up to which time each bucket goes, in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    let bounds = (0..).map(|power| 2f64.powi(power) / 1e6);
    bounds.take(BUCKETS - 1).chain([f64::INFINITY])
}

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

/// What a command is called in a label.
fn name(cmd: Option<Cmd>) -> &'static str {
    cmd.map_or("none", Cmd::name)
}

fn place(message: &[u8]) -> usize {
    Cmd::of(message).map_or(Cmd::ALL.len(), Cmd::index)
}

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
