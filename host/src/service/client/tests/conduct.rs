//! What the recorded scripts do not have.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::SECOND;
use super::script::{Stage, hold, plain, settle, until_next_attempt};
use crate::error::{Error, ErrorKind};
use crate::service::{ClientService, ClientState, Service};

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_ends_its_connection_alone() {
    let mut stage = Stage::new();
    let seen = Arc::new(Mutex::new(None));
    let sees = Arc::clone(&seen);
    let service = ClientService::builder(stage.endpoint.clone())
        .retry_policy(plain)
        .on_state(move |state| {
            if let ClientState::Waiting { .. } = state {
                *sees.lock().unwrap() = Some(state.clone());
            }
        })
        .handle(|_connection, _stopping| async { panic!("as the test wants it") });
    service.start().unwrap();
    stage.attempt().await.succeed();
    let (waited, _attempt) = until_next_attempt(&mut stage).await;
    assert_eq!(waited, SECOND);
    let ClientState::Waiting { error: Some(error), .. } = seen.lock().unwrap().clone().unwrap() else {
        panic!()
    };
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("as the test wants it"), "{error}");
}

/// In the function itself, and not in the future that it gives.
#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_at_once_ends_its_connection_alone() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone())
        .retry_policy(plain)
        .handle(|_, _| -> std::future::Ready<()> { panic!("as the test wants it") });
    service.start().unwrap();
    stage.attempt().await.succeed();
    let error = service.when_connected_within(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    stage.attempt().await.succeed();
}

#[tokio::test(start_paused = true)]
async fn a_preparation_that_panics_has_failed() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone()).retry_policy(plain).prepare(
        |connection, _stopping| async {
            drop(connection);
            if true {
                panic!("as the test wants it");
            }
            Ok::<_, Error>(((), async {}))
        },
    );
    service.start().unwrap();
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.when_connected_within(2).await }
    });
    stage.attempt().await.succeed();
    let (waited, attempt) = until_next_attempt(&mut stage).await;
    assert_eq!(waited, SECOND);
    attempt.succeed();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("as the test wants it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_preparation_is_told() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone())
        .prepare(|_connection, _stopping| async { Err::<((), std::future::Ready<()>), _>("wrong password") });
    service.start().unwrap();
    stage.attempt().await.succeed();
    let error = service.when_connected_within(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandshakeFailed);
    assert!(error.message().ends_with(": wrong password"), "{error}");
    assert!(error.is_retryable());
}

/// What a program writes may have line breaks, and sequences for a terminal.
#[tokio::test(start_paused = true)]
async fn errors_about_what_the_program_did_are_one_line() {
    const LINES: &str = "one\ntwo\r\x1b[31m";
    for how in ["prepare panics", "prepare fails", "run panics"] {
        let mut stage = Stage::new();
        let service = ClientService::builder(stage.endpoint.clone()).prepare(move |_, _| async move {
            match how {
                "prepare panics" => panic!("{LINES}"),
                "prepare fails" => Err(LINES),
                _ => Ok(((), async { panic!("{LINES}") })),
            }
        });
        service.start().unwrap();
        let mut state = service.state();
        stage.attempt().await.succeed();
        let waiting = state.wait_for(|state| matches!(state, ClientState::Waiting { .. })).await.unwrap();
        let ClientState::Waiting { error: Some(error), .. } = waiting.clone() else { panic!("{how}") };
        let message = error.message();
        assert!(message.contains("one\\ntwo") && !message.contains(char::is_control), "{how}: {message}");
        assert!(error.is_retryable(), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_state_is_told() {
    let mut stage = Stage::new();
    let states = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&states);
    let service = ClientService::builder(stage.endpoint.clone())
        .named("the one")
        .retry_policy(plain)
        .on_state(move |state| {
            told.lock().unwrap().push(match state {
                ClientState::Stopped => "stopped".to_owned(),
                ClientState::Connecting { attempt } => format!("connecting {attempt}"),
                ClientState::Preparing { attempt } => format!("preparing {attempt}"),
                ClientState::Connected { attempt, info, .. } => {
                    format!("connected {attempt} {}", info.layers()[0].scheme())
                }
                ClientState::Waiting { failures, delay, error } => {
                    format!("waiting {failures} {delay:?} {:?}", error.as_ref().map(Error::kind))
                }
                ClientState::Closing => "closing".to_owned(),
            });
        })
        .handle(|mut connection, _stopping| async move { drop(connection.read_u8().await) });
    assert_eq!(Service::name(&service), "the one");
    service.start().unwrap();
    stage.attempt().await.fail();
    let server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    drop(server);
    let _server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    service.stop().await.unwrap();
    let wanted = [
        "connecting 1",
        "waiting 1 1s Some(ConnectionRefused)",
        "connecting 2",
        "preparing 2",
        "connected 2 script",
        "waiting 1 1s None",
        "connecting 3",
        "preparing 3",
        "connected 3 script",
        "closing",
        "stopped",
    ];
    assert_eq!(*states.lock().unwrap(), wanted);
    drop(service);
    settle().await;
    assert_eq!(*states.lock().unwrap(), wanted, "that it has stopped is told once");
}

#[test]
fn it_needs_a_runtime_and_says_when_that_is_gone() {
    let stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone()).named("x").handle(|_, _| async {});
    assert_eq!(service.start().unwrap_err().kind(), ErrorKind::Internal);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { service.start() }).unwrap();
    let waiting = runtime.spawn({
        let service = service.clone();
        async move { service.ended().await }
    });
    assert!(!waiting.is_finished());
    drop(runtime);
    let error = service.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(service.ended()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(runtime.block_on(service.when_connected()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(runtime.block_on(service.stop()).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn stopping_needs_no_runtime_only_where_it_never_ran() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone()).handle(|connection, _| hold(connection));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(Service::stop(&service).as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _server = runtime.block_on(async {
        // Of one that was stopped nobody waits for a connection.
        service.stop().await.unwrap();
        assert_eq!(service.when_connected().await.unwrap_err().kind(), ErrorKind::Cancelled);
        service.start().unwrap();
        let server = stage.attempt().await.succeed();
        service.when_connected().await.unwrap();
        server
    });
    let mut stopping = Service::stop(&service);
    assert!(stopping.as_mut().poll(&mut cx).is_pending(), "it runs");
    runtime.block_on(stopping).unwrap();
    assert!(matches!(*service.state().borrow(), ClientState::Stopped));
}

#[test]
fn several_threads_may_use_one() {
    static PREPARED: AtomicUsize = AtomicUsize::new(0);
    let rounds = if cfg!(miri) { 5 } else { 200 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new();
        let service = ClientService::builder(stage.endpoint.clone())
            .retry_policy(|_| Duration::ZERO)
            .prepare(|_connection, _stopping| async {
                let number = PREPARED.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Error>((number, std::future::pending()))
            });
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                open.push(stage.attempt().await.succeed_if_wanted());
            }
        });
        let users: Vec<_> = (0..4)
            .map(|user| {
                let service = service.clone();
                tokio::spawn(async move {
                    for round in 0..rounds {
                        match (user + round) % 4 {
                            0 => service.stop().await.unwrap(),
                            _ => service.start().unwrap(),
                        }
                        if let Err(error) = service.when_connected().await {
                            assert_eq!(error.kind(), ErrorKind::Cancelled);
                        }
                    }
                })
            })
            .collect();
        for user in users {
            user.await.unwrap();
        }
        service.stop().await.unwrap();
        server.abort();
    });
}

#[tokio::test(start_paused = true)]
async fn panics_in_a_policy_and_an_observer_end_no_service() {
    let mut stage = Stage::new();
    let policy = |_failures| -> Duration { panic!("a policy, as the test wants it") };
    let service = ClientService::builder(stage.endpoint.clone())
        .retry_policy(policy)
        .on_state(|_state| panic!("an observer, as the test wants it"))
        .handle(|connection, _stopping| hold(connection));
    service.start().unwrap();
    stage.attempt().await.fail();
    let (waited, attempt) = until_next_attempt(&mut stage).await;
    // As the usual policy has it.
    assert!((SECOND..3 * SECOND).contains(&waited), "{waited:?}");
    let _server = attempt.succeed();
    service.when_connected().await.unwrap();
    assert!(matches!(*service.state().borrow(), ClientState::Connected { .. }));
    service.stop().await.unwrap();
}

/// Cannot be cloned as long as that is forbidden.
struct Fragile(Arc<AtomicBool>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Ordering::Relaxed), "as the test wants it");
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_cloning_ends_no_service() {
    let mut stage = Stage::new();
    let forbidden = Arc::new(AtomicBool::new(true));
    let fragile = Fragile(Arc::clone(&forbidden));
    let fragile = Mutex::new(Some(fragile));
    let service = ClientService::builder(stage.endpoint.clone()).prepare(move |connection, _stopping| {
        let fragile = fragile.lock().unwrap().take().unwrap();
        async move { Ok::<_, Error>((fragile, hold(connection))) }
    });
    service.start().unwrap();
    let _server = stage.attempt().await.succeed();
    for _ in 0..2 {
        let Err(error) = service.when_connected().await else { panic!() };
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    forbidden.store(false, Ordering::Relaxed);
    assert!(service.when_connected().await.is_ok(), "it goes on");
}

/// Each of them asks again as soon as it has got what is there.
#[test]
fn many_who_ask_over_and_over_do_not_hide_its_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new();
        let service = ClientService::builder(stage.endpoint.clone())
            .retry_policy(|_| Duration::ZERO)
            .prepare(|mut connection, _stopping| async move {
                let alive = Arc::new(());
                let client = Arc::downgrade(&alive);
                let run = async move {
                    let _ = connection.read_u8().await;
                    drop(alive);
                };
                Ok::<_, Error>((client, run))
            });
        service.start().unwrap();
        let server = stage.attempt().await.succeed();
        let first = service.when_connected().await.unwrap();
        let begun = std::time::Instant::now();
        let askers: Vec<_> = (0..300)
            .map(|_| {
                let (service, first) = (service.clone(), first.clone());
                tokio::spawn(async move {
                    while service.when_connected().await.unwrap().ptr_eq(&first) {
                        assert!(begun.elapsed() < 20 * SECOND, "its end is not seen");
                    }
                })
            })
            .collect();
        settle().await;
        drop(server);
        let _server = stage.attempt().await.succeed();
        for asker in askers {
            asker.await.unwrap();
        }
        assert_eq!(first.strong_count(), 0);
    });
}
