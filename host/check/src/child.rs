//! The side of a check that runs in a process of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use crate::checks::{self, Run};
use crate::finding::{Finding, Verdict};
use crate::subject::Subject;
use crate::task::{Outcome, Task};

/// Does one check: what the program does whose command was given to [`Checker::new`](crate::Checker::new).
///
/// The task is read from standard input, which is a socket, and the outcome written to it: standard output and standard
/// error belong to the plugin. The exit status is 0 where there is an outcome, whatever it is.
#[must_use]
pub fn serve() -> ExitCode {
    let Ok(mut channel) = channel() else { return ExitCode::from(2) };
    let mut text = String::new();
    let task: Task = match channel.read_to_string(&mut text).map(|_| serde_json::from_str(&text)) {
        Ok(Ok(task)) => task,
        _ => return ExitCode::from(2),
    };
    crate::finding::limit_steps(2 * Duration::from_millis(task.milliseconds));
    let outcome = match run(&task) {
        Ok(()) => Outcome::Passed,
        Err(Finding::Fails(message)) => Outcome::Failed(message),
        Err(Finding::Warns(message)) => Outcome::Warned(message),
        Err(Finding::Skips(reason)) => Outcome::Skipped(reason),
    };
    match serde_json::to_vec(&outcome).map(|answer| channel.write_all(&answer)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// The socket that standard input is.
fn channel() -> std::io::Result<UnixStream> {
    use std::os::fd::AsFd;
    Ok(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?))
}

fn run(task: &Task) -> Verdict {
    let Some(check) = checks::ALL.iter().find(|check| check.name == task.check) else {
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
