//! Recognizes the variables with which Kubernetes tells a container about a service whose name begins with `imd`.
//!
//! Serves the variables of the environment, which refuse names that are not known. Kubernetes sets these names in every
//! container of a namespace, as Docker's links did: `IMD_SERVICE_HOST`, `IMD_PORT`, `IMD_PORT_10000_TCP_ADDR`. They are no
//! mistake of the user, so they are passed over.

use std::ffi::OsStr;

/// Returns whether a variable tells about a service.
pub fn is_one(name: &str, value: &OsStr) -> bool {
    let is_url = || {
        let value = value.to_string_lossy();
        let schemes = ["tcp://", "udp://", "sctp://"];
        schemes.iter().any(|scheme| value.starts_with(scheme))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && is_url()
        || name.split("_PORT_").skip(1).any(begins_with_port)
}

/// Returns whether a text begins with a port and a protocol, such as `10000_TCP_ADDR`.
fn begins_with_port(text: &str) -> bool {
    let mut parts = text.split('_');
    let is_port = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
    is_port
        && parts
            .next()
            .is_some_and(|name| ["TCP", "UDP", "SCTP"].contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_service_are_told_from_mistakes() {
        let is_link = |name: &str, value: &str| is_one(name, OsStr::new(value));
        for (name, value) in [
            ("IMD_SERVICE_HOST", "10.0.0.1"),
            ("IMD_SERVICE_PORT", "10000"),
            ("IMD_SERVICE_PORT_GATEWAY", "10000"),
            ("IMD_PORT", "tcp://10.0.0.1:10000"),
            ("IMD_PORT_10000_TCP", "tcp://10.0.0.1:10000"),
            ("IMD_PORT_10000_TCP_PROTO", "tcp"),
            ("IMD_PORT_10000_TCP_PORT", "10000"),
            ("IMD_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("IMD_GATEWAY_PORT", "tcp://10.0.0.1:10000"),
            ("IMD_GATEWAY_PORT_10000_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_link(name, value), "{name}");
        }
        for (name, value) in [
            ("IMD_PORT", "10000"),
            ("IMD_GATEWAY_PORT", "10000"),
            ("IMD_GATEWAY__LISTEN", "tcp://10.0.0.1:10000"),
            ("IMD_PORT_TCP", "x"),
            ("IMD_SESSION_IDLE", "10s"),
        ] {
            assert!(!is_link(name, value), "{name}");
        }
    }
}
