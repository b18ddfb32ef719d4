//! Runs `imd record`, which writes the frames of sessions to a file, and `imd replay`, which sends the recorded
//! requests to another stack and compares the replies.
//!
//! | file | what it does |
//! |---|---|
//! | `args` | the arguments |
//! | `format` | defines the lines of a record |
//! | `record` | writes a record from the admin API's events |
//! | `read` | reads a record, and says which line is damaged |
//! | `replay` | replays a record line by line |
//! | `substitutions` | replaces ids and versions in requests by those of this replay |
//! | `connection` | sends and receives on one connection |
//! | `exchanges` | matches replies with requests |
//! | `compare` | finds the fields in which two replies differ |
//! | `report` | prints the differences and the totals |

mod args;
mod compare;
mod connection;
mod exchanges;
mod format;
mod read;
mod record;
mod replay;
mod report;
mod substitutions;

pub use args::{RecordArgs, ReplayArgs};
pub use record::run as record;
pub use replay::run as replay;
