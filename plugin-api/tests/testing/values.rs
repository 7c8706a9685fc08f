//! Arguments arrive as a host gives them.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use endpoints_plugin_api::testing::{TestHost, Values};
use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, Facts, Host, Plugin,
};

/// Looks at all arguments while the endpoint is made.
struct Reads;

impl Plugin for Reads {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn client(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        if scheme != "reads" {
            return Err(Error::invalid_argument("name", format!("{scheme} is not read")));
        }
        assert_eq!(arguments.text("text")?, "second");
        assert_eq!(arguments.bytes("bytes")?, b"\xff\0");
        assert_eq!(arguments.path("path")?, Path::new("/run/x"));
        assert_eq!(arguments.integer("integer")?, u64::MAX);
        assert_eq!(arguments.port("port")?, 80);
        assert_eq!(arguments.integer("mode")?, 0o660);
        assert_eq!(arguments.bytes("mode")?, b"660");
        assert!(arguments.flag("on")? && !arguments.flag("off")?);
        assert_eq!(arguments.duration("duration")?, Duration::from_millis(1500));
        assert_eq!(arguments.list("list")?, ["a", "b"]);
        assert_eq!(arguments.opt_ip("ip")?, "2001:db8::1".parse::<IpAddr>().ok());
        assert_eq!(arguments.opt_text("absent")?, None);
        assert!(arguments.is_given("text") && !arguments.is_given("port") && !arguments.is_given("absent"));
        assert!(arguments.opt_client("nested")?.is_some());
        assert!(arguments.opt_client("nested").is_err(), "it is taken once");
        Ok(Client::new(Described))
    }
}

struct Described;

impl Connect for Described {
    async fn connect(&self, context: ConnectContext) -> Result<Connection, Error> {
        let time = format!("{:?}", context.time_left);
        Ok(Connection::from_stream(tokio::io::empty()).with_fact("time", time).with_facts(context.origin))
    }

    fn describe(&self) -> Facts {
        Facts::new().with("text", "final")
    }
}

fn values() -> Values {
    Values::new()
        .text("text", "first")
        .text("text", "second")
        .bytes("bytes", b"\xff\0")
        .path("path", "/run/x")
        .integer("integer", u64::MAX)
        .integer("port", 80)
        .by_default("port")
        .mode("mode", 0o660)
        .flag("on", true)
        .flag("off", false)
        .duration("duration", Duration::from_millis(1500))
        .list("list", &["a", "b"])
        .text("ip", "2001:db8::1")
        .client("nested", "somewhere")
}

#[tokio::test]
async fn values_of_every_type_are_read_by_their_getters() {
    let host = TestHost::new();
    let plugin = host.plugin::<Reads>().unwrap();
    let client = plugin.client("reads", &values()).unwrap();
    assert_eq!(client.describe().get("text"), Some(&b"final"[..]));
    let mut context = ConnectContext::default();
    context.time_left = Some(Duration::from_secs(3));
    context.origin = Facts::new().with("peer.ip", "192.0.2.1:1");
    let mut connection = client.connect_with(context).await.unwrap();
    assert_eq!(connection.facts().get("time"), Some(&b"Some(3s)"[..]));
    assert_eq!(connection.facts().get("peer.ip"), Some(&b"192.0.2.1:1"[..]));
}

#[tokio::test]
async fn what_the_plugin_says_against_them_comes_back() {
    let host = TestHost::new();
    let plugin = host.plugin::<Reads>().unwrap();
    let error = plugin.client("other", &values()).unwrap_err();
    assert_eq!((error.argument(), error.message()), (Some("name"), "other is not read"));
    let error = plugin.server("reads", &values()).unwrap_err();
    assert_eq!(error.message(), "reads has no server side");
    // A panic is contained, as in a host.
    let error = plugin.client("reads", &values().text("text", "third")).unwrap_err();
    assert_eq!(error.kind(), endpoints_plugin_api::ErrorKind::Panicked);
}
