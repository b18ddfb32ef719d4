//! Builds the text that the daemon prints once it serves.
//!
//! Serves `main`. Scripts read its lines, so its form is part of the contract of the command line.

use std::time::Duration;

use imd::Imd;

/// Number of access servers that are listed by name. The rest are only counted.
const MAX_LISTED: usize = 8;

/// Returns the lines that say what listens where, what to watch out for, and how long the start took.
pub fn banner(imd: &Imd, public_salt: bool, ready_in: Duration) -> String {
    let salt = if public_salt {
        "public token salt, "
    } else {
        ""
    };
    let user_api = format!("http://{}", imd.user_api_addr());
    format!(
        "imd {version}   store {store}\n\
         Gateway    {gateway}\n\
         Access     {access}\n\
         User API   {user_api:<24}   Group API http://{group_api}{admin}\n\
         {websockets}{places}{shortage}Ready in {ready} ms. For development: {salt}no TLS.",
        version = env!("CARGO_PKG_VERSION"),
        store = imd.store_name(),
        gateway = imd.gateway_addr(),
        access = access(imd),
        group_api = imd.group_api_addr(),
        admin = match imd.admin_addr() {
            Some(addr) => format!("   Admin http://{addr}"),
            None => String::new(),
        },
        websockets = websockets(imd),
        places = places(imd),
        ready = ready_in.as_millis(),
        shortage = match imd.shortage() {
            Some(shortage) => format!("Warning    {shortage}\n"),
            None => String::new(),
        },
    )
}

/// Returns a line with the URL of the gateway for WebSocket clients, who learn those of the access servers there. Empty if the
/// gateway takes none.
fn websockets(imd: &Imd) -> String {
    match imd.gateway_ws_addr() {
        Some(addr) => format!("WebSocket  ws://{addr}\n"),
        None => String::new(),
    }
}

/// Returns a line about the number of connections that can be served, if it is small, and an empty text otherwise.
fn places(imd: &Imd) -> String {
    let room = imd.room();
    if room.is_small() {
        format!("Places     {room}\n")
    } else {
        String::new()
    }
}

/// Returns the names and addresses of the first access servers, and the number of the others.
fn access(imd: &Imd) -> String {
    let servers = imd.access_servers();
    let mut list: Vec<String> = servers
        .iter()
        .take(MAX_LISTED)
        .map(|server| format!("{} {}", server.name(), server.addr()))
        .collect();
    if servers.len() > MAX_LISTED {
        let more = servers.len() - MAX_LISTED;
        list.push(format!("and {more} more (--addr-file FILE lists them)"));
    }
    list.join("   ")
}
