//! What the daemon says when it is ready.

use std::time::Duration;

use imd::Imd;

/// So many access servers are listed one by one.
const LISTED: usize = 8;

/// What listens where, and how fast it was ready.
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
         {places}{shortage}Ready in {ready} ms. For development: {salt}no TLS.",
        version = env!("CARGO_PKG_VERSION"),
        store = imd.store_name(),
        gateway = imd.gateway_addr(),
        access = access(imd),
        group_api = imd.group_api_addr(),
        admin = match imd.admin_addr() {
            Some(addr) => format!("   Admin http://{addr}"),
            None => String::new(),
        },
        places = places(imd),
        ready = ready_in.as_millis(),
        shortage = match imd.shortage() {
            Some(shortage) => format!("Warning    {shortage}\n"),
            None => String::new(),
        },
    )
}

/// A line, where there are few places for connections.
fn places(imd: &Imd) -> String {
    let room = imd.room();
    if room.is_small() {
        format!("Places     {room}\n")
    } else {
        String::new()
    }
}

fn access(imd: &Imd) -> String {
    let servers = imd.access_servers();
    let mut list: Vec<String> = servers
        .iter()
        .take(LISTED)
        .map(|server| format!("{} {}", server.name(), server.addr()))
        .collect();
    if servers.len() > LISTED {
        let more = servers.len() - LISTED;
        list.push(format!("and {more} more (--addr-file FILE lists them)"));
    }
    list.join("   ")
}
