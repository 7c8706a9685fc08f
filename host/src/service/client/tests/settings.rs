//! What can be set: times, and several endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use endpoints_plugin_api as api;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::SECOND;
use super::script::{Stage, hold, plain, until_next_attempt};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::serve::Stopping;
use crate::service::{ClientService, ClientState, Order, Service};

#[tokio::test(start_paused = true)]
async fn preparing_has_a_time_limit() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone())
        .retry_policy(plain)
        .prepare_timeout(5 * SECOND)
        .prepare(|mut connection, _stopping| async move {
            connection.read_u8().await?;
            Ok::<_, std::io::Error>(((), async {}))
        });
    service.start().unwrap();
    let mut server = stage.attempt().await.succeed();
    let begun = Instant::now();
    let error = service.when_connected_within(1).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::TimedOut, 5 * SECOND));
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
}

#[tokio::test(start_paused = true)]
async fn connecting_has_a_time_limit_of_its_own() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone())
        .connect_timeout(7 * SECOND)
        .handle(|_connection, _stopping| async {});
    service.start().unwrap();
    let _attempt = stage.attempt().await;
    let begun = Instant::now();
    let error = service.when_connected_within(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // Deadlines are of the system's clock, which goes on here.
    assert!((7 * SECOND..8 * SECOND).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_goes_through_all_endpoints() {
    let [mut first, mut second] = [Stage::new(), Stage::new()];
    let service = ClientService::builder(first.endpoint.clone())
        .or(second.endpoint.clone())
        .retry_policy(plain)
        .handle(|connection, _stopping| hold(connection));
    service.start().unwrap();
    first.attempt().await.fail();
    second.attempt().await.fail();
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.when_connected_within(1).await.unwrap_err() }
    });
    let (waited, attempt) = until_next_attempt(&mut first).await;
    assert_eq!(waited, SECOND, "one wait for both");
    attempt.fail();
    second.attempt().await.fail();
    let error = waiting.await.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let names = [first.endpoint.to_string(), second.endpoint.to_string()];
    assert!(names.iter().all(|name| error.message().contains(name)), "{error}");
    first.attempt().await.fail();
    second.attempt().await.succeed();
    service.when_connected().await.unwrap();
    let ClientState::Connected { endpoint, .. } = service.state().borrow().clone() else { panic!() };
    assert_eq!(endpoint.to_string(), second.endpoint.to_string());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_could_not_be_prepared_comes_last_next_time() {
    let [mut first, mut second] = [Stage::new(), Stage::new()];
    let good = Arc::new(AtomicBool::new(false));
    let is_good = Arc::clone(&good);
    let service = ClientService::builder(first.endpoint.clone()).or(second.endpoint.clone()).prepare(
        move |mut connection, _stopping| {
            let good = is_good.swap(true, Ordering::Relaxed);
            async move {
                let run = async move { drop(connection.read_u8().await) };
                if good { Ok(((), run)) } else { Err("a replica that only reads") }
            }
        },
    );
    service.start().unwrap();
    first.attempt().await.succeed();
    let server = second.attempt().await.succeed();
    service.when_connected().await.unwrap();
    assert!(first.attempted().is_none());
    let ClientState::Connected { endpoint, .. } = service.state().borrow().clone() else { panic!() };
    assert_eq!(endpoint.to_string(), second.endpoint.to_string());
    drop(server);
    let _server = first.attempt().await.succeed();
    service.when_connected().await.unwrap();
    assert!(second.attempted().is_none(), "the order is as before once one was good");
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_once_a_connection_has_lasted() {
    let mut stage = Stage::new();
    let service = ClientService::builder(stage.endpoint.clone())
        .retry_policy(plain)
        .reset_after(10 * SECOND)
        .handle(|mut connection, _stopping| async move { drop(connection.read_u8().await) });
    service.start().unwrap();
    let mut waits = Vec::new();
    let mut attempt = stage.attempt().await;
    for lasts in [1, 9, 11, 2] {
        let server = attempt.succeed();
        service.when_connected().await.unwrap();
        tokio::time::sleep(lasts * SECOND).await;
        drop(server);
        let (waited, next) = until_next_attempt(&mut stage).await;
        waits.push(waited.as_secs());
        attempt = next;
    }
    assert_eq!(waits, [1, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_one_endpoint_is_its_own_and_that_of_several_is_of_the_firsts_kind() {
    let [mut first, mut second] = [Stage::new(), Stage::new()];
    for several in [false, true] {
        let mut builder = ClientService::builder(first.endpoint.clone());
        if several {
            builder = builder.or(second.endpoint.clone());
        }
        let service = builder.handle(|_, _| async {});
        service.start().unwrap();
        first.attempt().await.fail();
        if several {
            second.attempt().await.fail_with(api::Error::new(api::ErrorKind::NotFound, "no such socket"));
        }
        let waiting = |state: &ClientState| matches!(state, ClientState::Waiting { .. });
        let waiting = service.state().wait_for(waiting).await.unwrap().clone();
        let ClientState::Waiting { error: Some(error), .. } = waiting else { panic!() };
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionRefused, true));
        assert_eq!(error.message() == "nobody listens there", !several, "{error}");
    }
}

/// The limit is of the system's clock, and shorter than anybody would set it.
#[tokio::test]
async fn each_endpoint_has_the_time_limit_for_itself() {
    let [mut first, mut second] = [Stage::new(), Stage::new()];
    let limit = Duration::from_millis(100);
    let service = ClientService::builder(first.endpoint.clone())
        .or(second.endpoint.clone())
        .connect_timeout(limit)
        .handle(|_, _| async {});
    let begun = std::time::Instant::now();
    service.start().unwrap();
    let _attempts = (first.attempt().await, second.attempt().await);
    service.when_connected_within(1).await.unwrap_err();
    assert!(begun.elapsed() >= 2 * limit, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_tried_in_a_random_order_if_wanted() {
    let [mut first, mut second] = [Stage::new(), Stage::new()];
    let service = ClientService::builder(first.endpoint.clone())
        .or(second.endpoint.clone())
        .order(Order::Random)
        .retry_policy(plain)
        .handle(|_, _| async {});
    service.start().unwrap();
    let mut firsts = [0, 0];
    for _ in 0..64 {
        tokio::select! {
            attempt = first.attempt() => {
                firsts[0] += 1;
                attempt.fail();
                second.attempt().await.fail();
            }
            attempt = second.attempt() => {
                firsts[1] += 1;
                attempt.fail();
                first.attempt().await.fail();
            }
        }
    }
    assert!(firsts.iter().all(|times| *times > 0), "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_as_documented() {
    let mut stage = Stage::new();
    // As every `async fn`, it keeps the token.
    async fn keep(connection: Connection, _stopping: Stopping) {
        hold(connection).await;
    }
    let service = ClientService::builder(stage.endpoint.clone()).handle(keep);
    assert_eq!(Service::name(&service), stage.endpoint.to_string());
    service.start().unwrap();
    for shortest in [1500, 2250, 3375] {
        stage.attempt().await.fail();
        let waiting = service
            .state()
            .wait_for(|state| matches!(state, ClientState::Waiting { .. }))
            .await
            .unwrap()
            .clone();
        let ClientState::Waiting { delay, .. } = waiting else { panic!() };
        let shortest = Duration::from_millis(shortest);
        assert!((shortest..shortest + SECOND).contains(&delay), "{delay:?}");
    }
    let _server = stage.attempt().await.succeed();
    service.when_connected().await.unwrap();
    let begun = Instant::now();
    assert_eq!(service.stop().await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(begun.elapsed(), 10 * SECOND);

    let service = ClientService::builder(stage.endpoint.clone()).prepare(async |connection, _stopping| {
        hold(connection).await;
        Ok::<_, Error>(((), async {}))
    });
    service.start().unwrap();
    let _server = stage.attempt().await.succeed();
    let begun = Instant::now();
    assert_eq!(service.when_connected_within(1).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(begun.elapsed(), 30 * SECOND);
}
