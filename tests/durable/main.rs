//! The store in a folder: what survives, and what is said when the folder is not in order.

mod damage;
mod fixture;
mod folder;
#[cfg(unix)]
mod foreign;
mod formats;
#[cfg(unix)]
mod gone;
#[cfg(unix)]
mod planted;
mod reopen;
#[path = "../support/chance.rs"]
mod seed;
