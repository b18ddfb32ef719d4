//! Bytes to frames, and messages to bytes.

use bytes::BytesMut;
use divan::{Bencher, black_box};
use imd::codec::{MAX_FRAME, Split, encode, split};

use crate::command::{answer, frame, p2p};

/// What one read may bring.
#[divan::bench(args = [1, 16])]
fn split_frames(bencher: Bencher, frames: usize) {
    let read = frame(&p2p()).repeat(frames);
    bencher.bench(|| {
        let mut rest = black_box(read.as_slice());
        let mut found = 0;
        while let Ok(Split::Frame { taken, .. }) = split(rest, MAX_FRAME) {
            rest = &rest[taken..];
            found += 1;
        }
        assert_eq!(found, frames);
    });
}

/// An answer into a buffer that has room for it.
#[divan::bench]
fn encode_answer(bencher: Bencher) {
    let answer = answer();
    let mut buffer = BytesMut::with_capacity(4096);
    bencher.bench_local(|| {
        buffer.clear();
        encode(black_box(&answer), &mut buffer)
    });
}
