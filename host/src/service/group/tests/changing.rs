//! Services are added and removed while others are started, run, or end.

use super::*;

/// Starts it in a task of its own, and gives that time to come as far as it can.
async fn starting(group: &ServiceGroup) -> tokio::task::JoinHandle<Result<(), Error>> {
    let group = group.clone();
    let starting = tokio::spawn(async move { group.start().await });
    sleep(SECOND).await;
    starting
}

async fn removed(group: &ServiceGroup, name: &str) -> bool {
    tokio::time::timeout(SECOND, group.remove(name)).await.expect("it waits for no start").unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_removed_and_the_others_start() {
    for (hangs, wanted) in [
        ("bind", "bind a, bind b, give up b, bind c, start a, start c, stop b"),
        ("start", "bind a, bind b, bind c, start a, start b, give up b, start c, stop b"),
    ] {
        let log = Log::default();
        let group = ServiceGroup::new("all")
            .with(Told::new("a", &log))
            .with(Told::new("b", &log).that_hangs(hangs))
            .with(Told::new("c", &log));
        let starting = starting(&group).await;
        assert!(removed(&group, "b").await);
        starting.await.unwrap().unwrap();
        assert_eq!(log.take(), wanted);
        assert_eq!(group.names(), ["a", "c"]);
        group.stop().await.unwrap();
        assert_eq!(log.take(), "stop c, stop a");
    }
}

#[tokio::test(start_paused = true)]
async fn others_can_be_removed_while_a_start_hangs() {
    let log = Log::default();
    let group = ServiceGroup::new("all")
        .with(Told::new("a", &log))
        .with(Told::new("b", &log).that_hangs("start"))
        .with(Told::new("c", &log))
        .with(Told::new("d", &log));
    let starting = starting(&group).await;
    assert_eq!(log.take(), "bind a, bind b, bind c, bind d, start a, start b");
    assert!(removed(&group, "a").await && removed(&group, "c").await);
    assert_eq!(log.take(), "stop a, stop c");
    assert!(!starting.is_finished());
    assert!(removed(&group, "b").await);
    starting.await.unwrap().unwrap();
    assert_eq!(log.take(), "give up b, start d, stop b", "nothing starts what was removed");
}

#[tokio::test(start_paused = true)]
async fn one_is_removed_also_while_nobody_polls_its_start() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log).that_hangs("start"));
    let mut starting = group.start();
    tokio::select! {
        started = &mut starting => panic!("so soon: {started:?}"),
        () = sleep(SECOND) => assert!(removed(&group, "a").await),
    }
    starting.await.unwrap();
    assert_eq!(log.take(), "bind a, start a, give up a, stop a");
}

/// Nobody else has a handle of it, so that it would end at once if it were dropped.
#[tokio::test(start_paused = true)]
async fn a_removal_that_is_not_waited_for_stops_it_all_the_same() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log).that_hangs("stop"));
    group.start().await.unwrap();
    tokio::time::timeout(SECOND, group.remove("a")).await.unwrap_err();
    assert_eq!(log.take(), "bind a, start a, stop a", "it is not given up");
}

#[tokio::test(start_paused = true)]
async fn what_is_being_added_can_be_removed_or_stopped() {
    for how in ["remove", "stop"] {
        let log = Log::default();
        let group = ServiceGroup::new("all").with(Told::new("a", &log));
        group.start().await.unwrap();
        let adding = tokio::spawn({
            let (group, b) = (group.clone(), Told::new("b", &log).that_hangs("start"));
            async move { group.add(b).await }
        });
        sleep(SECOND).await;
        assert_eq!(group.names(), ["a", "b"]);
        if how == "remove" {
            assert!(removed(&group, "b").await);
        } else {
            group.stop().await.unwrap();
        }
        assert_eq!(adding.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(log.take().contains("start b, give up b, stop b"));
        assert_eq!(group.names(), ["a"], "it was not added");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_being_added_is_stopped_with_the_others_where_nobody_waits_for_it() {
    let log = Log::default();
    let group = ServiceGroup::new("all");
    group.start().await.unwrap();
    tokio::select! {
        added = group.add(Told::new("a", &log).that_hangs("start")) => panic!("so soon: {added:?}"),
        () = sleep(SECOND) => {}
    }
    assert_eq!(group.names(), ["a"]);
    group.stop().await.unwrap();
    assert_eq!(log.take(), "start a, give up a, stop a");
}

#[tokio::test]
async fn one_that_was_removed_is_not_waited_for() {
    let log = Log::default();
    let (a, b) = (Told::new("a", &log), Told::new("b", &log));
    let group = ServiceGroup::new("all").with(a.clone()).with(b);
    let running = tokio::spawn({
        let group = group.clone();
        async move { group.run(std::future::pending()).await }
    });
    tokio::task::yield_now().await;
    assert!(group.remove("b").await.unwrap());
    // It sees that first: what ends is told once here.
    tokio::task::yield_now().await;
    a.end.add_permits(1);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_without_services_goes_on() {
    let group = ServiceGroup::new("all");
    tokio::select! {
        ended = group.run(std::future::pending()) => panic!("why? {ended:?}"),
        () = sleep(SECOND) => {}
    }
}

#[tokio::test]
async fn the_first_with_a_name_is_removed_and_why_it_did_not_stop_is_told() {
    let log = Log::default();
    let group = ServiceGroup::new("all")
        .with(Told::new("a", &log).that_cannot("stop"))
        .with(Told::new("b", &log))
        .with(Told::new("a", &log));
    let error = group.remove("a").await.unwrap_err();
    assert_eq!(error.to_string(), "a: cannot stop");
    assert_eq!(group.names(), ["b", "a"], "it is out all the same");
    assert!(group.remove("a").await.unwrap());
    assert_eq!(group.names(), ["b"]);
}

#[tokio::test]
async fn of_two_with_a_name_only_the_one_that_cannot_start_is_not_added() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log));
    group.start().await.unwrap();
    group.add(Told::new("a", &log).that_cannot("start")).await.unwrap_err();
    assert_eq!(group.names(), ["a"]);
}

#[tokio::test]
async fn what_is_added_after_a_start_that_failed_is_not_started() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log).that_cannot("start"));
    group.start().await.unwrap_err();
    log.take();
    group.add(Told::new("b", &log)).await.unwrap();
    assert_eq!(log.take(), "");
}

#[tokio::test(start_paused = true)]
async fn what_is_added_while_others_start_is_started_after_them() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log).that_takes(10 * SECOND));
    let starting = starting(&group).await;
    // It is bound by then.
    sleep(10 * SECOND).await;
    let begun = Instant::now();
    group.add(Told::new("b", &log)).await.unwrap();
    assert_eq!(begun.elapsed(), 9 * SECOND);
    starting.await.unwrap().unwrap();
    assert_eq!(log.take(), "bind a, start a, start b");
}

#[tokio::test(start_paused = true)]
async fn what_is_started_while_it_stops_is_started_after_that() {
    let log = Log::default();
    let group = ServiceGroup::new("all").with(Told::new("a", &log).that_takes(10 * SECOND));
    let stopping = tokio::spawn({
        let group = group.clone();
        async move { group.stop().await }
    });
    sleep(SECOND).await;
    let begun = Instant::now();
    group.start().await.unwrap();
    assert_eq!(begun.elapsed(), (9 + 10 + 10) * SECOND, "after stopping, it is bound and started");
    stopping.await.unwrap().unwrap();
}
