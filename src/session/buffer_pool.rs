//! Read and write buffers that are not in use, a few for each thread.
//!
//! Serves the connections: an idle session holds no buffer, and takes one from here when there is something to read or to
//! write.

use std::cell::RefCell;

use bytes::BytesMut;

/// How many buffers are kept for each thread, at most.
const MAX_BUFFERS: usize = 4;

/// The limit of the capacity of a buffer that is kept, in bytes. A larger one is freed.
const MAX_CAPACITY: usize = 256 * 1024;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer, which has room if it was used before.
pub(super) fn take() -> BytesMut {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back on any thread, and discards its contents.
pub(super) fn give(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.capacity() == 0 || buffer.capacity() > MAX_CAPACITY {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        if pool.len() < MAX_BUFFERS {
            pool.push(buffer);
        }
    });
}
