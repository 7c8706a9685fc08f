//! The spans of connections.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use endpoints::{ConnectionInfo, Registry, RoleKind};
use endpoints_tests::make_certificates;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

type Fields = BTreeMap<&'static str, String>;

/// Keeps the fields of the last span.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Fields>>);

struct Into<'f>(&'f mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = self.0.lock().unwrap();
        fields.clear();
        span.record(&mut Into(&mut fields));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Into(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn fields(info: &ConnectionInfo, role: RoleKind) -> Fields {
    let keeper = Keeper::default();
    tracing::subscriber::with_default(keeper.clone(), || drop(info.span(role)));
    let fields = keeper.0.lock().unwrap();
    fields.clone()
}

/// What both sides know of a connection.
async fn both(server: &str, client: impl FnOnce(u16) -> String) -> [ConnectionInfo; 2] {
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let listener = registry.server(server).expect(server).listen().await.expect("a listener");
    let port = listener.addresses()[0].port().unwrap_or_default();
    let client = registry.client(client(port)).expect("a client");
    let accepted = async { listener.accept().await.expect("accepted").await.expect("a connection") };
    let (accepted, connected) = tokio::join!(accepted, client.connect());
    [accepted.info(), connected.expect("connected").info()]
}

fn is(fields: &Fields, name: &str, value: &str) {
    assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name} in {fields:?}");
}

#[tokio::test]
async fn tls_over_tcp() {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(folder.path()).expect("certificates");
    let at = endpoints::quote_str(folder.path().to_str().expect("UTF-8")).into_owned();
    let server = format!("tls:{at}/server.pem:0:interface=127.0.0.1:alpn=h2");
    let client =
        |port| format!(r"tls:localhost:{port}:trustRoots={at}/trust:alpn=h2:endpoint=tcp\:127.0.0.1\:{port}");
    let [accepted, connected] = both(&server, client).await;
    let own = connected.local_addr().and_then(|address| address.port()).expect("a port").to_string();
    let theirs = accepted.local_addr().and_then(|address| address.port()).expect("a port").to_string();
    for (info, role, peer) in [(&accepted, RoleKind::Server, &own), (&connected, RoleKind::Client, &theirs)] {
        let fields = fields(info, role);
        for (name, value) in [
            ("endpoints.layers", "tls,tcp"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("network.peer.address", "127.0.0.1"),
            ("network.peer.port", peer),
            ("network.local.address", "127.0.0.1"),
            ("tls.protocol.name", "tls"),
            ("tls.protocol.version", "1.3"),
            ("tls.next_protocol", "h2"),
            ("tls.resumed", "false"),
        ] {
            is(&fields, name, value);
        }
    }
    let fields_of_server = fields(&accepted, RoleKind::Server);
    is(&fields_of_server, "server.address", "localhost");
    is(&fields_of_server, "client.port", &own);
    let fields_of_client = fields(&connected, RoleKind::Client);
    is(&fields_of_client, "server.port", &theirs);
    assert!(!fields_of_client.contains_key("client.address"), "{fields_of_client:?}");
}

#[tokio::test]
async fn behind_a_proxy_the_peer_is_the_proxy_and_the_client_is_not() {
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = registry.server("haproxy:tcp:0:interface=127.0.0.1").expect("a description");
    let listener = server.listen().await.expect("a listener");
    let address = listener.addresses()[0].ip().expect("an address");
    let mut proxy = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut proxy, header).await.expect("sending");
    let accepted = listener.accept().await.expect("accepted").await.expect("a connection");
    let told = fields(&accepted.info(), RoleKind::Server);
    is(&told, "endpoints.layers", "haproxy,tcp");
    is(&told, "client.address", "192.0.2.7");
    is(&told, "client.port", "4321");
    is(&told, "network.peer.address", "127.0.0.1");
    assert!(!told.contains_key("tls.protocol.name"), "{told:?}");
}

#[tokio::test]
async fn over_unix() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket").to_str().expect("UTF-8").to_owned();
    let [accepted, connected] = both(&format!("unix:{path}"), |_| format!("unix:{path}")).await;
    let told = fields(&accepted, RoleKind::Server);
    is(&told, "network.transport", "unix");
    is(&told, "network.local.address", &path);
    assert!(!told.contains_key("client.address") && !told.contains_key("network.type"), "{told:?}");
    is(&fields(&connected, RoleKind::Client), "server.address", &path);
}
