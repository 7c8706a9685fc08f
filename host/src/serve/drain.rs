//! Waiting for what goes on to end, and cutting what does not.

use std::future::{Future, pending, poll_fn};
use std::task::{Context, Poll};

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::stopping::Stopping;

/// Waits for `future`, no longer than to the deadline, and until `cut` says so.
pub(super) async fn until<T>(deadline: Option<Instant>, cut: &Stopping, future: impl Future<Output = T>) -> Option<T> {
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
    poll_fn(|cx| poll_ended(open, cx, |ended| cut += usize::from(ended.is_err()))).await;
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

    use std::time::Duration;

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
