//! Nothing acknowledged is ever lost: what a store kept over a crash is compared with what it had said.

mod sim;
mod torture;
