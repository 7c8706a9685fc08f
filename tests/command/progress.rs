//! `forward --progress`: a line on a terminal that changes in place, and lines elsewhere.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::Parser;

use crate::harness::{LIMIT, Service, endpoints, port, tcp, wait};

const ANY: &str = "tcp:0:interface=127.0.0.1";

#[test]
fn progress_is_told_on_standard_error() {
    let backend = Service::start(["listen", ANY, "--echo"]);
    let service = Service::start(["forward", ANY, &backend.description, "--progress"]);
    let begun = Instant::now();
    for _ in 0..3 {
        let line = service.stderr_line();
        assert!(line.starts_with("0 open, 0 in all, 0 failed; ") && !line.contains('\u{1b}'), "{line}");
    }
    assert!(begun.elapsed() > Duration::from_millis(1500), "three within {:?}", begun.elapsed());
    service.stop();
}

/// A terminal whose screen somebody looks at.
struct Terminal {
    screen: Parser,
    written: Receiver<Vec<u8>>,
    /// How often something was written with a progress line in it.
    updates: usize,
}

impl Terminal {
    /// One of that width, and the descriptor for what writes to it.
    fn new(columns: u16) -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be opened");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let slave = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let slave = slave.expect("its other side");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).expect("it is set");
        let (sender, written) = channel();
        thread::spawn(move || {
            let mut master = File::from(master);
            let mut bytes = [0; 4096];
            // It fails when nobody has the other side any more.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let [rows, columns] = [24, columns].map(|size| NonZero::new(size).expect("not none"));
        (Self { screen: Parser::new(rows, columns, 0), written, updates: 0 }, slave)
    }

    /// Takes in what is written for that long, or until nothing more can be.
    fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            match self.written.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    self.updates += usize::from(String::from_utf8_lossy(&bytes).contains(" open, "));
                    self.screen.process(&bytes);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The rows that have something on them.
    fn rows(&self) -> Vec<String> {
        let columns = self.screen.screen().size().1;
        self.screen.screen().rows(0, columns.get()).take_while(|row| !row.is_empty()).collect()
    }

    #[track_caller]
    fn wait_for(&mut self, what: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let rows = self.rows();
            if what(&rows) {
                return rows;
            }
            assert!(begun.elapsed() < LIMIT, "{rows:#?}");
            self.watch(Duration::from_millis(20));
        }
    }
}

#[test]
fn on_a_terminal_one_line_stays_below_all_others_and_is_gone_at_the_end() {
    // Nobody listens there.
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    for columns in [200, 50] {
        let (mut terminal, stderr) = Terminal::new(columns);
        let mut command = endpoints(["forward", ANY, &format!("tcp:{nowhere}"), "--progress"]);
        let mut child = command.env("TERM", "xterm").stderr(stderr).spawn().expect("the command starts");
        drop(command);
        let rows = terminal.wait_for(|rows| rows.len() == 2);
        assert!(rows[0].starts_with("listening on "), "{rows:#?}");
        assert!(rows[1].starts_with("0 open, 0 in all, 0 failed; "), "{rows:#?}");
        // What is told meanwhile goes above it.
        for _ in 0..3 {
            drop(tcp(port(&rows[0])));
        }
        let told = |rows: &[String]| {
            rows.last().is_some_and(|last| last.starts_with("0 open, 3 in all, 3 failed; "))
        };
        let rows = terminal.wait_for(told);
        let warnings = rows.iter().filter(|row| row.contains("WARN")).count();
        assert_eq!(warnings, 3, "{rows:#?}");
        let lines = |rows: &[String]| rows.iter().filter(|row| row.contains(" open, ")).count();
        assert_eq!(lines(&rows), 1, "{rows:#?}");
        // Once a second, in the same place. A busy machine may hold them up, but not each time.
        let within = [(); 5].map(|()| {
            terminal.updates = 0;
            terminal.watch(Duration::from_millis(3500));
            terminal.updates
        });
        assert!(within.iter().any(|updates| (2..=4).contains(updates)), "{within:?} within 3.5 s");
        assert_eq!(terminal.rows().len(), rows.len(), "{:#?}", terminal.rows());
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
        assert_eq!(wait(&mut child), Some(0));
        terminal.watch(LIMIT);
        let rows = terminal.rows();
        assert_eq!(lines(&rows), 0, "{rows:#?}");
        // What comes next begins on a line of its own.
        assert_eq!(terminal.screen.screen().cursor_position(), (rows.len() as u16, 0));
    }
}

#[test]
fn a_terminal_that_knows_no_escape_sequences_gets_lines() {
    let backend = Service::start(["listen", ANY, "--echo"]);
    let (mut terminal, stderr) = Terminal::new(200);
    let mut command = endpoints(["forward", ANY, &backend.description, "--progress"]);
    let mut child = command.env("TERM", "dumb").stderr(stderr).spawn().expect("the command starts");
    drop(command);
    let rows = terminal.wait_for(|rows| rows.len() == 3);
    assert!(rows[1..].iter().all(|row| row.starts_with("0 open, 0 in all, 0 failed; ")), "{rows:#?}");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
    assert_eq!(wait(&mut child), Some(0));
}
