//! Signals that this process sends to itself: one test, since each reaches all who wait for one.

use rustix::process::{Signal, getpid, kill_process};

use super::*;

async fn has_come_to(log: &Log, wanted: &str) {
    let come = async {
        while !log.0.lock().unwrap().iter().any(|what| what == wanted) {
            sleep(SECOND / 1000).await;
        }
    };
    tokio::time::timeout(20 * SECOND, come).await.expect("it comes to that");
}

#[tokio::test]
async fn a_signal_stops_all_and_a_second_one_does_not_wait_for_that() {
    for (first, second) in [
        (Signal::TERM, None),
        (Signal::INT, None),
        (Signal::TERM, Some((Signal::INT, "SIGINT"))),
        (Signal::INT, Some((Signal::TERM, "SIGTERM"))),
    ] {
        let log = Log::default();
        let told = Told::new("a", &log);
        let told = if second.is_some() { told.that_hangs("stop") } else { told };
        let group = ServiceGroup::new("all").with(told);
        let running = tokio::spawn(async move { group.run_until_signal().await });
        // It waits for signals before it starts anything.
        has_come_to(&log, "start a").await;
        kill_process(getpid(), first).unwrap();
        has_come_to(&log, "stop a").await;
        if let Some((second, _)) = second {
            assert!(!running.is_finished());
            kill_process(getpid(), second).unwrap();
        }
        let ended = tokio::time::timeout(20 * SECOND, running).await.expect("it ends").unwrap();
        let ended = ended.map_err(|error| (error.kind(), error.to_string()));
        let hurried = |name| format!("{name} came as a second signal before all had stopped");
        assert_eq!(ended, second.map_or(Ok(()), |(_, name)| Err((ErrorKind::Cancelled, hurried(name)))));
    }
}
