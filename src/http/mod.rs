//! HTTP/1.1: the stack's user API and group API, and the server and request checks that the admin API shares with them.
//!
//! Serves `daemon`, which starts the servers, and `admin`. Each API has a listener of its own (the contract's *HTTP API of
//! the stack*). Every request body is bounded in length, and every transfer in time, so that a slow or silent client can't
//! hold a connection for ever.
//!
//! | module | contents |
//! |---|---|
//! | `api` | the handlers of the user API and the group API |
//! | `body` | bounded reading of request bodies |
//! | `cors` | which pages of other sites may use the two APIs |
//! | `exchange` | the state that the service and the socket of a connection share |
//! | `form` | form fields, parsed as the original stack parses them |
//! | `guard` | refuses requests from pages of other web sites |
//! | `pace` | the minimum transfer rate of a client |
//! | `server` | serves a router on a listener |

mod api;
mod body;
mod cors;
mod exchange;
mod form;
mod guard;
mod pace;
mod server;

pub use api::{group_router, user_router};
pub use body::{BodyError, pass_body, whole_body};
pub use cors::Cors;
pub use guard::{Guard, Header};
pub use server::{Reserved, Server};
