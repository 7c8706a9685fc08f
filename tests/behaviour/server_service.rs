//! The service that listens and serves: started, stopped, and everything between.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use endpoints::serve::{Event, Stopping, WhenFull};
use endpoints::service::{ServerService, ServerServiceBuilder, ServerState, Service};
use endpoints::{Connection, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;

use crate::support::{World, around, assert_kind, both_forms, echo, in_time, text};

mod alone;

both_forms!(
    it_is_started_and_stopped_any_number_of_times,
    who_connects_to_what_is_bound_waits,
    one_that_is_full_refuses,
    clones_are_the_same_service,
    starting_and_stopping_twice_does_nothing,
    what_is_cut_is_told,
    a_start_waits_for_the_end_of_a_drain,
    stopping_gives_a_start_up,
    a_start_that_is_dropped_leaves_nothing,
    what_cannot_listen_is_stopped,
    the_end_by_itself_is_told,
    a_listener_that_breaks_is_told,
    a_socket_that_others_have_shut_down_is_an_end,
    nobody_serves_when_it_is_dropped,
    one_that_is_dropped_is_told_to_have_stopped,
    a_connection_that_fails_ends_alone,
    idle_connections_need_not_be_cut,
    handlers_may_do_the_handshake,
);

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

fn builder(world: &World, description: &str) -> ServerServiceBuilder {
    ServerService::builder(world.registry.server(description).expect(description))
}

fn service(world: &World, description: &str) -> ServerService {
    builder(world, description).handle(serve)
}

/// Echoes, whether or not it is told to stop.
async fn serve(connection: Connection, _stopping: Stopping) {
    echo(connection).await;
}

/// Connects to it.
async fn reach(world: &World, service: &ServerService) -> Connection {
    world.connect(&reached_by(service)).await
}

fn reached_by(service: &ServerService) -> String {
    text(service.reachable().first().expect("a way to reach it"))
}

async fn ping(connection: &mut Connection) {
    connection.write_all(b"ping").await.expect("write");
    let mut back = [0; 4];
    in_time(connection.read_exact(&mut back)).await.expect("read");
    assert_eq!(&back, b"ping");
}

fn now(service: &ServerService) -> ServerState {
    *service.state().borrow()
}

async fn until(service: &ServerService, state: ServerState) {
    in_time(service.state().wait_for(|now| *now == state)).await.expect("it is there");
}

async fn it_is_started_and_stopped_any_number_of_times(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let unix = format!("unix:{}", path.display());
    for description in [LOCAL.to_owned(), around("pass", LOCAL), unix.clone(), around("pass", &unix)] {
        let service: Box<dyn Service> = Box::new(builder(world, &description).named("one").handle(serve));
        assert_eq!(service.name(), "one");
        let service = self::service(world, &description);
        assert_eq!(service.name(), service.endpoint().to_string());
        assert_eq!(now(&service), ServerState::Stopped);
        for round in 0..3 {
            service.start().await.expect("start");
            assert_eq!(now(&service), ServerState::Running);
            let mut client = reach(world, &service).await;
            ping(&mut client).await;
            drop(client);
            let address = reached_by(&service);
            service.stop().await.expect("stop");
            assert_eq!(now(&service), ServerState::Stopped);
            assert!(service.reachable().is_empty() && service.addresses().is_empty());
            world.connect_error(&address).await;
            assert!(!path.exists(), "{description}, round {round}");
        }
    }
}

async fn who_connects_to_what_is_bound_waits(world: &World) {
    let service = service(world, LOCAL);
    service.bind().await.expect("bind");
    service.bind().await.expect("it is bound already");
    assert_eq!(now(&service), ServerState::Bound);
    assert_eq!(service.addresses().len(), 1);
    let mut early = reach(world, &service).await;
    early.write_all(b"ping").await.expect("it waits in the backlog");
    let waited = tokio::time::timeout(Duration::from_millis(50), early.read(&mut [0])).await;
    waited.expect_err("nobody serves it yet");
    let address = reached_by(&service);
    service.start().await.expect("start");
    assert_eq!(reached_by(&service), address, "what is bound is used");
    in_time(early.read_exact(&mut [0; 4])).await.expect("its turn comes");
    service.bind().await.expect("it runs");
    assert_eq!(now(&service), ServerState::Running);
    drop(early);
    service.stop().await.expect("stop");
    // Also what is bound alone is closed.
    service.bind().await.expect("bind");
    let address = reached_by(&service);
    service.stop().await.expect("stop");
    assert_eq!(now(&service), ServerState::Stopped);
    world.connect_error(&address).await;
}

async fn one_that_is_full_refuses(world: &World) {
    let service = builder(world, LOCAL).max_connections(1).when_full(WhenFull::Refuse).handle(serve);
    service.start().await.expect("start");
    let mut first = reach(world, &service).await;
    ping(&mut first).await;
    let mut second = reach(world, &service).await;
    assert_eq!(in_time(second.read(&mut [0])).await.unwrap_or(0), 0, "it is refused");
    ping(&mut first).await;
    drop(first);
    service.stop().await.expect("stop");
}

async fn starting_and_stopping_twice_does_nothing(world: &World) {
    let service = service(world, LOCAL);
    service.stop().await.expect("it does not run");
    let (one, two) = tokio::join!(service.start(), service.start());
    one.and(two).expect("both start");
    let address = reached_by(&service);
    service.start().await.expect("it runs");
    assert_eq!(reached_by(&service), address);
    let mut client = reach(world, &service).await;
    ping(&mut client).await;
    drop(client);
    let (one, two) = tokio::join!(service.stop(), service.stop());
    one.and(two).expect("both stop");
    service.stop().await.expect("it is stopped");
}

async fn what_is_cut_is_told(world: &World) {
    let service = builder(world, LOCAL).drain_timeout(Duration::from_millis(50)).handle(serve);
    service.start().await.expect("start");
    let mut clients = [reach(world, &service).await, reach(world, &service).await];
    for client in &mut clients {
        ping(client).await;
    }
    // Both hear of it, and a waiting that was given up changes nothing.
    let given_up = async { drop(tokio::time::timeout(Duration::ZERO, service.stop()).await) };
    let (one, two, ()) = tokio::join!(service.stop(), service.stop(), given_up);
    for error in [one.expect_err("cut"), two.expect_err("cut")] {
        assert_kind(&error, ErrorKind::TimedOut);
        assert!(error.message().starts_with("2 connections were still open after 50ms"), "{error}");
    }
    assert_eq!(now(&service), ServerState::Stopped);
    for client in &mut clients {
        assert_eq!(in_time(client.read(&mut [0])).await.unwrap_or(0), 0);
    }
    service.start().await.expect("start");
    service.stop().await.expect("nothing was open");
}

async fn a_start_waits_for_the_end_of_a_drain(world: &World) {
    let service = builder(world, LOCAL).drain_timeout(Duration::from_secs(3600)).handle(serve);
    service.start().await.expect("start");
    let mut client = reach(world, &service).await;
    ping(&mut client).await;
    let stopping = tokio::spawn({
        let service = service.clone();
        async move { service.stop().await }
    });
    until(&service, ServerState::Draining).await;
    assert!(service.reachable().is_empty());
    ping(&mut client).await;
    let starting = tokio::spawn({
        let service = service.clone();
        async move { service.start().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!stopping.is_finished() && !starting.is_finished(), "the connection goes on");
    ping(&mut client).await;
    drop(client);
    in_time(stopping).await.expect("no panic").expect("nothing was cut");
    in_time(starting).await.expect("no panic").expect("started anew");
    ping(&mut reach(world, &service).await).await;
    // One that waits for a drain is given up by another stop.
    let mut client = reach(world, &service).await;
    ping(&mut client).await;
    let stop = async {
        until(&service, ServerState::Draining).await;
        tokio::join!(service.start(), async {
            tokio::task::yield_now().await;
            let stopped = tokio::join!(service.stop(), async { drop(client) }).0;
            stopped.expect("nothing was cut");
        })
    };
    let (stopped, (started, ())) = tokio::join!(service.stop(), stop);
    stopped.expect("nothing was cut");
    assert_kind(&started.expect_err("stopped again"), ErrorKind::Cancelled);
    assert_eq!(now(&service), ServerState::Stopped);
}

async fn stopping_gives_a_start_up(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let service = service(world, &around("faulty:hang-listen", &format!("unix:{}", path.display())));
    let stop = async {
        until(&service, ServerState::Binding).await;
        service.stop().await
    };
    let (one, two, stopped) = tokio::join!(service.start(), service.bind(), stop);
    stopped.expect("stop");
    assert_kind(&one.expect_err("given up"), ErrorKind::Cancelled);
    assert_kind(&two.expect_err("given up"), ErrorKind::Cancelled);
    assert_eq!(now(&service), ServerState::Stopped);
    assert!(!path.exists());
    // Also one that nobody polls any more: what it had opened is closed all the same.
    let mut starting = Box::pin(service.start());
    let waited = tokio::time::timeout(Duration::from_millis(20), &mut starting).await;
    waited.map(drop).expect_err("it hangs");
    assert!(path.exists());
    in_time(service.stop()).await.expect("stop");
    assert!(!path.exists());
    assert_kind(&in_time(starting).await.expect_err("given up"), ErrorKind::Cancelled);
}

async fn a_start_that_is_dropped_leaves_nothing(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let service = service(world, &around("faulty:hang-listen", &format!("unix:{}", path.display())));
    for _ in 0..2 {
        let waited = tokio::time::timeout(Duration::from_millis(20), service.start()).await;
        waited.map(drop).expect_err("it hangs");
        assert_eq!(now(&service), ServerState::Stopped);
        assert!(!path.exists());
    }
}

async fn what_cannot_listen_is_stopped(world: &World) {
    let other = world.listen(LOCAL).await;
    let taken = format!("tcp:{}:interface=127.0.0.1", crate::support::port(&other));
    let service = service(world, &taken);
    for _ in 0..2 {
        assert_kind(&service.start().await.expect_err("taken"), ErrorKind::AddressInUse);
        assert_eq!(now(&service), ServerState::Stopped);
    }
    other.close().await.expect("close");
    service.start().await.expect("it is free now");
    ping(&mut reach(world, &service).await).await;
    service.stop().await.expect("stop");
}

async fn the_end_by_itself_is_told(world: &World) {
    let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    // As if it had been handed down.
    rustix::io::fcntl_setfd(&near, rustix::io::FdFlags::empty()).expect("flags");
    let description = format!("fd:{}", near.as_raw_fd());
    // It is the service's from here on.
    let _ = std::os::fd::IntoRawFd::into_raw_fd(near);
    let endpoint = world.registry.server(description).expect("fd");
    let service = ServerService::builder(endpoint).handle(|mut connection, _stopping| async move {
        connection.read_exact(&mut [0; 3]).await.expect("read");
    });
    service.start().await.expect("start");
    let ended = async {
        let waited = tokio::time::timeout(Duration::from_millis(50), service.ended()).await;
        waited.map(drop).expect_err("its connection is open");
        std::io::Write::write_all(&mut &far, b"bye").expect("write");
        in_time(service.ended()).await
    };
    ended.await.expect("there are no more connections");
    assert_eq!(now(&service), ServerState::Finished);
    service.ended().await.expect("it is told still");
    service.stop().await.expect("it does not run");
    assert_eq!(now(&service), ServerState::Stopped);
}

async fn a_listener_that_breaks_is_told(world: &World) {
    let service = service(world, &around("faulty:panic-accept", LOCAL));
    for _ in 0..2 {
        service.start().await.expect("start");
        let error = in_time(service.ended()).await.expect_err("its listener is broken");
        assert_kind(&error, ErrorKind::PluginPanicked);
        assert_eq!(now(&service), ServerState::Failed);
    }
}

async fn a_socket_that_others_have_shut_down_is_an_end(world: &World) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let others = listener.try_clone().expect("one more");
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).expect("flags");
    let description = format!("fd:{}", std::os::fd::IntoRawFd::into_raw_fd(listener));
    let service = service(world, &description);
    service.start().await.expect("start");
    ping(&mut reach(world, &service).await).await;
    rustix::net::shutdown(&others, rustix::net::Shutdown::Both).expect("shutdown");
    let error = in_time(service.ended()).await.expect_err("it listens no more");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::INVAL.raw_os_error()), "{error}");
    assert_eq!(now(&service), ServerState::Failed);
}

async fn nobody_serves_when_it_is_dropped(world: &World) {
    for bound in [true, false] {
        let service = service(world, LOCAL);
        service.bind().await.expect("bind");
        let address = reached_by(&service);
        let mut client = reach(world, &service).await;
        let state = service.state();
        if !bound {
            service.start().await.expect("start");
            ping(&mut client).await;
        }
        drop(service);
        assert_eq!(in_time(client.read(&mut [0])).await.unwrap_or(0), 0, "{bound}");
        // Nothing lives on that could change it.
        let mut state = state;
        in_time(async { while state.changed().await.is_ok() {} }).await;
        world.connect_error(&address).await;
    }
}

async fn clones_are_the_same_service(world: &World) {
    let service = service(world, LOCAL);
    let clone = service.clone();
    clone.start().await.expect("start");
    assert_eq!(now(&service), ServerState::Running);
    assert_eq!(reached_by(&service), reached_by(&clone));
    drop(service);
    // It goes on as long as there is one.
    ping(&mut reach(world, &clone).await).await;
    let (address, mut state) = (reached_by(&clone), clone.state());
    drop(clone);
    in_time(state.wait_for(|now| *now == ServerState::Stopped)).await.expect("it is told");
    world.connect_error(&address).await;
}

async fn one_that_is_dropped_is_told_to_have_stopped(world: &World) {
    for bound in [true, false] {
        let service = service(world, LOCAL);
        service.bind().await.expect("bind");
        let address = reached_by(&service);
        let mut state = service.state();
        if !bound {
            service.start().await.expect("start");
        }
        drop(service);
        in_time(state.wait_for(|now| *now == ServerState::Stopped)).await.expect("it is told");
        world.connect_error(&address).await;
    }
}

async fn a_connection_that_fails_ends_alone(world: &World) {
    let (told, mut errors) = unbounded_channel();
    let tell = move |event: &Event<'_>| {
        if let Event::Error { id, error, .. } = event {
            let _ = told.send((*id, error.kind()));
        }
    };
    let service = builder(world, &around("faulty:error", LOCAL)).on_event(tell).handle(serve);
    service.start().await.expect("start");
    let plain = format!("tcp:{}", service.addresses()[0]);
    for id in 1..=2 {
        let _client = world.connect(&plain).await;
        let (of, _) = in_time(errors.recv()).await.expect("it runs");
        assert_eq!(of, Some(id));
    }
    service.stop().await.expect("stop");
    // Nor does a handler that panics end anything.
    let panics = AtomicBool::new(true);
    let service = builder(world, LOCAL).handle(move |connection, _stopping| {
        let panics = panics.swap(false, Ordering::SeqCst);
        async move {
            assert!(!panics, "on purpose");
            echo(connection).await;
        }
    });
    service.start().await.expect("start");
    let mut client = reach(world, &service).await;
    assert_eq!(in_time(client.read(&mut [0])).await.unwrap_or(0), 0);
    ping(&mut reach(world, &service).await).await;
    service.stop().await.expect("stop");
}

async fn idle_connections_need_not_be_cut(world: &World) {
    let builder = builder(world, &around("pass", LOCAL)).drain_timeout(Duration::from_secs(3600));
    let service = builder.handle(|mut connection, stopping| async move {
        let mut byte = [0];
        tokio::select! {
            read = connection.read(&mut byte) => panic!("nothing is sent: {read:?}"),
            () = stopping.wait() => connection.write_all(b"bye").await.expect("write"),
        }
    });
    service.start().await.expect("start");
    let mut client = reach(world, &service).await;
    let waited = tokio::time::timeout(Duration::from_millis(20), client.read(&mut [0])).await;
    waited.map(drop).expect_err("it is not told yet");
    in_time(service.stop()).await.expect("nothing was cut");
    let mut said = String::new();
    in_time(client.read_to_string(&mut said)).await.expect("its end");
    assert_eq!(said, "bye");
}

async fn handlers_may_do_the_handshake(world: &World) {
    let builder = builder(world, &around("pass", LOCAL)).drain_timeout(Duration::from_secs(3600));
    let service = builder.handle_incoming(|id, incoming| async move {
        let stopping = incoming.stopping();
        let mut connection = incoming.await.expect("handshake");
        connection.write_all(id.to_string().as_bytes()).await.expect("write");
        stopping.wait().await;
    });
    for _ in 0..2 {
        service.start().await.expect("start");
        for id in ["1", "2"] {
            let mut client = reach(world, &service).await;
            let mut said = [0];
            in_time(client.read_exact(&mut said)).await.expect("read");
            assert_eq!(said, id.as_bytes(), "counted from 1 each time");
        }
        in_time(service.stop()).await.expect("all heard of it");
    }
}
