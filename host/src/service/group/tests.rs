use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::*;

mod changing;

const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, what: &str, name: &str) {
        self.0.lock().unwrap().push(format!("{what} {name}"));
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join(", ")
    }
}

/// A service that does as it is told.
#[derive(Clone)]
struct Told {
    name: &'static str,
    log: Log,
    cannot: &'static str,
    hangs: &'static str,
    takes: Duration,
    /// A permit for each that is to end: with an error, if it cannot go on.
    end: Arc<Semaphore>,
}

impl Told {
    fn new(name: &'static str, log: &Log) -> Self {
        let (log, end) = (log.clone(), Arc::new(Semaphore::new(0)));
        Self { name, log, cannot: "", hangs: "", takes: Duration::ZERO, end }
    }

    fn that_cannot(self, cannot: &'static str) -> Self {
        Self { cannot, ..self }
    }

    /// Does that for ever.
    fn that_hangs(self, hangs: &'static str) -> Self {
        Self { hangs, ..self }
    }

    fn that_takes(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    async fn does(&self, what: &str) -> Result<(), Error> {
        self.log.push(what, self.name);
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        if self.hangs == what {
            let _hanging = Hanging(self);
            std::future::pending::<()>().await;
        }
        if self.cannot == what {
            return Err(Error::new(ErrorKind::Other, format!("cannot {what}")));
        }
        Ok(())
    }
}

/// Logs when it is given up.
struct Hanging<'a>(&'a Told);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.log.push("give up", self.0.name);
    }
}

impl Service for Told {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn bind(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.does("bind"))
    }

    fn start(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.does("start"))
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.does("stop"))
    }

    fn ended(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.end.acquire().await.unwrap().forget();
            self.does("go on").await
        })
    }
}

#[tokio::test]
async fn services_start_in_order_and_stop_in_the_opposite_one() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log)).with(Told::new("b", &log));
    assert_eq!(group.names(), ["a", "b"]);
    group.start().await.unwrap();
    assert_eq!(log.take(), "bind a, bind b, start a, start b");
    group.stop().await.unwrap();
    assert_eq!(log.take(), "stop b, stop a");
}

#[tokio::test]
async fn groups_nest() {
    let log = Log::default();
    let inner = ServiceGroup::new("inner").with(Told::new("b", &log)).with(Told::new("c", &log));
    let group = ServiceGroup::new("all").with(Told::new("a", &log)).with(inner).with(Told::new("d", &log));
    group.bind().await.unwrap();
    assert_eq!(log.take(), "bind a, bind b, bind c, bind d");
    group.run(std::future::ready(())).await.unwrap();
    assert!(log.take().ends_with("stop d, stop c, stop b, stop a"));
}

#[tokio::test]
async fn where_one_cannot_start_none_stays_behind() {
    for cannot in ["bind", "start"] {
        let log = Log::default();
        let group = ServiceGroup::new("all")
            .with(Told::new("a", &log))
            .with(Told::new("b", &log).that_cannot(cannot))
            .with(Told::new("c", &log));
        let error = group.start().await.unwrap_err();
        assert_eq!(error.to_string(), format!("b: cannot {cannot}"));
        let log = log.take();
        assert!(log.ends_with(&format!("{cannot} b, stop c, stop b, stop a")), "{log}");
    }
}

#[tokio::test]
async fn errors_of_stopping_are_collected() {
    let log = Log::default();
    let group = ServiceGroup::new("all")
        .with(Told::new("a", &log).that_cannot("stop"))
        .with(Told::new("b", &log))
        .with(Told::new("c", &log).that_cannot("stop"));
    group.start().await.unwrap();
    let error = group.stop().await.unwrap_err();
    let wanted = "2 services did not stop as they should: c: cannot stop; a: cannot stop";
    assert_eq!(error.to_string(), wanted);
}

#[tokio::test(start_paused = true)]
async fn they_stop_one_after_the_other_or_together() {
    let log = Log::default();
    let slow = |name| Told::new(name, &log).that_takes(SECOND);
    let begun = Instant::now();
    ServiceGroup::new("x").with(slow("a")).with(slow("b")).stop().await.unwrap();
    assert_eq!(begun.elapsed(), 2 * SECOND);
    let begun = Instant::now();
    ServiceGroup::new("x").with(slow("a")).with(slow("b")).stop_together().stop().await.unwrap();
    assert_eq!(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_not_waited_for_stops_all_the_same() {
    let log = Log::default();
    let slow = |name| Told::new(name, &log).that_takes(SECOND);
    let group = ServiceGroup::new("x").with(slow("a")).with(slow("b"));
    tokio::select! {
        stopped = group.stop() => panic!("so soon: {stopped:?}"),
        () = sleep(SECOND / 2) => {}
    }
    sleep(5 * SECOND).await;
    assert_eq!(log.take(), "stop b, stop a");
}

#[tokio::test]
async fn what_is_added_to_a_group_that_runs_is_started() {
    let log = Log::default();
    let group = ServiceGroup::new("all");
    group.add(Told::new("a", &log)).await.unwrap();
    assert_eq!(log.take(), "");
    group.start().await.unwrap();
    group.add(Told::new("b", &log)).await.unwrap();
    let error = group.add(Told::new("c", &log).that_cannot("start")).await.unwrap_err();
    assert_eq!(error.to_string(), "c: cannot start");
    assert_eq!(log.take(), "bind a, start a, start b, start c");
    assert_eq!(group.names(), ["a", "b"]);
    assert!(group.remove("a").await.unwrap());
    assert!(!group.remove("a").await.unwrap());
    assert_eq!(log.take(), "stop a");
    group.stop().await.unwrap();
    assert_eq!(log.take(), "stop b");
}

#[tokio::test]
async fn one_that_cannot_go_on_ends_all() {
    let log = Log::default();
    let (a, b) = (Told::new("a", &log), Told::new("b", &log).that_cannot("go on"));
    let group = ServiceGroup::new("all").with(a.clone()).with(b.clone());
    b.end.add_permits(1);
    let error = group.run(std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "b: cannot go on");
    assert!(log.take().ends_with("go on b, stop b, stop a"));
}

#[tokio::test]
async fn it_ends_when_all_have_nothing_more_to_do() {
    let log = Log::default();
    let (a, b) = (Told::new("a", &log), Told::new("b", &log));
    let group = ServiceGroup::new("all").with(a.clone()).with(b.clone());
    let running = tokio::spawn({
        let group = group.clone();
        async move { group.run(std::future::pending()).await }
    });
    a.end.add_permits(1);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished());
    b.end.add_permits(1);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_that_was_added_later_can_end_all_too() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log));
    let running = tokio::spawn({
        let group = group.clone();
        async move { group.run(std::future::pending()).await }
    });
    tokio::task::yield_now().await;
    let late = Told::new("late", &log).that_cannot("go on");
    group.add(late.clone()).await.unwrap();
    late.end.add_permits(1);
    assert_eq!(running.await.unwrap().unwrap_err().to_string(), "late: cannot go on");
}

#[tokio::test]
async fn binding_does_nothing_where_it_runs_and_is_given_up_by_a_stop() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log));
    group.start().await.unwrap();
    log.take();
    group.bind().await.unwrap();
    assert_eq!(log.take(), "");

    let group = ServiceGroup::new("all").with(Told::new("b", &log).that_hangs("bind"));
    let mut binding = group.bind();
    tokio::select! {
        biased;
        bound = &mut binding => panic!("so soon: {bound:?}"),
        () = std::future::ready(()) => {}
    }
    let (bound, stopped) = tokio::join!(binding, group.stop());
    assert_eq!(bound.unwrap_err().kind(), ErrorKind::Cancelled);
    stopped.unwrap();
    assert_eq!(log.take(), "bind b, give up b, stop b");
}

#[tokio::test]
async fn why_it_ended_comes_before_what_went_wrong_in_stopping() {
    let log = Log::default();
    let bad = |cannot| Told::new(cannot, &log).that_cannot(cannot);
    let group = ServiceGroup::new("all").with(bad("stop"));
    let error = group.run(std::future::ready(())).await.unwrap_err();
    assert_eq!(error.to_string(), "stop: cannot stop");
    let ends = bad("go on");
    ends.end.add_permits(1);
    let error = group.with(ends).run(std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "go on: cannot go on");
}

#[tokio::test(start_paused = true)]
async fn it_can_be_stopped_while_it_starts() {
    let log = Log::default();
    let group =
        ServiceGroup::new("all").with(Told::new("a", &log)).with(Told::new("b", &log).that_takes(SECOND));
    group.run(sleep(SECOND / 2)).await.unwrap();
    assert_eq!(log.take(), "bind a, bind b, stop b, stop a");
}

#[test]
fn services_can_be_used_from_everywhere() {
    fn is_shared<T: Send + Sync + ?Sized>() {}
    is_shared::<ServiceGroup>();
    is_shared::<crate::service::ClientService<std::sync::mpsc::Sender<()>>>();
    is_shared::<crate::service::ServerService>();
    is_shared::<dyn Service>();
}

/// A service whose start, or stop, is like that for ever.
#[derive(Clone)]
struct Stuck(Log);

impl Service for Stuck {
    fn name(&self) -> String {
        "stuck".to_owned()
    }

    fn start(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.0.push("start", "stuck");
        Box::pin(std::future::pending())
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.0.push("stop", "stuck");
        Box::pin(async { panic!("as the test wants it") })
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_given_up_by_a_stop_and_a_stop_that_panics_keeps_none_from_stopping() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log)).with(Stuck(log.clone()));
    let starting = tokio::spawn({
        let group = group.clone();
        async move { group.start().await }
    });
    sleep(SECOND).await;
    assert_eq!(log.take(), "bind a, start a, start stuck");
    let error = group.stop().await.unwrap_err();
    assert!(error.message().starts_with("stuck: stopping failed: "), "{error}");
    assert_eq!(log.take(), "stop stuck, stop a");
    assert_eq!(starting.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    // What is added while nothing runs is not started.
    group.add(Told::new("b", &log)).await.unwrap();
    assert_eq!(log.take(), "");
}

#[test]
fn it_can_be_stopped_where_there_is_no_runtime() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log).that_takes(Duration::ZERO));
    let mut stopping = group.stop();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(stopping.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(log.take(), "stop a");
}
