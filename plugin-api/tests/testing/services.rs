//! The services of the host, as a plugin calls them.

use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use endpoints_plugin_api::testing::TestHost;
use endpoints_plugin_api::{
    ConnectContext, Error, ErrorKind, Host, Interest, ListenContext, LogLevel, Plugin,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

/// Gives its host away, for the test to call.
struct Lends;

static HOST: Mutex<Option<Host>> = Mutex::new(None);

impl Plugin for Lends {
    fn new(host: Host) -> Result<Self, Error> {
        *HOST.lock().unwrap() = Some(host);
        Ok(Self)
    }
}

/// The services of a host in memory. Of tests that run at the same time, each gets its own.
fn services(host: &TestHost) -> Host {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    host.plugin::<Lends>().unwrap();
    HOST.lock().unwrap().take().unwrap()
}

#[tokio::test(start_paused = true)]
async fn time_passes_as_the_runtime_says() {
    let lent = services(&TestHost::new());
    let begun = Instant::now();
    lent.sleep(Duration::from_secs(3600)).await;
    assert!(begun.elapsed() >= Duration::from_secs(3600));
    let error = lent.timeout(Duration::from_secs(60), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(Error::from(error).kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn descriptions_are_names() {
    let host = TestHost::new();
    let lent = services(&host);
    let server = lent.server("tcp:8080").unwrap();
    let mut listener = server.listen(ListenContext::default()).await.unwrap();
    let client = lent.client(b"tcp:8080").unwrap();
    let mut connected = client.connect(ConnectContext::default()).await.unwrap();
    let mut accepted = listener.accept().await.unwrap().await.unwrap();
    connected.write_all(b"x").await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    let error = lent.client("other").unwrap().connect(ConnectContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn log_lines_are_kept() {
    let host = TestHost::new();
    let lent = services(&host);
    lent.log(LogLevel::Trace, "all");
    host.set_log_level(LogLevel::Info);
    assert!(lent.log_enabled(LogLevel::Info) && !lent.log_enabled(LogLevel::Debug));
    for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
        lent.log(level, "some");
    }
    let expected = [
        (LogLevel::Trace, "all".to_owned()),
        (LogLevel::Error, "some".to_owned()),
        (LogLevel::Warn, "some".to_owned()),
        (LogLevel::Info, "some".to_owned()),
    ];
    assert_eq!(host.logged(), expected);
}

#[tokio::test]
async fn tasks_and_watched_descriptors_are_told_of_until_they_end() {
    let host = TestHost::new();
    let lent = services(&host);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    lent.spawn(async move { drop(stopped.await) }).unwrap();
    assert_eq!(host.left_open(), ["a spawned task"]);
    stop.send(()).unwrap();
    while !host.left_open().is_empty() {
        tokio::task::yield_now().await;
    }
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let watched = lent.watch(near).unwrap();
    assert!(host.left_open()[0].starts_with("the watched descriptor"), "{host:?}");
    let mut bytes = [0; 8];
    let receiving = watched.io(Interest::Read, |near| near.recv(&mut bytes));
    let sending = async {
        tokio::task::yield_now().await;
        far.send(b"abc")
    };
    assert_eq!(tokio::try_join!(receiving, sending).unwrap(), (3, 3));
    drop(watched);
    assert!(host.left_open().is_empty());
    let file = std::fs::File::open("/etc/passwd").unwrap();
    assert!(lent.watch(file).unwrap_err().message().contains("cannot be watched"));
}

#[tokio::test]
async fn names_are_those_of_the_test_or_of_the_system() {
    let host = TestHost::new();
    host.resolves("app.example", ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
    host.resolves("nowhere.example", []);
    let lent = services(&host);
    let addresses = lent.resolve("app.example", 80).await.unwrap();
    assert_eq!(addresses, ["192.0.2.1:80".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()]);
    let error = lent.resolve("nowhere.example", 80).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameResolution);
    let addresses = lent.resolve("localhost", 80).await.unwrap();
    assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    assert_eq!(lent.resolve("no..body", 80).await.unwrap_err().kind(), ErrorKind::NameResolution);
}

#[tokio::test]
async fn threads_without_a_runtime_are_served_too() {
    let lent = services(&TestHost::new());
    let elsewhere = lent.clone();
    let thread = std::thread::spawn(move || {
        elsewhere.spawn(async {}).unwrap();
        elsewhere.sleep(Duration::from_millis(1))
    });
    // What it made there is awaited here.
    thread.join().unwrap().await;
    assert_eq!(lent.blocking(|| 7).await.unwrap(), 7);
}
