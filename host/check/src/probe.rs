//! What the kernel says about this process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::finding::{Step, Verdict, ensure};

/// The open descriptors, each with what it leads to.
pub(crate) fn descriptors() -> io::Result<BTreeMap<u32, PathBuf>> {
    let mut open = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // The one that reads the folder is gone by now.
        if let (Some(number), Ok(target)) = (number, fs::read_link(entry.path()))
            && (!target.starts_with("/proc") || !target.ends_with("fd"))
        {
            open.insert(number, target);
        }
    }
    Ok(open)
}

/// How many descriptors are open, and one more that counts them.
pub(crate) fn descriptor_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Whether a descriptor is closed when another program is run.
fn closes_on_exec(descriptor: u32) -> io::Result<bool> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.map(|flags| flags & O_CLOEXEC != 0).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Fails where one that was not open `before` is handed down to programs that are run.
pub(crate) fn all_close_on_exec(before: &BTreeMap<u32, PathBuf>) -> Verdict {
    let now = descriptors().step("looking at descriptors")?;
    for (number, target) in now.iter().filter(|(number, _)| !before.contains_key(number)) {
        let closes = closes_on_exec(*number).step("looking at a descriptor")?;
        ensure(closes, || {
            let target = target.display();
            format!(
                "the descriptor {number} ({target}) is handed down to every program that the process runs"
            )
        })?;
    }
    Ok(())
}

/// The processes that this one has started, or those it started have, each with its name; zombies are gone.
pub(crate) fn children() -> io::Result<Vec<(u32, String)>> {
    let mut children = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let Ok(told) = fs::read_to_string(task?.path().join("children")) else { continue };
        for number in told.split_whitespace().filter_map(|number| number.parse::<u32>().ok()) {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            // PID (name) STATE …: the name may have parentheses of its own.
            let Some((start, rest)) = stat.rsplit_once(") ") else { continue };
            if !rest.starts_with('Z') {
                let name = start.split_once('(').map_or("", |(_, name)| name);
                children.push((number, name.to_owned()));
            }
        }
    }
    Ok(children)
}

/// How many threads there are.
pub(crate) fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Bytes of memory in use that are not of files.
pub(crate) fn memory() -> io::Result<u64> {
    let status = status("RssAnon:")?;
    let kilobytes = status.trim_end_matches("kB").trim().parse::<u64>();
    kilobytes.map(|kilobytes| kilobytes * 1024).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A line of `/proc/self/status`.
pub(crate) fn status(name: &str) -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map(|line| line.trim().to_owned()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The processor time that all threads of this process have used.
pub(crate) fn processor_time() -> io::Result<Duration> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut total = Duration::ZERO;
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path().join("schedstat");
        let Ok(told) = fs::read_to_string(path) else { continue };
        let nanos =
            told.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).ok_or_else(invalid)?;
        total += Duration::from_nanos(nanos);
    }
    Ok(total)
}
