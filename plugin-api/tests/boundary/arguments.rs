//! Instances of plugins: arguments by their types, endpoints among them, and services that are not there.

use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::bytes::RSlice;
use endpoints_plugin_api::abi::conn::Taken;
use endpoints_plugin_api::abi::endpoint::{Foreign, REndpoint, REndpointResult};
use endpoints_plugin_api::abi::host::{CLIENT, RHost, SERVER};
use endpoints_plugin_api::abi::instance::{Constructor, Given, Instance};
use endpoints_plugin_api::abi::module::{RArgument, RCreated, create};
use endpoints_plugin_api::abi::services::{Services, Watched};
use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, ErrorKind, Host, Plugin,
};

/// A host that can do nothing.
struct Nothing;

fn none<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unsupported, "there is no runtime"))
}

impl Services for Nothing {
    type Watched = Self;

    fn endpoint(&self, _: u32, _: &[u8]) -> Result<Foreign, Error> {
        panic!("a host that panics")
    }

    fn finish_connect(
        &self,
        _: OwnedFd,
    ) -> impl Future<Output = Result<Taken, Error>> + Send + 'static + use<> {
        async { none() }
    }

    fn adopt(&self, _: OwnedFd) -> Result<Taken, Error> {
        none()
    }

    fn watch(&self, _: RawFd) -> Result<Self, Error> {
        none()
    }

    fn sleep(&self, _: Duration) -> Result<impl Future<Output = ()> + Send + 'static + use<>, Error> {
        Ok(pending())
    }

    fn spawn(&self, _: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        none()
    }

    fn spawn_blocking(&self, _: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        none()
    }

    fn resolve(
        &self,
        _: &str,
        _: u16,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, Error>> + Send + 'static + use<> {
        async { none() }
    }

    fn log_enabled(&self, _: u32) -> bool {
        false
    }

    fn log(&self, _: u32, _: &str) {}
}

impl Watched for Nothing {
    fn poll_io(
        &self,
        _: &mut Context<'_>,
        _: bool,
        _: &mut dyn FnMut() -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// Checks its arguments; what the scheme is called says which.
struct Checker(Host);

impl Plugin for Checker {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self(host))
    }

    fn client(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        match scheme {
            "getters" => getters(arguments)?,
            "nested" => return arguments.client("endpoint"),
            "ignores" => {}
            "host" => return self.0.client("tcp:80"),
            _ => panic!("in the making"),
        }
        Ok(Client::new(Never(Arc::new(()))))
    }
}

struct Never(#[expect(dead_code, reason = "counted")] Arc<()>);

impl Connect for Never {
    async fn connect(&self, _: ConnectContext) -> Result<Connection, Error> {
        Err(Error::new(ErrorKind::Unreachable, "never"))
    }
}

fn getters(arguments: &mut Arguments<'_>) -> Result<(), Error> {
    assert_eq!(arguments.text("host")?, "example.com");
    assert_eq!(arguments.bytes("path")?, b"/tmp/\xff");
    assert_eq!(arguments.path("path")?, Path::new(std::ffi::OsStr::new("/tmp/")).join(os(b"\xff")));
    assert_eq!(arguments.port("port")?, 80);
    assert_eq!(arguments.integer("big")?, 1 << 40);
    assert_eq!(arguments.duration("timeout")?, Duration::from_millis(1500));
    assert!(arguments.flag("on")?);
    assert!(!arguments.flag("off")?);
    assert_eq!(arguments.opt_ip("ip")?, Some(IpAddr::from([192, 0, 2, 1])));
    assert!(arguments.is_given("host") && !arguments.is_given("on") && !arguments.is_given("absent"));
    assert_eq!(arguments.opt_bytes("absent"), None);
    assert_eq!(arguments.opt_text("absent")?, None);
    assert_eq!((arguments.opt_path("absent"), arguments.opt_integer("absent")), (None, None));
    assert_eq!((arguments.opt_duration("absent"), arguments.opt_ip("absent")?), (None, None));
    assert!(arguments.opt_client("absent")?.is_none() && arguments.opt_server("absent")?.is_none());
    for mistake in [
        arguments.text("absent").err(),
        arguments.text("path").err(),
        arguments.port("big").err(),
        arguments.opt_ip("host").err(),
        arguments.flag("absent").err(),
        arguments.client("absent").err(),
        arguments.client("host").err(),
        arguments.server("absent").err(),
    ] {
        assert_eq!(mistake.expect("a mistake of the plugin").kind(), ErrorKind::Internal);
    }
    Ok(())
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

fn given<'a>(name: &'a str, value: &'a [u8], number: u64) -> Given<'a> {
    Given { name, value, number, given: name == "host", endpoint: None }
}

fn all() -> [Given<'static>; 8] {
    [
        given("host", b"example.com", 0),
        given("path", b"/tmp/\xff", 0),
        given("port", b"80", 80),
        given("big", b"1099511627776", 1 << 40),
        given("timeout", b"1.5", 1_500_000_000),
        given("on", b"1", 1),
        given("off", b"0", 0),
        given("ip", b"192.0.2.1", 0),
    ]
}

fn instance() -> Instance {
    Instance::create(Constructor::of::<Checker>(), Arc::new(Nothing)).unwrap()
}

#[test]
fn getters_give_what_the_host_checked() {
    instance().endpoint(CLIENT, "getters", &mut all()).unwrap();
}

#[test]
fn arguments_of_a_newer_host_are_longer() {
    #[repr(C)]
    struct Newer {
        known: RArgument,
        unknown: [u64; 2],
    }
    let all = all();
    let mut newer: Vec<Newer> = all
        .iter()
        .map(|given| Newer {
            known: RArgument {
                size: size_of::<Newer>(),
                name: RSlice::new(given.name.as_bytes()),
                value: RSlice::new(given.value),
                number: given.number,
                given: u32::from(given.given),
                reserved: 0,
                endpoint: REndpoint::NONE,
            },
            unknown: [u64::MAX; 2],
        })
        .collect();
    let (mut created, mut out) = (RCreated::absent(), REndpointResult::absent());
    // SAFETY: the host is given up, and the instance freed at the end; everything else is lent for the call.
    unsafe {
        create::<Checker>(RHost::new(Arc::new(Nothing)), &raw mut created);
        let scheme = RSlice::new(b"getters");
        ((*created.vt).endpoint)(
            created.data,
            CLIENT,
            scheme,
            newer.as_mut_ptr().cast(),
            newer.len(),
            &raw mut out,
        );
        ((*created.vt).drop)(created.data);
        out.take().unwrap();
    }
}

#[test]
fn endpoints_are_taken_once_or_freed() {
    let (instance, count) = (instance(), Arc::new(()));
    let with_endpoint = || {
        // A client of a plugin, as the host has it.
        // SAFETY: just made, and owned.
        let endpoint = unsafe { Foreign::new(Nested(Arc::clone(&count)).into_raw()) };
        [Given { endpoint: Some(endpoint), ..given("endpoint", b"tcp:80", 0) }]
    };
    let endpoint = instance.endpoint(CLIENT, "nested", &mut with_endpoint()).unwrap();
    assert_eq!(Arc::strong_count(&count), 2);
    let mut connecting = pin!(endpoint.connect(None, b""));
    let polled = connecting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Unreachable));
    drop(endpoint);
    assert_eq!(Arc::strong_count(&count), 1);
    for scheme in ["ignores", "panics"] {
        drop(instance.endpoint(CLIENT, scheme, &mut with_endpoint()));
        assert_eq!(Arc::strong_count(&count), 1, "{scheme}");
    }
}

/// A nested endpoint that a host has made.
struct Nested(Arc<()>);

impl Nested {
    fn into_raw(self) -> REndpoint {
        REndpoint::new(Arc::new(self))
    }
}

impl endpoints_plugin_api::abi::endpoint::Export for Nested {
    async fn connect(self: Arc<Self>, _: Option<Duration>, _: Vec<u8>) -> Result<Taken, Error> {
        Err(Error::new(ErrorKind::Unreachable, "never"))
    }

    async fn listen(self: Arc<Self>) -> Result<endpoints_plugin_api::abi::listener::Foreign, Error> {
        none()
    }

    fn describe(&self) -> Vec<u8> {
        let _ = &self.0;
        Vec::new()
    }
}

#[test]
fn what_goes_wrong_in_the_making_is_an_error() {
    let instance = instance();
    let kind = |role, scheme| instance.endpoint(role, scheme, &mut []).unwrap_err().kind();
    assert_eq!(kind(CLIENT, "panics"), ErrorKind::Panicked);
    assert_eq!(kind(CLIENT, "host"), ErrorKind::Internal, "the host panicked, not the plugin");
    assert_eq!(kind(CLIENT, "nested"), ErrorKind::Internal);
    assert_eq!(kind(SERVER, "getters"), ErrorKind::Unsupported);
    assert_eq!(kind(7, "getters"), ErrorKind::Internal);
}

#[test]
fn plugins_that_cannot_be_set_up_say_why_and_let_the_host_go() {
    struct Refuses;
    impl Plugin for Refuses {
        fn new(_: Host) -> Result<Self, Error> {
            none()
        }
    }
    struct Panics;
    impl Plugin for Panics {
        fn new(host: Host) -> Result<Self, Error> {
            let _more = host.clone();
            panic!("while it is set up")
        }
    }
    let services = Arc::new(Nothing);
    let error = Instance::create(Constructor::of::<Refuses>(), Arc::clone(&services)).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, "there is no runtime"));
    let error = Instance::create(Constructor::of::<Panics>(), Arc::clone(&services)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    let made = Instance::create(Constructor::of::<Checker>(), Arc::clone(&services)).unwrap();
    assert_eq!(Arc::strong_count(&services), 2);
    drop(made);
    assert_eq!(Arc::strong_count(&services), 1);
}
