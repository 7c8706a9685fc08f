//! A folder for what checks write, which is gone when the command is: also when a signal ends it.

use std::io;
use std::path::Path;
use std::process::exit;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use endpoints::{Error, ErrorKind};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

pub(super) struct Folder(TempDir);

impl Folder {
    /// Makes it. From now on SIGTERM and SIGINT end the process when it is taken away.
    pub(super) fn new() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        let folder = tempfile::tempdir_in(&parent).map_err(|error| {
            // Mostly it is the parent that is not there, and not the name that was to be.
            let error = std::fs::read_dir(&parent).err().unwrap_or(error);
            let message = format!(
                "no folder can be made in {}, the folder for temporary files: {error}; name another one with TMPDIR",
                parent.display()
            );
            Error::new(ErrorKind::InvalidSetting, message)
        })?;
        remove_on_signals(folder.path())
            .map_err(|error| Failure::system("cannot wait for signals", &error))?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

fn remove_on_signals(folder: &Path) -> io::Result<()> {
    let folder = folder.to_owned();
    let (begun, begins) = mpsc::channel();
    let waits = thread::Builder::new().name("signals".into()).spawn(move || {
        let (runtime, mut arriving) = match begin() {
            Ok(begun) => begun,
            Err(error) => return drop(begun.send(Err(error))),
        };
        let _ = begun.send(Ok(()));
        let number = runtime.block_on(async {
            let [terminate, interrupt] = &mut arriving;
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            }
        });
        remove(&folder);
        // As a shell tells of a process that a signal has ended. The checks end with their parent.
        exit(128 + number.as_raw_value());
    });
    // Without the thread a signal ends the process as ever, and the folder stays.
    if waits.is_ok() { begins.recv().unwrap_or(Ok(())) } else { Ok(()) }
}

fn begin() -> io::Result<(Runtime, [Signal; 2])> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let arriving = {
        let _within = runtime.enter();
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]
    };
    Ok((runtime, arriving))
}

/// Removes it, though checks that still run write into it; into a folder that is gone they cannot.
fn remove(folder: &Path) {
    for _ in 0..100 {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
