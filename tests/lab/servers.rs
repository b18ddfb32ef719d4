//! Access servers by name, and how they look from outside.

use std::sync::Arc;

use imd::Imd;
use imd::access::AccessServer;

use crate::support::Wire;

pub fn server(imd: &Imd, name: &str) -> Arc<AccessServer> {
    imd.access(name).unwrap_or_else(|| panic!("no {name}"))
}

/// A connection to this access server that is logged in; its inbox was empty.
pub async fn user_at(imd: &Imd, name: &str, uid: i64) -> Wire {
    let mut wire = Wire::connect(server(imd, name).addr()).await;
    wire.login(imd, uid).await;
    wire
}

/// The names in the registry.
pub async fn registered(imd: &Imd) -> Vec<String> {
    let list = imd.registry().list().await;
    list.into_iter().map(|record| record.name).collect()
}

/// The addresses that a gateway that takes each in turn hands out, in the order of their names.
pub async fn handed_out(imd: &Imd) -> Vec<String> {
    let mut wire = Wire::connect(imd.gateway_addr()).await;
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

/// Their addresses, in the same order.
pub fn addrs(imd: &Imd, names: &[&str]) -> Vec<String> {
    let mut addrs: Vec<_> = names
        .iter()
        .map(|name| server(imd, name).addr().to_string())
        .collect();
    addrs.sort();
    addrs
}
