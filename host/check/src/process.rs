//! A child process that does one check, and what its end means.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::checks;
use crate::task::{Outcome, Task};

/// A child that does one check.
pub(crate) struct Process {
    child: Child,
    channel: UnixStream,
    stdout: File,
    stderr: File,
    /// Whether nothing is left of it.
    has_ended: bool,
}

impl Process {
    pub(crate) fn start(mut command: Command, task: &Task) -> io::Result<Self> {
        let (channel, far) = UnixStream::pair()?;
        // Files, as nobody has to read them while the check runs.
        let (stdout, stderr) = (tempfile::tempfile_in(&task.folder)?, tempfile::tempfile_in(&task.folder)?);
        let child = command
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            // A group of its own: what it starts is found, and its signals to the group are not for others.
            .process_group(0)
            // Of a panic, its message says enough, and looking for the places opens files.
            .env("RUST_BACKTRACE", "0")
            .spawn()?;
        // The command holds the child's end of the channel open.
        drop(command);
        let mut process = Self { child, channel, stdout, stderr, has_ended: false };
        let asked = serde_json::to_vec(task)?;
        // One that ends at once does not read it, and is judged by its end.
        let _ = process.channel.write_all(&asked).and_then(|()| process.channel.shutdown(Shutdown::Write));
        Ok(process)
    }

    /// Waits for the end, and tells what it means, with the last lines of the log.
    pub(crate) fn judge(mut self, limit: Duration, check: &str) -> (Outcome, String) {
        let answer = self.answer(Instant::now() + limit, limit);
        let (printed, log) = (tail_of(&mut self.stdout), tail_of(&mut self.stderr));
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
        (outcome, log)
    }

    /// The child's answer, or how it ended without one.
    fn answer(&mut self, deadline: Instant, limit: Duration) -> Result<Outcome, String> {
        let said = self.read_answer(deadline);
        if said.is_none() && Instant::now() >= deadline {
            return Err(format!("it did not end within {limit:?}, and was killed: it hangs, or blocks"));
        }
        let status = self.wait(Instant::now() + GRACE);
        let hangs =
            || format!("the process did not end within {GRACE:?} when the check was done, and was killed");
        match (said, status) {
            (None, status) => Err(status.map_or_else(hangs, ended)),
            (Some(Outcome::Passed), None) => Err(hangs()),
            (Some(Outcome::Passed), Some(status)) if !status.success() => {
                Err(format!("the check was done, and then {}", ended(status)))
            }
            (Some(outcome), _) => Ok(outcome),
        }
    }

    /// The answer: one line. What else holds the channel, such as a process that the plugin has started, does not matter.
    fn read_answer(&mut self, deadline: Instant) -> Option<Outcome> {
        let (mut answer, mut bytes) = (Vec::new(), [0; 4_096]);
        while !answer.contains(&b'\n') && answer.len() < LONGEST_ANSWER {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let _ = self.channel.set_read_timeout(Some(left.min(SLICE)));
            match self.channel.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&bytes[..count]),
                // A process that the plugin has started may hold the channel when the check's own is gone.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.is_over() => break,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(_) => return None,
            }
        }
        serde_json::from_slice(answer.split(|byte| *byte == b'\n').next()?).ok()
    }

    /// Waits for the end of the process.
    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        while !self.is_over() {
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.end()
    }

    /// Whether the process has ended. It is left as it is, so that its number stays that of its group.
    fn is_over(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let leader = Pid::from_raw(self.child.id().cast_signed());
        leader.is_none_or(|leader| !matches!(waitid(WaitId::Pid(leader), look), Ok(None)))
    }

    /// Ends what is left of the process and of its group.
    fn end(&mut self) -> Option<ExitStatus> {
        if !self.has_ended {
            self.has_ended = true;
            if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.kill();
        }
        self.child.wait().ok()
    }
}

/// How long a process may take to end when its check is done.
const GRACE: Duration = Duration::from_secs(5);

/// How long nothing is heard before the process is looked at.
const SLICE: Duration = Duration::from_millis(200);

/// The most bytes of an answer.
const LONGEST_ANSWER: usize = 1 << 20;

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
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
        Some(25) => "the process was ended by signal 25, SIGXFSZ: it wrote more than a check may".into(),
        Some(signal) => format!("the process was ended by signal {signal}"),
        None if status.code() == Some(101) => "the process ended with a panic (status 101)".into(),
        None => {
            format!("the process ended with status {}: something called exit", status.code().unwrap_or(-1))
        }
    }
}

/// The last lines of what a process has written, not too long.
fn tail_of(file: &mut File) -> String {
    const MOST: u64 = 64 << 10;
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let read =
        file.seek(SeekFrom::Start(length.saturating_sub(MOST))).and_then(|_| file.read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().rev().take(20).map(cut).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn cut(line: &str) -> String {
    const LONGEST: usize = 300;
    match line.char_indices().nth(LONGEST) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}
