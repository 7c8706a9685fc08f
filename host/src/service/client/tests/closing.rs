//! How its connections end: it is stopped, or nobody has it any more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::SECOND;
use super::script::{Attempt, Stage, hold, settle};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::serve::Stopping;
use crate::service::{ClientService, ClientState};

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_keep_the_token_is_cut_at_once() {
    let mut stage = Stage::new();
    let service =
        ClientService::builder(stage.endpoint.clone()).handle(|connection, _stopping| hold(connection));
    service.start().unwrap();
    let mut server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    let begun = Instant::now();
    service.stop().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_keeps_the_token_has_time_to_say_goodbye() {
    let mut stage = Stage::new();
    let service =
        ClientService::builder(stage.endpoint.clone()).handle(|mut connection, stopping| async move {
            assert!(!stopping.is_stopping());
            stopping.wait().await;
            assert!(stopping.is_stopping());
            tokio::time::sleep(3 * SECOND).await;
            connection.write_all(b"bye").await.unwrap();
        });
    service.start().unwrap();
    let mut server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    let begun = Instant::now();
    service.stop().await.unwrap();
    assert_eq!(begun.elapsed(), 3 * SECOND);
    let mut said = String::new();
    server.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_cut() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone()).close_timeout(4 * SECOND).handle(
        |connection, stopping| async move {
            std::future::pending::<()>().await;
            drop((connection, stopping));
        },
    );
    service.start().unwrap();
    let mut server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    let begun = Instant::now();
    let error = service.stop().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.message(), "the connection was still open after 4s, and cut");
    assert_eq!(begun.elapsed(), 4 * SECOND);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    service.stop().await.expect("it has stopped");
}

/// Keeps its token, as every parameter of an `async fn`.
async fn with_all(connection: Connection, _stopping: Stopping) {
    hold(connection).await;
}

async fn without_token(connection: Connection, stopping: Stopping) {
    drop(stopping);
    hold(connection).await;
}

#[tokio::test(start_paused = true)]
async fn who_keeps_the_token_is_as_documented() {
    let limit = 4 * SECOND;
    for (what, wanted) in
        [("fn", limit), ("closure", limit), ("block", Duration::ZERO), ("drop", Duration::ZERO)]
    {
        let mut stage = Stage::new();
        let builder = ClientService::builder(stage.endpoint.clone()).close_timeout(limit);
        let service = match what {
            "fn" => builder.handle(with_all),
            "closure" => builder.handle(async |connection, _stopping| hold(connection).await),
            "block" => builder.handle(|connection, _stopping| async move { hold(connection).await }),
            _ => builder.handle(without_token),
        };
        service.start().unwrap();
        let _server = stage.attempt().await.succeed();
        service.when_connected().await.unwrap();
        let begun = Instant::now();
        assert_eq!(service.stop().await.is_err(), wanted == limit, "{what}");
        assert_eq!(begun.elapsed(), wanted, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preparation_is_given_up_at_once_also_one_that_keeps_the_token() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone()).prepare(async |connection, _stopping| {
        hold(connection).await;
        Ok::<_, Error>(((), async {}))
    });
    service.start().unwrap();
    let mut server = stage.attempt().await.succeed();
    settle().await;
    assert!(matches!(*service.state().borrow(), ClientState::Preparing { .. }));
    let begun = Instant::now();
    service.stop().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connection() {
    let mut stage = Stage::new();
    let service =
        ClientService::builder(stage.endpoint.clone()).handle(|connection, _stopping| hold(connection));
    service.start().unwrap();
    let mut server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    let other = service.clone();
    drop(service);
    settle().await;
    server.write_all(b"x").await.expect("one handle is left");
    drop(other);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_not_waited_for_stops_all_the_same() {
    let mut stage = Stage::new();
    let service =
        ClientService::builder(stage.endpoint.clone()).handle(|connection, _stopping| hold(connection));
    service.start().unwrap();
    let attempt = stage.attempt().await;
    tokio::select! {
        biased;
        stopped = service.stop() => panic!("so soon: {stopped:?}"),
        () = std::future::ready(()) => {}
    }
    settle().await;
    assert!(attempt.is_cancelled());
    assert!(matches!(*service.state().borrow(), ClientState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_hears_of_the_end_of_one_that_is_dropped() {
    let mut stage = Stage::new();
    let last = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&last);
    let service = ClientService::builder(stage.endpoint.clone())
        .on_state(move |state| *told.lock().unwrap() = format!("{state:?}"))
        .handle(|connection, _stopping| hold(connection));
    let mut state = service.state();
    service.start().unwrap();
    stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    drop(service);
    state.wait_for(|state| matches!(state, ClientState::Stopped)).await.unwrap();
    assert_eq!(*last.lock().unwrap(), "Stopped");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_given_up_before_that_is_told() {
    for how in ["stop", "drop"] {
        let mut stage = Stage::new();
        let attempt = Arc::new(Mutex::new(None));
        let given_up = Arc::new(Mutex::new(None));
        let (seen, told) = (Arc::clone(&attempt), Arc::clone(&given_up));
        let service = ClientService::builder(stage.endpoint.clone())
            .on_state(move |state| {
                if let ClientState::Stopped = state {
                    *told.lock().unwrap() = seen.lock().unwrap().as_ref().map(Attempt::is_cancelled);
                }
            })
            .handle(|_connection, _stopping| async {});
        service.start().unwrap();
        let begun = stage.attempt().await;
        *attempt.lock().unwrap() = Some(begun);
        if how == "stop" {
            service.stop().await.unwrap();
        }
        drop(service);
        settle().await;
        assert_eq!(*given_up.lock().unwrap(), Some(true), "{how}");
    }
}

/// Runs with a clock that only passes while nothing else is to be done, and fails if there always is something.
fn without_spinning(test: impl AsyncFnOnce() + Send + 'static) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(10 * SECOND).expect("it ends");
}

/// Nobody listens, and nothing is waited for.
#[test]
fn attempts_without_a_delay_do_not_keep_a_stop_from_being_heard() {
    without_spinning(async || {
        let endpoint = Stage::new().endpoint;
        let service =
            ClientService::builder(endpoint).retry_policy(|_| Duration::ZERO).handle(|_, _| async {});
        service.start().unwrap();
        let failed = service.when_connected_within(1000).await.unwrap_err();
        assert_eq!(failed.message(), "the stage is closed");
        service.stop().await.unwrap();
    });
}

#[test]
fn one_that_was_stopped_while_it_waited_does_nothing() {
    without_spinning(async || {
        let mut stage = Stage::new();
        let service =
            ClientService::builder(stage.endpoint.clone()).retry_policy(|_| SECOND).handle(|_, _| async {});
        service.start().unwrap();
        stage.attempt().await.fail();
        tokio::time::sleep(SECOND / 2).await;
        assert!(matches!(*service.state().borrow(), ClientState::Waiting { .. }));
        service.stop().await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        assert!(stage.attempted().is_none());
    });
}
