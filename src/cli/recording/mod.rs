//! `imd record` and `imd replay`: what a session said, written down, and said again to another stack.
//!
//! | file | what it does |
//! |---|---|
//! | `args` | the flags |
//! | `format` | a record file, line by line |
//! | `record` | writes one from the admin API's events |
//! | `read` | reads one, and says which line is damaged |
//! | `replay` | plays one: what is done at each line |
//! | `renewal` | what a client would say otherwise this time: tokens, ids, versions |
//! | `connection` | one replayed connection |
//! | `exchanges` | which reply answers which request |
//! | `compare` | in which fields two replies differ |
//! | `report` | tells of it |

mod args;
mod compare;
mod connection;
mod exchanges;
mod format;
mod read;
mod record;
mod renewal;
mod replay;
mod report;

pub use args::{RecordArgs, ReplayArgs};
pub use record::run as record;
pub use replay::run as replay;
