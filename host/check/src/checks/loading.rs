//! Loading a plugin and setting it up.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::hint::black_box;

use crate::checks::file;
use crate::finding::{Finding, Step, Verdict, ensure, fails, skips};
use crate::probe;
use crate::registry::registry;
use crate::subject::Subject;
use crate::task::Task;

pub(super) fn loads(task: &Task) -> Verdict {
    file::usable(task)?;
    let registry = registry(task).step("setting up a registry")?;
    if task.schemes.is_empty() {
        return fails("it provides no scheme");
    }
    for scheme in &task.schemes {
        registry.load(scheme).step("loading it and setting it up")?;
    }
    Ok(())
}

/// What a library must leave alone.
#[derive(PartialEq)]
struct State {
    folder: Option<std::path::PathBuf>,
    variables: BTreeMap<OsString, OsString>,
    status: Vec<String>,
    /// Whether numbers too small to be normal count: code that is built with -ffast-math turns that off for the thread.
    keeps_small_numbers: bool,
}

/// Lines of `/proc/self/status`, with what they are about.
const STATUS: [(&str, &str); 4] = [
    ("Umask:", "the mask of file modes"),
    ("SigBlk:", "the signals that are blocked"),
    ("SigIgn:", "the signals that are ignored"),
    ("SigCgt:", "the handlers of signals"),
];

impl State {
    fn now() -> Verdict<Self> {
        let status: std::io::Result<Vec<_>> = STATUS.iter().map(|(name, _)| probe::status(name)).collect();
        Ok(Self {
            folder: env::current_dir().ok(),
            variables: env::vars_os().collect(),
            status: status.map_err(|error| Finding::Skips(format!("/proc cannot be read: {error}")))?,
            keeps_small_numbers: black_box(f64::MIN_POSITIVE) / black_box(4.0) > 0.0,
        })
    }
}

pub(super) fn process_state(task: &Task) -> Verdict {
    if task.schemes.is_empty() {
        return skips("it provides no scheme");
    }
    let open = probe::descriptors().step("looking at descriptors")?;
    let before = State::now()?;
    let registry = registry(task).step("setting up a registry")?;
    for scheme in &task.schemes {
        registry.load(scheme).step("loading it")?;
    }
    let after = State::now()?;
    ensure(before.folder == after.folder, || "it changes the current folder of the process".into())?;
    ensure(before.variables == after.variables, || "it changes variables of the environment".into())?;
    ensure(before.keeps_small_numbers == after.keeps_small_numbers, || {
        "it changes how the thread computes (flush to zero): do not link it with -ffast-math".into()
    })?;
    probe::all_close_on_exec(&open)?;
    for (place, (_, about)) in STATUS.iter().enumerate() {
        ensure(before.status[place] == after.status[place], || format!("it changes {about} of the process"))?;
    }
    Ok(())
}

pub(super) fn set_up_twice(task: &Task) -> Verdict {
    if task.schemes.is_empty() {
        return skips("it provides no scheme");
    }
    for scheme in &task.schemes {
        let task = Task { scheme: Some(scheme.clone()), ..task.clone() };
        let first = Subject::new(&task)?;
        makes_endpoints(&first, "in the first of two registries")?;
        let second = Subject::new(&task)?;
        makes_endpoints(&second, "in the second of two registries")?;
        makes_endpoints(&first, "beside another registry")?;
        drop(first);
        makes_endpoints(&second, "after another registry was dropped")?;
    }
    Ok(())
}

/// Makes an endpoint of each side that the scheme has.
fn makes_endpoints(subject: &Subject, when: &str) -> Verdict {
    for made in [subject.server().map(drop), subject.client_alone(&Subject::inner("x", "")).map(drop)] {
        if let Err(Finding::Fails(message)) = made {
            return fails(format!("{when}: {message}"));
        }
    }
    Ok(())
}
