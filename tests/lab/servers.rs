//! Access servers by name, for the tests that kill, stop, pause and restart them, with what the registry and the
//! gateway say of them.

use std::sync::Arc;

use imd::Imd;
use imd::access::AccessServer;

use crate::support::{Wire, addr_of, gateway};

pub fn server(imd: &Imd, name: &str) -> Arc<AccessServer> {
    imd.access(name).unwrap_or_else(|| panic!("no {name}"))
}

/// Logs a user in on this access server. A notify follows if the inbox holds something unread.
pub async fn user_at(imd: &Imd, name: &str, uid: i64) -> Wire {
    let mut wire = Wire::connect(addr_of(&server(imd, name))).await;
    wire.login(imd, uid).await;
    wire
}

/// Returns the names in the registry.
pub async fn registered(imd: &Imd) -> Vec<String> {
    let list = imd.registry().list().await;
    list.into_iter().map(|record| record.name).collect()
}

/// Returns the addresses that a gateway hands out in turn, sorted.
pub async fn handed_out(imd: &Imd) -> Vec<String> {
    let mut wire = Wire::connect(gateway(imd)).await;
    let mut addrs = Vec::new();
    for _ in 0..8 {
        let addr = wire.ask().await.addr;
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    addrs.sort();
    addrs
}

/// Returns the addresses of these servers, sorted.
pub fn addrs(imd: &Imd, names: &[&str]) -> Vec<String> {
    let mut addrs: Vec<_> = names
        .iter()
        .map(|name| server(imd, name).addr().to_string())
        .collect();
    addrs.sort();
    addrs
}
