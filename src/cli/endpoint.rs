//! Checks addresses from the command line and from address files: host:port of a server of the wire protocol, and
//! URLs of HTTP APIs.
//!
//! Serves the commands that are clients. Its errors are texts without the address, which the caller puts before them.

use imd::config::Host;

/// Checks that a text is a host with its port, as in `127.0.0.1:10000`, `[::1]:10000` or `im.example:10000`.
///
/// # Errors
///
/// A text that says what is wrong with the address, and what to write instead.
pub fn host_and_port(text: &str) -> Result<(), String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        return Err(format!(
            "this is a URL, and here the wire protocol is spoken, not {scheme}: write host:port, such as {}",
            example(rest)
        ));
    }
    let such_as = || format!("write host:port, such as {}", example(text));
    parts(text, such_as).map(drop)
}

/// The schemes of the URLs that a client can connect to besides host:port.
const SCHEMES: [&str; 3] = ["tls", "ws", "wss"];

/// Checks that a text is where a client finds a gateway: a host with its port, or the URL of its WebSocket.
///
/// # Errors
///
/// A text that says what is wrong with the address, and what to write instead.
pub fn gateway(text: &str) -> Result<(), String> {
    match text.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) => {
            let such_as = || format!("write a URL such as {scheme}://127.0.0.1:10100");
            parts(rest.strip_suffix('/').unwrap_or(rest), such_as).map(drop)
        }
        _ => host_and_port(text),
    }
}

/// Returns the host:port of the URL of an HTTP API, with `tls://` before it if the URL begins with `https://`. The scheme may
/// be left out.
///
/// # Errors
///
/// A text that says what is wrong with the URL, and what to write instead.
pub fn authority(url: &str) -> Result<String, String> {
    let (tls, port, rest) = match url.split_once("://") {
        None => ("", None, url),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("", Some(80), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("tls://", Some(443), rest),
        Some((scheme, _)) => {
            return Err(format!(
                "{scheme} is no scheme of an HTTP API: write http://host:port"
            ));
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err("write host and port alone, such as http://127.0.0.1:10090".into());
    }
    // A URL without a port means that of its scheme.
    let has_port = Host::parse(rest).map_or(true, |host| host.port().is_some());
    if let Some(port) = port
        && !has_port
        && !rest.is_empty()
    {
        let with_port = format!("{rest}:{port}");
        return parts(&with_port, as_url).map(|_| format!("{tls}{with_port}"));
    }
    let (host, port) = parts(rest, as_url)?;
    Ok(format!("{tls}{host}:{port}"))
}

/// Returns the advice for an invalid URL.
fn as_url() -> String {
    "write http://host:port, as imd prints it when it starts".into()
}

/// Splits an address into its host, which keeps its brackets, and its port. `such_as` returns the advice for an error.
fn parts(text: &str, such_as: impl Fn() -> String) -> Result<(&str, u16), String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(such_as());
    }
    let (host, port) = match text.rsplit_once(':') {
        // A text that ends with a bracket is an IPv6 address without a port, so its last colon separates no port.
        Some(_) if text.ends_with(']') => return Err(format!("it has no port: {}", such_as())),
        Some((host, port)) => (host, port),
        None => return Err(format!("it has no port: {}", such_as())),
    };
    let in_brackets = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !in_brackets {
        return Err(format!(
            "write an IPv6 address in brackets, such as [::1]:{}",
            port.parse().unwrap_or(EXAMPLE_PORT)
        ));
    }
    if host.is_empty() {
        return Err(format!("it has no host: {}", such_as()));
    }
    match port.parse() {
        Ok(port @ 1..) => Ok((host, port)),
        _ => Err(format!(
            "{port:?} is no port from 1 to 65535: {}",
            such_as()
        )),
    }
}

/// The port in examples of advice: the default port of the gateway.
const EXAMPLE_PORT: u16 = 10_000;

/// Returns an example of host:port for advice. It has the host of `text`, if that can be parsed.
fn example(text: &str) -> String {
    match Host::parse(text) {
        Ok(host) => host.at(EXAMPLE_PORT),
        Err(_) => format!("127.0.0.1:{EXAMPLE_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_wire_protocol_are_given_as_host_and_port() {
        for good in [
            "127.0.0.1:1",
            "[::1]:10000",
            "im.example:65535",
            "localhost:1",
        ] {
            assert_eq!(host_and_port(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("http://127.0.0.1:7", "write host:port, such as 127.0.0.1:7"),
            ("tcp://h:7/", "such as h:7"),
            (
                "127.0.0.1",
                "no port: write host:port, such as 127.0.0.1:10000",
            ),
            ("[::1]", "such as [::1]:10000"),
            ("::1", "in brackets"),
            ("fe80::1:7", "in brackets, such as [::1]:7"),
            (":10000", "no host"),
            ("h:", "is no port"),
            ("h:70000", "is no port from 1 to 65535"),
            ("h:http", "is no port"),
            ("h :1", "write host:port"),
            ("", "write host:port"),
        ] {
            let error = host_and_port(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn a_gateway_is_also_given_as_the_url_of_its_websocket() {
        for good in [
            "127.0.0.1:1",
            "ws://127.0.0.1:1",
            "ws://[::1]:10100/",
            "tls://h:1",
        ] {
            assert_eq!(gateway(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("ws://127.0.0.1", "no port"),
            ("ws://h:1/path", "is no port"),
            ("http://h:1", "write host:port"),
        ] {
            let error = gateway(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn an_api_is_given_as_a_url_or_as_host_and_port() {
        for (good, dialled) in [
            ("http://127.0.0.1:6001", "127.0.0.1:6001"),
            ("HTTP://127.0.0.1:6001/", "127.0.0.1:6001"),
            ("127.0.0.1:10090", "127.0.0.1:10090"),
            ("http://[::1]:6001/", "[::1]:6001"),
            ("[::1]:6001", "[::1]:6001"),
            ("http://im.example", "im.example:80"),
            ("http://[::1]", "[::1]:80"),
            ("https://im.example:1/", "tls://im.example:1"),
            ("HTTPS://im.example", "tls://im.example:443"),
        ] {
            assert_eq!(authority(good).as_deref(), Ok(dialled), "{good}");
        }
        for (bad, says) in [
            ("ftp://im.example", "no scheme of an HTTP API"),
            ("http://im.example/x", "host and port alone"),
            ("http://u@im.example", "host and port alone"),
            ("im.example", "no port"),
            ("http://::1:80", "in brackets"),
            ("http://h:x", "is no port"),
            ("http://", "write http://host:port"),
            ("", "write http://host:port"),
        ] {
            let error = authority(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
