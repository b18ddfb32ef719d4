//! Read and write buffers that are not in use, a few for each thread.
//!
//! Serves the connections: an idle session holds no buffer, and takes one from here when it has something to read or to
//! write. The pool of a thread never keeps more than [`MAX_BUFFERS`] buffers of [`MAX_CAPACITY`] bytes.

use std::cell::RefCell;

use bytes::BytesMut;

/// The largest number of buffers that are kept for each thread.
const MAX_BUFFERS: usize = 4;

/// The largest capacity of a buffer that is kept, in bytes. A larger one is freed.
const MAX_CAPACITY: usize = 256 * 1024;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer. If it was used before, it has its capacity still.
pub(super) fn take() -> BytesMut {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer to the pool of the current thread, and discards its contents.
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
