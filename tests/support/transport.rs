//! The transport by which the clients of a run reach the servers: the one parameter of the suites.
//!
//! Serves [`super::Wire`] and the configs of [`super`]. The environment variable `TEST_TRANSPORT` names the transport, and
//! `tcp` is used without it. [`Transport::run_suite`] starts the suite again with another one, so that `cargo test` runs
//! every test over each transport and no test is written or compiled twice.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The variable that names the transport of a run.
const VARIABLE: &str = "TEST_TRANSPORT";

/// What carries the frames between a test's client and the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    WebSocket,
    /// A WebSocket within TLS.
    Wss,
}

impl Transport {
    const ALL: [Transport; 4] = [
        Transport::Tcp,
        Transport::Tls,
        Transport::WebSocket,
        Transport::Wss,
    ];

    /// Returns the transport of this run.
    pub fn of_this_run() -> Transport {
        static OF_THIS_RUN: LazyLock<Transport> = LazyLock::new(|| match std::env::var(VARIABLE) {
            Ok(given) => Transport::ALL
                .into_iter()
                .find(|transport| transport.name() == given)
                .unwrap_or_else(|| panic!("{VARIABLE}={given} names none of the transports")),
            Err(_) => Transport::Tcp,
        });
        *OF_THIS_RUN
    }

    fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::WebSocket => "ws",
            Transport::Wss => "wss",
        }
    }

    /// Returns whether each message is a WebSocket message.
    pub fn is_websocket(self) -> bool {
        matches!(self, Transport::WebSocket | Transport::Wss)
    }

    /// Returns whether the bytes are encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Runs the tests of this program over this transport, in a process of its own, and fails if one of them fails. Tests
    /// are left out whose path begins with one of `once`, which also says why.
    ///
    /// Does nothing if this process is such a run itself.
    pub fn run_suite(self, once: &[(&str, &str)]) {
        // Runs of several transports at one time would only slow each other down.
        static RUNNING: Mutex<()> = Mutex::new(());
        if std::env::var_os(VARIABLE).is_some() {
            return;
        }
        let _one_at_a_time = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let tests: Vec<String> = tests()
            .into_iter()
            .filter(|test| !is_of(test, once))
            .collect();
        let run = Command::new(std::env::current_exe().unwrap())
            .arg("--exact")
            .args(&tests)
            .env(VARIABLE, self.name())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        let summary = said.lines().find(|line| line.starts_with("test result: "));
        let summary = summary.unwrap_or("no result");
        assert!(
            run.status.success() && summary.contains(&format!(" {} passed", tests.len())),
            "{said}{}\nThese tests ran over another transport. Repeat one by {VARIABLE}={}",
            String::from_utf8_lossy(&run.stderr),
            self.name()
        );
        // Not by a macro, whose output is not shown for a test that passes.
        let line = format!("{VARIABLE}={}: {summary}\n", self.name());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

/// Checks a list of tests that run over TCP only: each entry has to name tests that exist.
pub fn check_once(once: &[(&str, &str)]) {
    let tests = tests();
    for entry in once {
        assert!(
            tests.iter().any(|test| is_of(test, &[*entry])),
            "{entry:?} names no test"
        );
    }
}

fn is_of(test: &str, once: &[(&str, &str)]) -> bool {
    once.iter().any(|(path, _)| test.starts_with(path))
}

/// Returns the paths of all tests of this program.
fn tests() -> Vec<String> {
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    tests.map(str::to_owned).collect()
}
