//! Builds the text that the daemon prints once it serves.
//!
//! Serves `main`. Scripts read its lines, so its form is part of the contract of the command line.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use imd::Imd;

use super::lan::{self, reached_by};
use super::qr_code;

/// Number of access servers that are listed by name, and of addresses on the network. Further access servers are counted.
const MAX_LISTED: usize = 8;

/// Returns the lines that say what listens where, what to watch out for, and how long the start took.
///
/// If other machines reach the stack, their way to it is shown too, with a QR code if it fits into the `columns` of the
/// terminal. They are none if no terminal shows the text.
pub fn banner(imd: &Imd, public_salt: bool, columns: Option<usize>, ready_in: Duration) -> String {
    let remarks = match (public_salt, imd.speaks_tls()) {
        (true, true) => ": public token salt",
        (true, false) => ": public token salt, no TLS",
        (false, true) => "",
        (false, false) => ": no TLS",
    };
    let (http, frames) = match imd.requires_tls() {
        true => ("https", "tls://"),
        false => ("http", ""),
    };
    let user_api = format!("{http}://{}", imd.user_api_addr());
    format!(
        "imd {version}   store {store}\n\
         Gateway    {gateway}\n\
         Access     {access}\n\
         User API   {user_api:<24}   Group API {http}://{group_api}{admin}\n\
         {websockets}{network}{trust}{places}{shortage}Ready in {ready} ms. For development{remarks}.",
        version = env!("CARGO_PKG_VERSION"),
        store = imd.store_name(),
        gateway = format_args!("{frames}{}", imd.gateway_addr()),
        access = access(imd),
        group_api = imd.group_api_addr(),
        admin = match imd.admin_addr() {
            Some(addr) => format!("   Admin {http}://{addr}"),
            None => String::new(),
        },
        websockets = websockets(imd),
        network = ShownListeners::of(imd).on_network(&lan::addresses(), columns),
        trust = trust(imd),
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
        Some(addr) => {
            let scheme = if imd.requires_tls() { "wss" } else { "ws" };
            format!("WebSocket  {scheme}://{addr}\n")
        }
        None => String::new(),
    }
}

/// Returns lines that say how a client comes to trust the local CA. Empty if it issues no certificate of this stack.
fn trust(imd: &Imd) -> String {
    let Some(ca) = imd.ca_certificate() else {
        return String::new();
    };
    let ca = ca.display();
    let how = match std::env::consts::OS {
        "macos" => {
            format!("security add-trusted-cert -k ~/Library/Keychains/login.keychain-db {ca}")
        }
        "windows" => format!("certutil -user -addstore Root {ca}"),
        _ => format!(
            "sudo trust anchor {ca} (or copy it to /usr/local/share/ca-certificates/imd.crt, update-ca-certificates)"
        ),
    };
    format!("Trust      {how}\n           phones and simulators: docs/tls.md\n")
}

/// The addresses of the listeners that people on other machines look for.
struct ShownListeners {
    gateway: SocketAddr,
    websocket: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    requires_tls: bool,
}

impl ShownListeners {
    fn of(imd: &Imd) -> ShownListeners {
        ShownListeners {
            gateway: imd.gateway_addr(),
            websocket: imd.gateway_ws_addr(),
            admin: imd.admin_addr(),
            requires_tls: imd.requires_tls(),
        }
    }

    /// Returns lines with the addresses by which other machines on the network reach the gateway and the console, and a QR
    /// code of the first one of the console, or else of the gateway. Returns an empty text if other machines reach neither.
    ///
    /// `lan` are the addresses of this machine. Those of a listener on one address are left out, because the line of that
    /// listener shows them.
    fn on_network(&self, lan: &[IpAddr], columns: Option<usize>) -> String {
        let [frames, ws, http] = match self.requires_tls {
            true => ["tls://", "wss://", "https://"],
            false => ["", "ws://", "http://"],
        };
        let on_all = |listener: Option<SocketAddr>, scheme| match listener {
            Some(addr) if addr.ip().is_unspecified() => urls(scheme, addr, lan),
            _ => Vec::new(),
        };
        let text = [
            labelled("On the LAN", &on_all(Some(self.gateway), frames)),
            labelled("", &on_all(self.websocket, ws)),
            labelled("Console", &on_all(self.admin, http)),
        ];
        let console = self.admin.map(|admin| urls(http, admin, lan));
        let target = console.unwrap_or_default().into_iter();
        let target = target.chain(urls(frames, self.gateway, lan)).next();
        let code = target
            .zip(columns)
            .and_then(|(target, columns)| qr_code::draw(&target, columns));
        match code {
            Some(code) => text.concat() + &code + "\n",
            None => text.concat(),
        }
    }
}

/// Returns the addresses by which other machines reach a listener, each behind a scheme, which may be empty.
fn urls(scheme: &str, listener: SocketAddr, lan: &[IpAddr]) -> Vec<String> {
    let addresses = reached_by(listener, lan).into_iter();
    addresses.map(|addr| format!("{scheme}{addr}")).collect()
}

/// Returns a line with the first of these addresses, or an empty text if there are none.
fn labelled(label: &str, addresses: &[String]) -> String {
    match addresses.get(..addresses.len().min(MAX_LISTED)) {
        None | Some([]) => String::new(),
        Some(listed) => format!("{label:<10} {}\n", listed.join("   ")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(gateway: &str, admin: Option<&str>, columns: Option<usize>) -> Vec<String> {
        let lan = ["192.168.1.9".parse().unwrap(), "fd00::2".parse().unwrap()];
        let gateway = gateway.parse().unwrap();
        let listeners = ShownListeners {
            gateway,
            websocket: Some(SocketAddr::new(gateway.ip(), 10100)),
            admin: admin.map(|admin| admin.parse().unwrap()),
            requires_tls: false,
        };
        let text = listeners.on_network(&lan, columns);
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn addresses_on_the_network_are_shown_for_listeners_on_all_addresses() {
        let loopback = Some("127.0.0.1:10090");
        let none = [""; 0];
        assert_eq!(lines("127.0.0.1:10000", loopback, Some(80)), none);
        assert_eq!(lines("192.168.1.9:10000", loopback, None), none);
        assert_eq!(
            lines("0.0.0.0:10000", loopback, None),
            [
                "On the LAN 192.168.1.9:10000",
                "           ws://192.168.1.9:10100",
            ]
        );
        assert_eq!(
            lines("[::]:10000", Some("0.0.0.0:10090"), None),
            [
                "On the LAN 192.168.1.9:10000   [fd00::2]:10000",
                "           ws://192.168.1.9:10100   ws://[fd00::2]:10100",
                "Console    http://192.168.1.9:10090",
            ]
        );
    }

    #[test]
    fn the_code_leads_to_the_console_and_else_to_the_gateway() {
        let code = |text: &str| {
            let code = qr_code::draw(text, 80).unwrap();
            code.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let shown = lines("0.0.0.0:10000", None, Some(80));
        assert_eq!(shown[2..], code("192.168.1.9:10000"));
        let shown = lines("0.0.0.0:10000", Some("0.0.0.0:10090"), Some(80));
        assert_eq!(shown[3..], code("http://192.168.1.9:10090"));
        let shown = lines("192.168.7.7:10000", Some("127.0.0.1:10090"), Some(80));
        assert_eq!(shown, code("192.168.7.7:10000"));
        let shown = lines("0.0.0.0:10000", None, Some(20));
        assert_eq!(shown.len(), 2, "the terminal is too narrow");
    }
}
