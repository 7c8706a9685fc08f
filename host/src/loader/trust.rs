//! Who could have written a plugin's file: root and the running user alone, or it is refused.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Refusal, RefusalKind, real_path};

/// The bits with which its group, and others, can change a file.
const WRITE: [u32; 2] = [0o020, 0o002];

/// The same for a directory: adding, removing and renaming takes the right to search it too.
const WRITE_AND_SEARCH: [u32; 2] = [0o030, 0o003];

const STICKY: u32 = 0o1000;

/// Checks the opened file, and every directory on the way to where it really lies.
pub(super) fn check(file: &File, path: &Path) -> Result<(), Refusal> {
    let io = |error: std::io::Error| {
        Refusal::new(RefusalKind::Io, format!("its directory cannot be examined: {error}"))
    };
    let metadata = file.metadata().map_err(io)?;
    let user = rustix::process::geteuid().as_raw();
    check_one(path, &metadata, user, WRITE, false)?;
    let real = real_path(file).map_err(io)?;
    check_directories(&real, user).map_err(|refusal| match refusal {
        Ok(refusal) => refusal,
        Err(error) => io(error),
    })
}

fn check_directories(real: &Path, user: u32) -> Result<(), Result<Refusal, std::io::Error>> {
    for (above, directory) in real.ancestors().skip(1).enumerate() {
        let metadata = std::fs::metadata(directory).map_err(Err)?;
        // Others may put files beside an ancestor in a sticky directory, but cannot replace it.
        let may_be_sticky = above > 0;
        check_one(directory, &metadata, user, WRITE_AND_SEARCH, may_be_sticky).map_err(Ok)?;
    }
    Ok(())
}

fn check_one(
    path: &Path,
    metadata: &Metadata,
    user: u32,
    [group, others]: [u32; 2],
    may_be_sticky: bool,
) -> Result<(), Refusal> {
    let shown = PathBuf::from(path);
    let shown = shown.display();
    let (owner, mode) = (metadata.uid(), metadata.mode());
    if owner != 0 && owner != user {
        let message = format!(
            "{shown} belongs to user {owner}, who is neither root nor the running user: give it to one of them"
        );
        return Err(Refusal::new(RefusalKind::Untrusted, message));
    }
    let (by_group, by_others) = (mode & group == group, mode & others == others);
    if !(by_group || by_others) || (may_be_sticky && mode & STICKY != 0 && owner == 0) {
        return Ok(());
    }
    let whom = if by_others { "everybody" } else { "its group" };
    // A folder such as /tmp is meant for everybody; it is the plugin that is in the wrong place.
    let is_shared = metadata.is_dir() && by_others && mode & STICKY != 0 && !may_be_sticky;
    let advice = if is_shared {
        "move the plugin into a folder of its own that only root or the running user can write to"
    } else {
        "take that right away"
    };
    let message = format!("{whom} can write to {shown} (mode {:o}): {advice}", mode & 0o7777);
    Err(Refusal::new(RefusalKind::Untrusted, message))
}
