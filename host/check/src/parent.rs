//! The side of a check that starts the child processes and judges how they end.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use endpoints::manifest::Scheme;
use endpoints::{Description, Refusal, Registry};

use crate::checks::{self, Check, Level, Run};
use crate::report::{CheckResult, Report};
use crate::task::{Outcome, Task};

/// Checks plugin files.
#[derive(Debug)]
pub struct Checker {
    program: fn() -> Command,
    level: Level,
    time_limit: Duration,
    jobs: usize,
    only: Vec<String>,
    plugin_path: Vec<PathBuf>,
    arguments: Vec<(String, Vec<u8>)>,
    servers: Vec<Vec<u8>>,
    clients: Vec<Vec<u8>>,
}

impl Checker {
    /// Runs each check with the command that `program` gives: one that calls [`serve`](crate::serve), as the program itself
    /// does with a word of its own among its arguments.
    #[must_use]
    pub fn new(program: fn() -> Command) -> Self {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        Self {
            program,
            level: Level::Traffic,
            time_limit: Duration::from_secs(60),
            jobs,
            only: Vec::new(),
            plugin_path: Vec::new(),
            arguments: Vec::new(),
            servers: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// Does the checks of this level and those before it.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// How long one check may take; one minute, unless said otherwise.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How many checks run at once; as many as there are processors, unless said otherwise.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Does only the check of this name; may be called for several.
    #[must_use]
    pub fn only(mut self, check: impl Into<String>) -> Self {
        self.only.push(check.into());
        self
    }

    /// A directory with plugins of other schemes, for descriptions that are given; may be called for several.
    #[must_use]
    pub fn plugin_path(mut self, directory: impl Into<PathBuf>) -> Self {
        self.plugin_path.push(directory.into());
        self
    }

    /// A value for every parameter of this name, in place of the example in the manifest; may be called for several.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.arguments.push((name.into(), value.into()));
        self
    }

    /// A server description that works, for the checks of its scheme; may be called once for each scheme. Without one, the
    /// examples of the manifest are used.
    #[must_use]
    pub fn server(mut self, description: impl Into<Vec<u8>>) -> Self {
        self.servers.push(description.into());
        self
    }

    /// A client description that reaches the server of its scheme, likewise. Without one, a listener is reached by what it
    /// tells.
    #[must_use]
    pub fn client(mut self, description: impl Into<Vec<u8>>) -> Self {
        self.clients.push(description.into());
        self
    }

    /// Checks a file; `done` is shown each result as it comes.
    ///
    /// # Errors
    /// Why the file cannot be looked at, such as that there is none. What is wrong with one that is there is a result.
    pub fn check(&self, file: &Path, mut done: impl FnMut(&CheckResult)) -> Result<Report, Refusal> {
        let file = match file.canonicalize() {
            Ok(file) => file,
            // The refusal says it in the words of all refusals.
            Err(_) => file.to_owned(),
        };
        let inspected = Registry::builder()
            .allow_abort(true)
            .build()
            .map(|registry| registry.inspect_file(&file))
            .unwrap_or_else(|_| Ok(Vec::new()));
        if let Err(refusal) = &inspected {
            if !file.exists() {
                return Err(refusal.clone());
            }
        }
        let manifests: Vec<_> =
            inspected.into_iter().flatten().filter_map(|report| report.manifest).collect();
        let declared: Vec<&Scheme> = manifests.iter().flat_map(|manifest| &manifest.plugin.schemes).collect();
        let schemes: Vec<String> = declared.iter().map(|scheme| scheme.name.to_string()).collect();
        let plugins =
            manifests.iter().map(|one| (one.build.name.clone(), one.build.version.to_string())).collect();
        let mut report = Report { file: file.clone(), plugins, results: Vec::new() };
        let of_file = self.of_file(&file, &schemes);
        self.run_all(of_file, &mut report.results, &mut done);
        let loads =
            !report.results.iter().any(|one| is_gate(one) && matches!(one.outcome, Outcome::Failed(_)));
        for scheme in declared {
            let tasks = self.of_scheme(&file, &schemes, scheme);
            if loads {
                self.run_scheme(tasks, &mut report.results, &mut done);
            } else {
                skip_all(tasks, "the plugin does not load", &mut report.results, &mut done);
            }
        }
        Ok(report)
    }

    fn of_file(&self, file: &Path, schemes: &[String]) -> Vec<(&'static Check, Task)> {
        let wanted = self.wanted().filter(|check| matches!(check.run, Run::File(_)));
        wanted.map(|check| (check, self.task(check, file, schemes, None))).collect()
    }

    fn of_scheme(&self, file: &Path, schemes: &[String], scheme: &Scheme) -> Vec<(&'static Check, Task)> {
        let is_about = |check: &&Check| {
            !matches!(check.run, Run::File(_)) && check.kind.is_none_or(|kind| kind == scheme.kind)
        };
        let wanted = self.wanted().filter(is_about);
        wanted.map(|check| (check, self.task(check, file, schemes, Some(&scheme.name)))).collect()
    }

    /// The checks that are asked for, and those that the others stand on.
    fn wanted(&self) -> impl Iterator<Item = &'static Check> {
        let is_wanted = |check: &&Check| {
            let named = self.only.iter().any(|name| name == check.name);
            named || (self.only.is_empty() && check.level <= self.level)
        };
        checks::ALL.iter().filter(is_wanted)
    }

    fn task(&self, check: &Check, file: &Path, schemes: &[String], scheme: Option<&str>) -> Task {
        let given = |all: &[Vec<u8>]| {
            let is_of = |text: &&Vec<u8>| {
                let description = Description::parse(text.as_slice());
                description.is_ok_and(|one| Some(&*String::from_utf8_lossy(&one.scheme())) == scheme)
            };
            all.iter().find(is_of).cloned()
        };
        Task {
            check: check.name.to_owned(),
            file: file.to_owned(),
            schemes: schemes.to_vec(),
            scheme: scheme.map(str::to_owned),
            plugin_path: self.plugin_path.clone(),
            arguments: self.arguments.clone(),
            server: given(&self.servers),
            client: given(&self.clients),
            connections: if self.level == Level::Stress { 10_000 } else { 1_000 },
            // Some time is left to look at what remains.
            milliseconds: u64::try_from((self.time_limit / 2).as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Does the checks of a scheme; where one fails that others stand on, those are skipped.
    fn run_scheme(
        &self,
        mut tasks: Vec<(&'static Check, Task)>,
        results: &mut Vec<CheckResult>,
        done: &mut impl FnMut(&CheckResult),
    ) {
        while let Some(place) = tasks.iter().position(|(check, _)| check.gate) {
            let after = tasks.split_off(place + 1);
            self.run_all(tasks, results, done);
            tasks = after;
            if let Some(gate) = results.last().filter(|gate| matches!(gate.outcome, Outcome::Failed(_))) {
                let reason = format!("the check {} failed", gate.check.name);
                return skip_all(tasks, &reason, results, done);
            }
        }
        self.run_all(tasks, results, done);
    }

    /// Does checks, several at once; the results come in the order of the checks.
    fn run_all(
        &self,
        tasks: Vec<(&'static Check, Task)>,
        results: &mut Vec<CheckResult>,
        done: &mut impl FnMut(&CheckResult),
    ) {
        let queue = std::sync::Mutex::new(tasks.into_iter().enumerate());
        let (sender, finished) = mpsc::channel();
        let mut waiting = std::collections::BTreeMap::new();
        let mut next = 0;
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (queue, sender) = (&queue, sender.clone());
                scope.spawn(move || {
                    loop {
                        let task = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                        let Some((place, (check, task))) = task else { return };
                        if sender.send((place, self.run(check, &task))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (place, result) in finished {
                waiting.insert(place, result);
                while let Some(result) = waiting.remove(&next) {
                    done(&result);
                    results.push(result);
                    next += 1;
                }
            }
        });
    }

    fn run(&self, check: &'static Check, task: &Task) -> CheckResult {
        let began = Instant::now();
        let (outcome, log) = match Process::start((self.program)(), task) {
            Ok(process) => process.judge(self.time_limit, check.name),
            Err(error) => {
                (Outcome::Skipped(format!("its process cannot be started: {error}")), String::new())
            }
        };
        let log = if outcome == Outcome::Passed { String::new() } else { log };
        CheckResult {
            check: check.into(),
            scheme: task.scheme.clone(),
            outcome,
            duration: began.elapsed(),
            log,
        }
    }
}

fn is_gate(result: &CheckResult) -> bool {
    checks::ALL.iter().any(|check| check.gate && check.name == result.check.name)
}

fn skip_all(
    tasks: Vec<(&'static Check, Task)>,
    reason: &str,
    results: &mut Vec<CheckResult>,
    done: &mut impl FnMut(&CheckResult),
) {
    for (check, task) in tasks {
        let result = CheckResult {
            check: check.into(),
            scheme: task.scheme,
            outcome: Outcome::Skipped(reason.to_owned()),
            duration: Duration::ZERO,
            log: String::new(),
        };
        done(&result);
        results.push(result);
    }
}

/// A child that does one check.
struct Process {
    child: Child,
    channel: UnixStream,
    stdout: File,
    stderr: File,
}

impl Process {
    fn start(mut command: Command, task: &Task) -> std::io::Result<Self> {
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
    fn judge(mut self, limit: Duration, check: &str) -> (Outcome, String) {
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
