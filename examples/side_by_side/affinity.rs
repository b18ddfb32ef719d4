//! The cores of the server and those of the load.
//!
//! Serves [`rows`](crate::rows), [`serve`](crate::serve) and the load. A server and its load have a core each: neither takes time
//! from the other, and one core is what is measured, whichever server it is. A broker inherits the core of the process that it
//! replaces. Only the rows `cores` give a server two: with four cores, the load has the two others; with fewer, the load shares
//! one of the server's. With one core in all, nothing is pinned.

/// The core of a server that has one.
pub const SERVER: &[usize] = &[0];
/// The core of the load.
pub const LOAD: &[usize] = &[1];
/// The cores of a server that has two, and the core of the second half of its load.
pub const SERVER_OF_FOUR: &[usize] = &[0, 2];
pub const SECOND_LOAD: &[usize] = &[3];
/// The cores of a server that has two, where the machine has no others.
pub const BOTH: &[usize] = &[0, 1];
