//! What is the same whichever form plugins have.

use std::env;
use std::process::Command;
use std::time::Duration;

use endpoints::ErrorKind;
use endpoints::service::{ServerService, ServerState};

use super::{LOCAL, now, ping, service};
use crate::support::{World, assert_kind, in_a_namespace};

#[test]
fn it_needs_a_runtime() {
    let world = World::built_in();
    let service = service(&world, LOCAL);
    let poll = |future: &mut (dyn Future<Output = _> + Unpin)| {
        std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    };
    let std::task::Poll::Ready(started) = poll(&mut Box::pin(service.start())) else { panic!("it waits") };
    assert_kind(&started.expect_err("no runtime"), ErrorKind::Internal);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(service.bind()).expect("bind");
    let std::task::Poll::Ready(started) = poll(&mut Box::pin(service.start())) else { panic!("it waits") };
    assert_kind(&started.expect_err("no runtime"), ErrorKind::Internal);
    assert_eq!(now(&service), ServerState::Bound);
    let std::task::Poll::Ready(stopped) = poll(&mut Box::pin(service.stop())) else { panic!("it waits") };
    stopped.expect("it listens no more");
    assert_eq!(now(&service), ServerState::Stopped);
    // One that ends with the runtime says so.
    runtime.block_on(service.start()).expect("start");
    drop(runtime);
    assert_eq!(now(&service), ServerState::Failed);
}

/// Set where low ports can be opened.
const INSIDE: &str = "ENDPOINTS_TEST_SERVER_SERVICE";

#[test]
fn privileges_are_needed_to_bind_alone() {
    let script = "ip link set lo up || exit 77; exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--net", "sh", "-c", script, "sh"])
        .arg(env::current_exe().expect("this test"))
        .args(["--exact", "server_service::alone::inside", "--ignored", "--nocapture"])
        .env(INSIDE, "1");
    in_a_namespace("privileged start", &mut command);
}

#[tokio::test]
#[ignore = "run by privileges_are_needed_to_bind_alone, in a network of its own"]
async fn inside() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    if env::var_os(INSIDE).is_none() {
        return;
    }
    let world = World::built_in();
    let service = service(&world, "tcp:80:interface=127.0.0.1");
    service.bind().await.expect("with the right to it");
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .expect("privileges can be given up");
    let other = world.listen_error("tcp:81:interface=127.0.0.1").await;
    assert_kind(&other, ErrorKind::PermissionDenied);
    service.start().await.expect("without any");
    ping(&mut world.connect("tcp:127.0.0.1:80").await).await;
    service.stop().await.expect("stop");
    // It would need them again.
    assert_kind(&service.start().await.expect_err("no right"), ErrorKind::PermissionDenied);
}

#[test]
fn it_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<ServerService>();
}

#[test]
fn where_it_listens_can_be_asked_while_its_state_is_looked_at() {
    let world = World::built_in();
    let service = service(&world, LOCAL);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(service.start()).expect("start");
    let state = service.state();
    let look = state.borrow();
    // It cannot tell its state meanwhile, and so waits in the middle of that.
    let stopping = runtime.spawn({
        let service = service.clone();
        async move { service.stop().await }
    });
    std::thread::sleep(Duration::from_millis(50));
    let (answer, asked) = std::sync::mpsc::channel();
    std::thread::spawn({
        let service = service.clone();
        move || answer.send(service.reachable().len())
    });
    asked.recv_timeout(Duration::from_secs(20)).expect("an answer");
    drop(look);
    runtime.block_on(stopping).expect("no panic").expect("stop");
}
