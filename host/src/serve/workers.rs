//! Threads that serve, each with a runtime of its own.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use super::stopping::Stopping;

/// Threads that accept and serve beside that of whoever runs a [`Serve`](super::Serve) or a
/// [`Forward`](crate::forward::Forward), each with a runtime of its own.
///
/// A connection stays on the thread that has accepted it: none waits for another, and nothing that is served moves from one
/// processor to the next, as it does on a runtime with several threads.
///
/// Cheap to clone; several may share the same ones. When the last clone is dropped, and nothing is served by them any more, the
/// threads end, and what handlers have spawned there with them.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use endpoints::forward::Forward;
/// use endpoints::serve::Workers;
///
/// let listener = endpoints::server("tcp:port=8080")?.listen().await?;
/// let backend = endpoints::client("unix:/run/app.sock")?;
/// let outcome =
///     Forward::new(listener, backend).workers(&Workers::new(3)?).run(std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Workers(Arc<Inner>);

struct Inner {
    handles: Vec<Handle>,
    ended: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is a worker, which lives no longer than what it serves.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.get()
}

impl Workers {
    /// Begins so many threads, which may be none.
    ///
    /// # Errors
    /// Why a thread, or its runtime, cannot begin; those that have begun end.
    pub fn new(count: usize) -> io::Result<Self> {
        let (ended, _) = watch::channel(false);
        let mut inner = Inner { handles: Vec::with_capacity(count), ended, threads: Mutex::default() };
        for number in 1..=count {
            let ended = inner.ended.subscribe();
            let (begun, begins) = mpsc::channel();
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            let thread = thread.spawn(move || serve(&begun, ended))?;
            inner.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
            let handle = begins.recv().unwrap_or_else(|gone| Err(io::Error::other(gone)))?;
            inner.handles.push(handle);
        }
        Ok(Self(Arc::new(inner)))
    }

    pub(super) fn handles(&self) -> &[Handle] {
        &self.0.handles
    }

    /// Told when the threads end, all of them.
    pub(super) fn ended(&self) -> Stopping {
        self.0.ended.subscribe().into()
    }

    /// Ends the threads, of all clones, and what is still served there, and waits for that, but no longer than `limit`: a handler
    /// that blocks its thread is left behind, which nothing tells.
    ///
    /// Whatever is being served with them goes on without them: connections of theirs are cut, and not counted in
    /// [`Outcome::cut`](super::Outcome::cut); further ones are served by the thread that runs it. Where a worker has accepted a
    /// connection with a handshake, and another thread serves it, it may end too, as its socket belongs to the worker.
    ///
    /// It blocks the thread that calls it, so within asynchronous code call it by `tokio::task::spawn_blocking`, and never on
    /// one of the workers, which would wait for itself until the time is over.
    pub fn shutdown_timeout(self, limit: Duration) {
        let begun = Instant::now();
        self.0.ended.send_replace(true);
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        while !threads.iter().all(JoinHandle::is_finished) && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The runtime is made here: it must not be dropped where others run, as it would be if there were no thread for it.
fn serve(begun: &mpsc::Sender<io::Result<Handle>>, mut ended: watch::Receiver<bool>) {
    IS_WORKER.set(true);
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(begun.send(Err(error))),
    };
    let _ = begun.send(Ok(runtime.handle().clone()));
    // It ends also when nobody is left who could say so.
    runtime.block_on(async { _ = ended.wait_for(|ended| *ended).await });
    // What blocks a thread of its own, as reading a file may, is left behind.
    runtime.shutdown_background();
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Workers").field(&self.0.handles.len()).finish()
    }
}
