//! Runs `imd demo`: prints the address of the web client that a running stack serves, and opens it in a browser.
//!
//! Serves the dispatch of commands. The system's own program opens the browser, which is all that crates for this purpose do.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::args::DemoArgs;
use super::call::Admin;
use crate::cli::failure::Failure;
use crate::cli::output;

/// The path of the web client on the admin listener.
const PATH: &str = "/demo/";

/// How long the program that opens a browser may take to fail. Some of them run for as long as the browser does.
const OPENED_AFTER: Duration = Duration::from_secs(3);

/// Runs `imd demo`.
///
/// # Errors
///
/// The errors of [`Admin::call`], and those of [`output::line`]. A browser that can't be opened is no error: the address was
/// printed.
pub async fn run(args: &DemoArgs) -> Result<(), Failure> {
    let admin = Admin::find(&args.admin)?;
    // Needs no token: the page itself asks for one.
    let version = "/version";
    match admin.get(version).await?.get("name") {
        Some(name) if name == "imd" => {}
        _ => return Err(admin.wrong_server(version).await),
    }
    let url = admin.url(PATH);
    output::line(&url)?;
    if let Some(opener) = opener().filter(|_| !args.print) {
        open(opener, &url).await;
    }
    Ok(())
}

/// Returns the program that opens a URL in the user's browser, with its first arguments. Returns `None` where no browser can
/// be seen: without a graphical session, or on another machine than the user's.
fn opener() -> Option<&'static [&'static str]> {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    if cfg!(windows) {
        Some(&["rundll32", "url.dll,FileProtocolHandler"])
    } else if cfg!(target_os = "macos") {
        (!is_set("SSH_CONNECTION")).then_some(&["open"])
    } else {
        // In a session over SSH, these are set only if windows are shown on the user's machine.
        (is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")).then_some(&["xdg-open"])
    }
}

/// Opens a URL. The opener keeps running on its own if it takes longer than [`OPENED_AFTER`]: then it is the browser.
async fn open(opener: &[&str], url: &str) {
    let Some((program, arguments)) = opener.split_first() else {
        return;
    };
    let child = Command::new(program)
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(mut child) => match tokio::time::timeout(OPENED_AFTER, child.wait()).await {
            Ok(Ok(status)) if !status.success() => {
                tracing::warn!(program, %status, "no browser was opened");
            }
            Ok(Err(error)) => tracing::warn!(program, %error, "no browser was opened"),
            Ok(Ok(_)) | Err(_) => {}
        },
        Err(error) => tracing::warn!(program, %error, "no browser was opened"),
    }
}
