//! The side that has checks done, each in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use endpoints::manifest::{Scheme, SchemeKind};
use endpoints::{Description, Refusal, RefusalKind, Registry};
use tempfile::TempDir;

use crate::checks::{self, Check, Level, Run};
use crate::process::Process;
use crate::report::{CheckResult, Report};
use crate::request::scheme_of;
use crate::task::{Outcome, Task};

/// Checks plugin files.
#[derive(Debug)]
pub struct Checker {
    program: fn() -> Command,
    pub(crate) level: Level,
    time_limit: Duration,
    jobs: usize,
    pub(crate) only: Vec<String>,
    folder: Option<PathBuf>,
    plugin_path: Vec<PathBuf>,
    pub(crate) arguments: Vec<(String, Vec<u8>)>,
    pub(crate) servers: Vec<Vec<u8>>,
    pub(crate) clients: Vec<Vec<u8>>,
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
            folder: None,
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

    /// Does only the check of this name, where the level does it; may be called for several.
    #[must_use]
    pub fn only(mut self, check: impl Into<String>) -> Self {
        self.only.push(check.into());
        self
    }

    /// A folder for what the checks write, which whoever gives it takes away: even where the program is ended by a signal. One
    /// is made, and taken away, for each file otherwise.
    #[must_use]
    pub fn temporary_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
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
    /// Why the file cannot be looked at, such as that there is none. What is wrong with one that is there is a result, unless
    /// none of the checks that were asked for is about the file.
    pub fn check(&self, file: &Path, mut done: impl FnMut(&CheckResult)) -> Result<Report, Refusal> {
        let file = match file.canonicalize() {
            Ok(file) => file,
            // The refusal says it in the words of all refusals.
            Err(_) => file.to_owned(),
        };
        let folder = self.folder()?;
        let inspected = Registry::builder()
            .allow_abort(true)
            .build()
            .map_or_else(|_| Ok(Vec::new()), |registry| registry.inspect_file(&file));
        if let Err(refusal) = &inspected {
            // Without the checks of the file nobody would say that it is none.
            let unsaid = self.wanted().all(|check| !matches!(check.run, Run::File(_)));
            if unsaid || !file.exists() {
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
        self.run_all(in_folder(of_file, &folder), &mut report.results, &mut done);
        let loads =
            !report.results.iter().any(|one| is_gate(one) && matches!(one.outcome, Outcome::Failed(_)));
        for scheme in declared {
            let (tasks, others) = self.of_scheme(&file, &schemes, scheme);
            if loads {
                self.run_scheme(in_folder(tasks, &folder), &mut report.results, &mut done);
            } else {
                skip_all(tasks, "the plugin does not load", &mut report.results, &mut done);
            }
            let reason = match scheme.kind {
                SchemeKind::Wrapper => "the check is about transports, and the scheme is a wrapper",
                _ => "the check is about wrappers, and the scheme is a transport",
            };
            skip_all(others, reason, &mut report.results, &mut done);
        }
        Ok(report)
    }

    /// Where the checks write.
    pub(crate) fn folder(&self) -> Result<TempDir, Refusal> {
        let parent = self.folder.clone().unwrap_or_else(std::env::temp_dir);
        tempfile::tempdir_in(&parent).map_err(|error| {
            // Mostly it is the parent that is not there, and not the name that was to be.
            let error = std::fs::read_dir(&parent).err().unwrap_or(error);
            let message = format!(
                "no folder can be made in {}, the folder for temporary files: {error}; name another one with TMPDIR",
                parent.display()
            );
            Refusal { kind: RefusalKind::Io, message }
        })
    }

    fn of_file(&self, file: &Path, schemes: &[String]) -> Tasks {
        let wanted = self.wanted().filter(|check| matches!(check.run, Run::File(_)));
        wanted.map(|check| (check, self.task(check, file, schemes, None))).collect()
    }

    /// The checks of a scheme, and those that were named though they are about the other kind.
    fn of_scheme(&self, file: &Path, schemes: &[String], scheme: &Scheme) -> (Tasks, Tasks) {
        let is_about = |check: &Check| check.kind.is_none_or(|kind| kind == scheme.kind);
        let wanted = self.wanted().filter(|check| !matches!(check.run, Run::File(_)));
        let (about, others): (Vec<_>, Vec<_>) = wanted.partition(|check| is_about(check));
        let tasks = |checks: Vec<&'static Check>| {
            let task = |check| (check, self.task(check, file, schemes, Some(&scheme.name)));
            checks.into_iter().map(task).collect()
        };
        (tasks(about), if self.only.is_empty() { Tasks::new() } else { tasks(others) })
    }

    /// The checks that are asked for.
    fn wanted(&self) -> impl Iterator<Item = &'static Check> {
        let is_named =
            |check: &&Check| self.only.is_empty() || self.only.iter().any(|name| name == check.name);
        checks::ALL.iter().filter(is_named).filter(|check| check.level <= self.level)
    }

    pub(crate) fn task(&self, check: &Check, file: &Path, schemes: &[String], scheme: Option<&str>) -> Task {
        let given = |all: &[Vec<u8>]| {
            let is_of = |text: &&Vec<u8>| {
                let description = Description::parse(text.as_slice());
                description.is_ok_and(|one| Some(&*scheme_of(&one)) == scheme)
            };
            all.iter().find(is_of).cloned()
        };
        Task {
            check: check.name.to_owned(),
            file: file.to_owned(),
            schemes: schemes.to_vec(),
            scheme: scheme.map(str::to_owned),
            folder: PathBuf::new(),
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
        mut tasks: Tasks,
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
    fn run_all(&self, tasks: Tasks, results: &mut Vec<CheckResult>, done: &mut impl FnMut(&CheckResult)) {
        let threads = self.jobs.min(tasks.len());
        let queue = Mutex::new(tasks.into_iter().enumerate());
        let (sender, finished) = mpsc::channel();
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let work = |sender: mpsc::Sender<_>| {
            loop {
                let task = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((place, (check, task))) = task else { return };
                if sender.send((place, self.run(check, &task))).is_err() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            let start = || {
                let sender = sender.clone();
                thread::Builder::new().spawn_scoped(scope, || work(sender)).is_ok()
            };
            let started = (0..threads).take_while(|_| start()).count();
            // Where the system gives fewer threads than were asked for, those have to do, or this one.
            if started == 0 {
                work(sender.clone());
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

    pub(crate) fn run(&self, check: &'static Check, task: &Task) -> CheckResult {
        let began = Instant::now();
        // It is gone when the process is.
        let own = tempfile::tempdir_in(&task.folder);
        let started = own.as_ref().map_err(ToString::to_string).and_then(|own| {
            let task = Task { folder: own.path().to_owned(), ..task.clone() };
            Process::start((self.program)(), &task).map_err(|error| error.to_string())
        });
        let (mut outcome, log) = match started {
            Ok(process) => process.judge(self.time_limit, check.name),
            Err(error) => (Outcome::Failed(format!("its process cannot be started: {error}")), String::new()),
        };
        if let Ok(own) = &own {
            // What differs from check to check by that alone is the same.
            outcome.replace(own.path(), &task.folder);
        }
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

type Tasks = Vec<(&'static Check, Task)>;

fn in_folder(mut tasks: Tasks, folder: &TempDir) -> Tasks {
    for (_, task) in &mut tasks {
        folder.path().clone_into(&mut task.folder);
    }
    tasks
}

fn is_gate(result: &CheckResult) -> bool {
    checks::ALL.iter().any(|check| check.gate && check.name == result.check.name)
}

fn skip_all(tasks: Tasks, reason: &str, results: &mut Vec<CheckResult>, done: &mut impl FnMut(&CheckResult)) {
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
