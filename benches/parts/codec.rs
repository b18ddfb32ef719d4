//! Benchmarks of `imd::codec`: bytes to frames, and messages to bytes.
//!
//! These are the first and the last step of every request, so a change here shows in every figure of `path`.

use bytes::BytesMut;
use divan::{Bencher, black_box};
use imd::codec::{self, encode};

use crate::command::{answer, frame, p2p};

/// Splits the bytes of one read into frames.
#[divan::bench(args = [1, 16])]
fn split_frames(bencher: Bencher, frames: usize) {
    let read = frame(&p2p()).repeat(frames);
    bencher.bench(|| assert_eq!(codec::frames(black_box(&read)).count(), frames));
}

/// Encodes an answer into a buffer that has room for it.
#[divan::bench]
fn encode_answer(bencher: Bencher) {
    let answer = answer();
    let mut buffer = BytesMut::with_capacity(4096);
    bencher.bench_local(|| {
        buffer.clear();
        encode(black_box(&answer), &mut buffer)
    });
}
