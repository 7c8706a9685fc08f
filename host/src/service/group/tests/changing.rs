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
        ("bind", "bind a, bind b, stop b, bind c, start a, start c"),
        ("start", "bind a, bind b, bind c, start a, start b, stop b, start c"),
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
    assert_eq!(log.take(), "stop b, start d", "nothing starts what was removed");
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
    assert_eq!(log.take(), "bind a, start a, stop a");
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
        assert!(log.take().contains("start b, stop b"));
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
    assert_eq!(log.take(), "start a, stop a");
}
