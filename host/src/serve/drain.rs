//! Waiting for what goes on to end, and cutting what does not.

use std::future::{Future, pending, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::stopping::Stopping;

/// The connections that an acceptor has handed out, on whatever thread they are served. Whoever waits for them in the end has
/// them too: a worker may end, or block, and its acceptor with it.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<Mutex<JoinSet<()>>>);

impl Open {
    fn set(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one more, there or here.
    pub(super) fn spawn(&self, handling: impl Future<Output = ()> + Send + 'static, there: Option<&Handle>) {
        match there {
            Some(worker) => self.set().spawn_on(handling, worker),
            None => self.set().spawn(handling),
        };
    }

    /// Waits for one to end; `None` where there is none.
    pub(super) async fn join_next(&self) -> Option<Result<(), JoinError>> {
        poll_fn(|cx| self.set().poll_join_next(cx)).await
    }

    /// All that there are.
    pub(super) fn take(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.set())
    }
}

/// How long those that are cut may take to end. Only what blocks its thread takes time for that, and it is left behind.
pub(super) const TO_CUT: Duration = Duration::from_secs(1);

/// Waits for `future`, no longer than to the deadline, and until `cut` says so.
pub(super) async fn until<T>(
    deadline: Option<Instant>,
    cut: &Stopping,
    future: impl Future<Output = T>,
) -> Option<T> {
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        done = future => Some(done),
        () = late => None,
        () = cut.wait() => None,
    }
}

/// Waits for connections to end; cuts those that are open at the deadline, or when `cut` says so, and counts them.
pub(super) async fn drain(open: &mut Vec<JoinSet<()>>, deadline: Option<Instant>, cut: &Stopping) -> usize {
    if until(deadline, cut, poll_fn(|cx| poll_ended(open, cx, |_| {}))).await.is_some() {
        return 0;
    }
    // All at once: one that is slow to end, as it blocks its thread, does not give the others more time.
    open.iter_mut().for_each(JoinSet::abort_all);
    let mut cut = 0;
    // Those that have ended meanwhile are still to be joined, and were not cut.
    let ending = poll_fn(|cx| poll_ended(open, cx, |ended| cut += usize::from(ended.is_err())));
    if timeout(TO_CUT, ending).await.is_err() {
        let left = open.iter().map(JoinSet::len).sum::<usize>();
        tracing::warn!(left, "connections that are cut block their threads");
        cut += left;
    }
    cut
}

/// Forgets the connections that have ended, whichever acceptor they are of, and is ready when there are no more.
fn poll_ended(
    open: &mut Vec<JoinSet<()>>,
    cx: &mut Context<'_>,
    mut each: impl FnMut(Result<(), JoinError>),
) -> Poll<()> {
    open.retain_mut(|connections| {
        loop {
            match connections.poll_join_next(cx) {
                Poll::Ready(Some(ended)) => each(ended),
                Poll::Ready(None) => return false,
                Poll::Pending => return true,
            }
        }
    });
    if open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[tokio::test]
    async fn what_has_ended_at_the_deadline_is_not_cut() {
        // More than a task may do at a time, none of which is joined before.
        let ended = || (0..1000).map(|_| std::future::ready(())).collect::<JoinSet<()>>();
        let mut open = vec![ended(), ended()];
        open[0].spawn(pending());
        tokio::time::sleep(Duration::from_millis(20)).await;
        let never = Stopping::never();
        assert_eq!(drain(&mut open, Some(Instant::now()), &never).await, 1);
        assert_eq!(drain(&mut vec![ended(), ended()], None, &never).await, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_blocks_keeps_no_other_from_being_cut() {
        struct TellsItsEnd(Sender<()>);
        impl Drop for TellsItsEnd {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (other, cut) = channel();
        let (begun, mut begins) = tokio::sync::mpsc::channel(1);
        let mut open = vec![JoinSet::new(), JoinSet::new()];
        let other = TellsItsEnd(other);
        open[1].spawn(async move {
            let _other = other;
            pending::<()>().await;
        });
        open[0].spawn(async move {
            let _ = begun.send(()).await;
            // Its thread, until the other is over.
            let _ = cut.recv_timeout(Duration::from_secs(10)).inspect_err(|_| panic!("it goes on"));
        });
        begins.recv().await.unwrap();
        // The one that blocked has ended by itself.
        assert_eq!(drain(&mut open, Some(Instant::now()), &Stopping::never()).await, 1);
    }
}
