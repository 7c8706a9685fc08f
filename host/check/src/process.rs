//! A child process that does one check, and what its end means.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::checks;
use crate::task::{Outcome, Task};

/// A child that does one check.
pub(crate) struct Process {
    child: Child,
    channel: UnixStream,
    stdout: File,
    stderr: File,
}

impl Process {
    pub(crate) fn start(mut command: Command, task: &Task) -> std::io::Result<Self> {
        let (mut channel, far) = UnixStream::pair()?;
        // Files, as nobody has to read them while the check runs.
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let child = command
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            // Of a panic, its message says enough, and looking for the places opens files.
            .env("RUST_BACKTRACE", "0")
            .spawn()?;
        // The command holds the child's end of the channel open.
        drop(command);
        channel.write_all(&serde_json::to_vec(task)?)?;
        channel.shutdown(Shutdown::Write)?;
        Ok(Self { child, channel, stdout, stderr })
    }

    /// Waits for the end, and tells what it means, with the last lines of the log.
    pub(crate) fn judge(mut self, limit: Duration, check: &str) -> (Outcome, String) {
        let answer = self.answer(limit);
        let (printed, log) = (text_of(&mut self.stdout), text_of(&mut self.stderr));
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        let outcome = match answer {
            // Whether it is quiet is a check of its own.
            Ok(Outcome::Passed) if check == checks::QUIET && !(printed.is_empty() && log.is_empty()) => {
                let line = printed.lines().chain(log.lines()).next().unwrap_or_default();
                Outcome::Warned(format!(
                    "it writes to standard output or standard error, which belong to the program: {line:?}"
                ))
            }
            Ok(outcome) => outcome,
            Err(end) => Outcome::Failed(end),
        };
        (outcome, tail)
    }

    /// The child's answer, or how it ended without one.
    fn answer(&mut self, limit: Duration) -> Result<Outcome, String> {
        let _ = self.channel.set_read_timeout(Some(limit));
        let (began, mut answer) = (Instant::now(), Vec::new());
        let read = self.channel.read_to_end(&mut answer);
        // A plugin may hand the channel down to children of its own, or end in an odd way: what it has said counts.
        let said = serde_json::from_slice::<Outcome>(&answer).ok();
        if read.is_err() && began.elapsed() >= limit {
            let _ = self.child.kill();
            let _ = self.child.wait();
            return said.ok_or_else(|| {
                format!("it did not end within {limit:?}, and was killed: it hangs, or blocks")
            });
        }
        let status = self.wait(limit.saturating_sub(began.elapsed()).max(Duration::from_secs(2)));
        match (said, status) {
            (Some(outcome), Some(status)) if status.success() => Ok(outcome),
            (Some(Outcome::Passed) | None, Some(status)) => Err(ended(status)),
            (Some(outcome), Some(_)) => Ok(outcome),
            (_, None) => Err("the process did not end when the check was done, and was killed".into()),
        }
    }

    /// Waits for the end of the process, and kills it where that takes too long.
    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if began.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(6) => {
            "the process was aborted (signal 6, SIGABRT): a panic where panics abort, or a call of abort"
                .into()
        }
        Some(11) => "the process crashed (signal 11, SIGSEGV): memory was used wrongly".into(),
        Some(7) => {
            "the process crashed (signal 7, SIGBUS): memory was used wrongly, or the file is cut short".into()
        }
        Some(signal) => format!("the process was ended by signal {signal}"),
        None => format!(
            "the process ended with status {} in the middle of the check: something called exit",
            status.code().unwrap_or(-1)
        ),
    }
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // Of a plugin that writes without end, the beginning has to do.
    let read = file.rewind().and_then(|()| file.take(1 << 20).read_to_end(&mut bytes));
    if read.is_err() { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() }
}
