//! Moving bytes from one socket to another within the kernel: splice(2), by way of a pipe.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What a pipe should hold. An unprivileged user may have 64 MiB in larger pipes than the usual ones of 64 KiB
/// (pipe-user-pages-soft, pipe(7)); where that is used up, a pipe stays as it is.
pub(super) const CAPACITY: usize = 256 * 1024;

/// Pipes of this process at most, with two descriptors each; directions beyond that are copied.
const MOST: usize = 128;

/// Pipes that a thread keeps for the next ones, at most, and only while no more than half of all are there: else threads that
/// have nothing to move would keep them from those that have.
const KEPT: usize = 8;

/// Pipes that there are.
static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Empty ones that are not in use.
    static KEEPER: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> Option<Self> {
        if PIPES.fetch_add(1, Ordering::Relaxed) >= MOST {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        Some(Self { read, write })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pipe in use, and how many bytes are in it. An empty one is kept for others when it is dropped.
pub(super) struct Conduit {
    /// Until it is dropped.
    pipe: Option<Pipe>,
    filled: u32,
}

impl Conduit {
    /// A pipe, unless there are too many, or descriptors are short.
    pub(super) fn take() -> Option<Self> {
        let kept = KEEPER.try_with(|keeper| keeper.borrow_mut().pop()).ok()?;
        Some(Self { pipe: Some(kept.or_else(Pipe::new)?), filled: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes what there is from a socket, as much as the pipe holds; 0 at the end, and `None` where there is something that
    /// only reading gets at. The pipe must be empty: one that is full would look as if the socket had nothing to give.
    ///
    /// At the place of urgent data splice(2) says of TCP that nothing is there, and after the peer's end that this is the
    /// end, whatever follows; so reading has the last word on both. Where there may be nothing left, as `took_all` says, it
    /// is asked first, which takes no call more.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, took_all: bool) -> io::Result<Option<usize>> {
        let Some(pipe) = &self.pipe else { return Ok(None) };
        if took_all && !has_more(from)? {
            return Ok(Some(0));
        }
        match splice(from, None, &pipe.write, None, CAPACITY, FLAGS) {
            Ok(0) | Err(Errno::AGAIN) => Ok(if has_more(from)? { None } else { Some(0) }),
            Ok(moved) => {
                self.filled = narrow(moved);
                Ok(Some(moved))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what is there to a socket, as much as that takes.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let moved = splice(&pipe.read, None, to, None, self.filled as usize, FLAGS)?;
        self.filled = self.filled.saturating_sub(narrow(moved));
        Ok(moved)
    }

    /// Reads what is in it, where it cannot be given to a socket.
    pub(super) fn read_out(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.filled as usize];
        let mut read = 0;
        while let (Some(pipe), true) = (&self.pipe, read < bytes.len()) {
            match rustix::io::read(&pipe.read, &mut bytes[read..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => read += count,
            }
        }
        self.filled = 0;
        Ok(bytes)
    }
}

/// A count of bytes in a pipe, which are [`CAPACITY`] at most. What is not empty never looks so.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether the kernel does not move bytes between such files, or a filter of system calls does not let it.
pub(super) fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Whether a socket has something to read, rather than the end; fails where it has nothing yet.
fn has_more(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let (_, count) = recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(count > 0)
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Conduit {
    fn drop(&mut self) {
        if let (0, Some(pipe)) = (self.filled, self.pipe.take()) {
            // The thread may be about to end.
            let _ = KEEPER.try_with(|keeper| {
                let mut kept = keeper.borrow_mut();
                if kept.len() < KEPT && PIPES.load(Ordering::Relaxed) <= MOST / 2 {
                    kept.push(pipe);
                }
            });
        }
    }
}

/// Whether a peer that is gone does not end this process: splice(2) to its socket raises SIGPIPE, with no way to say
/// otherwise, unless the process ignores or handles that signal. Rust programs ignore it from the beginning.
pub(super) fn is_harmless() -> bool {
    static IS_HARMLESS: OnceLock<bool> = OnceLock::new();
    *IS_HARMLESS.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut masks = status
            .lines()
            .filter_map(|line| line.strip_prefix("SigIgn:").or_else(|| line.strip_prefix("SigCgt:")))
            .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        masks.any(|mask| mask & (1 << (rustix::process::Signal::PIPE.as_raw() - 1)) != 0)
    })
}
