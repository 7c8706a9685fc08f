//! The side of a check that runs in a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, setrlimit,
};

use crate::checks::{self, Run};
use crate::finding::{Finding, Verdict, fails};
use crate::probe;
use crate::subject::Subject;
use crate::task::{Outcome, Task};

/// Does one check: what the program does whose command was given to [`Checker::new`](crate::Checker::new).
///
/// The task is read from standard input, which is a socket, and the outcome written to it: standard output and standard
/// error belong to the plugin. The exit status is 0 where there is an outcome, whatever it is.
#[must_use]
pub fn serve() -> ExitCode {
    let Ok(mut channel) = channel() else { return ExitCode::from(2) };
    confine();
    let mut text = String::new();
    let task: Task = match channel.read_to_string(&mut text).map(|_| serde_json::from_str(&text)) {
        Ok(Ok(task)) => task,
        _ => return ExitCode::from(2),
    };
    crate::finding::limit_steps(2 * Duration::from_millis(task.milliseconds));
    let verdict = run(&task);
    // Whatever came of it.
    let left = nothing_is_left();
    let outcome = match verdict.and(left) {
        Ok(()) => Outcome::Passed,
        Err(Finding::Fails(message)) => Outcome::Failed(message),
        Err(Finding::Warns(message)) => Outcome::Warned(message),
        Err(Finding::Skips(reason)) => Outcome::Skipped(reason),
    };
    let answered =
        serde_json::to_string(&outcome).map(|answer| channel.write_all(format!("{answer}\n").as_bytes()));
    match answered {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// The socket that standard input is, where a plugin does not find it by accident: nothing comes from standard input from
/// now on.
fn channel() -> std::io::Result<UnixStream> {
    let channel = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    Ok(channel)
}

/// Has the check neither outlive who waits for it nor fill the disk, and find what the plugin starts. Where the system
/// refuses, it has to go without.
fn confine() {
    const MOST: u64 = 256 << 20;
    let limit = Rlimit { current: Some(MOST), maximum: Some(MOST) };
    let _ = setrlimit(Resource::Fsize, limit);
    // Whoever waits for the answer may be gone.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // What the plugin starts, and leaves to nobody, is left to this process.
    let _ = set_child_subreaper(Some(getpid()));
}

/// Fails where the plugin has left a process behind; one that is about to end has a moment.
fn nothing_is_left() -> Verdict {
    for _ in 0..100 {
        match probe::children() {
            Ok(children) if !children.is_empty() => std::thread::sleep(Duration::from_millis(10)),
            _ => return Ok(()),
        }
    }
    let left = probe::children().unwrap_or_default();
    // Those that these have started come to this process then.
    for _ in 0..100 {
        let Ok(children) = probe::children() else { break };
        if children.is_empty() {
            break;
        }
        for (number, _) in children {
            if let Some(process) = Pid::from_raw(number.cast_signed()) {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    match left.first() {
        None => Ok(()),
        Some((number, name)) => fails(format!("it leaves a process behind: {number} ({name})")),
    }
}

fn run(task: &Task) -> Verdict {
    let mut known = checks::ALL.iter().chain([&checks::GIVEN]);
    let Some(check) = known.find(|check| check.name == task.check) else {
        return Err(Finding::Skips(format!("this program knows no check {}", task.check)));
    };
    match check.run {
        Run::File(run) => run(task),
        Run::Scheme(run) => run(&Subject::new(task)?),
        Run::Traffic(run) => {
            let subject = Subject::new(task)?;
            runtime()?.block_on(run(&subject))
        }
    }
}

/// A runtime as a relay has it: one thread.
pub(crate) fn runtime() -> Verdict<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Finding::Skips(format!("there is no runtime to check with: {error}")))
}
