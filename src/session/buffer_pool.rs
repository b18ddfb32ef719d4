//! Buffers of a thread that nobody uses at the moment: a session holds none while it waits.

use std::cell::RefCell;

use bytes::BytesMut;

/// So many are kept for each thread.
const MOST: usize = 4;

/// One that has grown beyond this, in bytes, is not kept.
const LARGEST: usize = 256 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn take() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back, on whatever thread; what is in it is forgotten.
pub(super) fn give(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.capacity() == 0 || buffer.capacity() > LARGEST {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MOST {
            spare.push(buffer);
        }
    });
}
