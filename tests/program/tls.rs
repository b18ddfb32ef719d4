//! A daemon that speaks TLS: what it prints, how its own commands reach it, and `imd ca`.

use std::fs;

use tempfile::TempDir;

use crate::process::{Daemon, imd, write_config};

#[test]
fn commands_reach_a_daemon_that_speaks_tls() {
    let folder = TempDir::new().unwrap();
    let text = format!(
        "[tls]\nlocal_ca = true\nca_dir = {:?}\n",
        folder.path().join("ca")
    );
    let config = write_config(folder.path(), &text);
    let daemon = Daemon::start(&["--config", &config]);
    let addresses = daemon.addresses();
    assert!(
        addresses.gateway.starts_with("tls://127.0.0.1:"),
        "{addresses:?}"
    );
    assert!(
        addresses.user_api.starts_with("https://127.0.0.1:"),
        "{addresses:?}"
    );
    assert_eq!(
        daemon.banner[1],
        format!("Gateway    {}", addresses.gateway)
    );
    assert!(
        daemon.banner[4].starts_with("Trust      "),
        "{:?}",
        daemon.banner
    );

    let path = imd(&["ca", "path", "--config", &config]).ok().join("");
    let pem = fs::read_to_string(&path).unwrap();
    assert!(
        imd(&["ca", "print", "--config", &config])
            .ok()
            .join("\n")
            .trim()
            == pem.trim()
    );
    let with_ca = |args: &[&str]| daemon.imd(&[args, &["--ca", &path]].concat());
    with_ca(&["send", "--from", "1", "--to", "2", "hello"]).ok();
    let read = with_ca(&["sync", "--uid", "2"]).ok().join("");
    assert!(read.contains("hello"), "{read}");
    with_ca(&["register", "--uid", "9"]).ok();
    with_ca(&["ready"]).ok();
    let refused = daemon.imd(&["sync", "--uid", "2"]);
    assert!(refused.failed(1).contains("UnknownIssuer"));
    let wrong = daemon.imd(&["sync", "--uid", "2", "--ca", &config]);
    assert!(wrong.failed(64).contains("there is no certificate in it"));

    imd(&["ca", "renew", "--config", &config]).ok();
    assert_ne!(fs::read_to_string(&path).unwrap(), pem);
}

#[test]
fn a_wrong_certificate_ends_the_start_with_its_line() {
    let folder = TempDir::new().unwrap();
    let cert = folder.path().join("cert.pem");
    fs::write(&cert, "hello").unwrap();
    let text = format!("[tls]\ncert = {cert:?}\nkey = {cert:?}\n");
    let config = write_config(folder.path(), &text);
    let error = imd(&["--any-port", "--config", &config]);
    let error = error.failed(64);
    assert!(
        error.contains(":2: tls.cert: ")
            && error.contains("cert.pem: there is no certificate in it"),
        "{error}"
    );
}
