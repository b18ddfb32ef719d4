//! The program in a terminal: line editing in `imd chat`, questions that a person answers, and the code for a phone.
//!
//! The test plays the screen and the keyboard of a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use crate::process::{Daemon, address_on_the_network};

const DEADLINE: Duration = Duration::from_secs(120);

pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<String>,
    seen: String,
}

impl Terminal {
    /// Starts a chat of this user.
    fn chat(daemon: &Daemon, uid: &str) -> Terminal {
        let mut terminal = Terminal::start(daemon, &["chat", "--uid", uid]);
        terminal.shows("/help shows");
        terminal.shows("> ");
        terminal
    }

    /// Starts a command that finds this daemon.
    fn start(daemon: &Daemon, args: &[&str]) -> Terminal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
        command
            .args(args)
            .arg("--addr-file")
            .arg(daemon.addr_file());
        Terminal::run(command)
    }

    /// Runs a program whose stdin, stdout and stderr are the terminal.
    pub fn run(mut command: Command) -> Terminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = command.spawn().unwrap();
        let keyboard = File::from(pty.master.try_clone().unwrap());
        let mut master = File::from(pty.master);
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Reading fails when no process holds the other end open.
            while let Ok(n @ 1..) = master.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..n]).into_owned();
                if send.send(text).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            keyboard,
            screen,
            seen: String::new(),
        }
    }

    /// Waits until the screen has shown this text.
    pub fn shows(&mut self, what: &str) {
        while !self.seen.contains(what) {
            match self.screen.recv_timeout(DEADLINE) {
                Ok(text) => self.seen.push_str(&text),
                Err(error) => panic!("no {what:?} on the screen ({error}):\n{}", self.seen),
            }
        }
    }

    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end of the program, and returns whether it has succeeded.
    fn ends(self) -> bool {
        self.ended().0
    }

    /// Waits for the end of the program, and returns whether it has succeeded and all that the screen has shown.
    pub fn ended(mut self) -> (bool, String) {
        while let Ok(text) = self.screen.recv_timeout(DEADLINE) {
            self.seen.push_str(&text);
        }
        let is_good = self.child.wait().unwrap().success();
        (is_good, std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn messages_are_shown_while_a_line_is_typed() {
    let daemon = Daemon::start(&[]);
    let mut ann = Terminal::chat(&daemon, "1");
    let mut bob = daemon.spawn(&["sync", "--uid", "2", "--follow"]);
    ann.types("/to 2 half a ");
    ann.shows("half a");
    daemon
        .imd(&["send", "--from", "3", "--to", "1", "in between"])
        .ok();
    ann.shows("v1] 3: in between");
    ann.types("line\r");
    assert!(bob.line().contains("\"half a line\""));
    ann.shows("to 2: stored");
    ann.types("/quit\r");
    assert!(ann.ends());
}

#[test]
fn pasted_lines_are_all_sent() {
    const LINES: usize = 60;
    let daemon = Daemon::start(&[]);
    let mut ann = Terminal::chat(&daemon, "1");
    let mut bob = daemon.spawn(&["sync", "--uid", "2", "--follow"]);
    let pasted: String = (0..LINES)
        .map(|n| format!("/to 2 line {n} 你好\r"))
        .collect();
    ann.types(&pasted);
    for n in 0..LINES {
        let line = bob.line();
        assert!(line.contains(&format!("\"line {n} 你好\"")), "{line}");
    }
    // Ctrl-D on an empty line ends the input.
    ann.types("\u{4}");
    assert!(ann.ends());
}

#[test]
fn a_stack_that_other_machines_reach_shows_a_qr_code() {
    if address_on_the_network().is_none() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_imd"));
    command.args(["--any-port", "--host", "0.0.0.0"]);
    let mut daemon = Terminal::run(command);
    daemon.shows("On the LAN ");
    // The lower edge of the square in a corner of the code, and the margin beside it.
    daemon.shows("\n████▄▄▄▄▄▄▄█");
    daemon.shows("Ready in ");
}

#[test]
fn a_reset_of_a_folder_asks_for_a_confirmation() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = folder.path().join("data");
    let daemon = Daemon::start(&["--store", store.to_str().unwrap()]);
    daemon
        .imd(&["send", "--from", "1", "--to", "2", "hello"])
        .ok();
    for (answer, is_gone) in [("\r", false), ("n\r", false), ("y\r", true)] {
        let mut reset = Terminal::start(&daemon, &["reset"]);
        reset.shows("will be gone for good. Go on? [y/N]");
        reset.types(answer);
        assert_eq!(reset.ends(), is_gone);
        let left = daemon.imd(&["sync", "--uid", "2"]).ok();
        assert_eq!(left.is_empty(), is_gone);
    }
}
