//! Endpoints made from values, and around others that are there already.

use std::time::Duration;

use endpoints::manifest::{ParameterType, Role};
use endpoints::{
    ClientEndpoint, Description, Error, ErrorKind, Explanation, Registry, ServerEndpoint, Value, fact,
};

use crate::support::{World, assert_kind, both_forms, exchange, pki, text};

both_forms!(
    values_and_texts_make_the_same,
    mistakes_are_told_as_those_of_texts_are,
    endpoints_stand_around_others,
    tls_stands_around_any_endpoint,
    a_preamble_around_tls_goes_beneath_it,
    an_endpoint_of_another_registry_is_used_itself,
    secrets_of_others_stay_hidden,
    nesting_has_an_end,
);

/// What was made, as far as it can be compared.
fn outcome(made: Result<Explanation, Error>) -> Result<String, ErrorKind> {
    made.map(|explanation| format!("{:?} {:?}", explanation.arguments, explanation.facts))
        .map_err(|error| error.kind())
}

/// The arguments of a description by name, all as values.
fn by_name(example: &str, role: &Role) -> Vec<(String, Value)> {
    let description = Description::parse(example).expect(example);
    let rest = role.parameters.iter().find(|parameter| parameter.kind == ParameterType::Rest);
    if let (Some(rest), Some((_, tail))) = (rest, example.split_once(':'))
        && description.positional().next().is_some()
    {
        return vec![(rest.name.clone(), tail.into())];
    }
    let mut places: Vec<_> =
        role.parameters.iter().filter(|parameter| parameter.position.is_some()).collect();
    places.sort_by_key(|parameter| parameter.position);
    let positional = description.positional().zip(places);
    let positional = positional.map(|(part, place)| (place.name.clone(), Value::bytes(part.value())));
    let keywords = description.keywords();
    let keywords =
        keywords.map(|part| (part.key().expect("a name").into_owned(), Value::bytes(part.value())));
    positional.chain(keywords).collect()
}

async fn values_and_texts_make_the_same(world: &World) {
    let mut count = 0;
    for plugin in world.registry.plugins() {
        for scheme in &plugin.manifest.as_ref().expect("a manifest").plugin.schemes {
            if let Some(role) = &scheme.client {
                for example in &role.examples {
                    let written = world.registry.client(example).map(|client| client.explain());
                    let builder = world.registry.client_builder(&scheme.name);
                    let arguments = by_name(example, role).into_iter();
                    let built =
                        arguments.fold(builder, |builder, (name, value)| builder.argument(name, value));
                    let built = built.build().map(|client| client.explain());
                    assert_eq!(outcome(built), outcome(written), "{example}");
                    count += 1;
                }
            }
            if let Some(role) = &scheme.server {
                for example in &role.examples {
                    let written = world.registry.server(example).map(|server| server.explain());
                    let builder = world.registry.server_builder(&scheme.name);
                    let arguments = by_name(example, role).into_iter();
                    let built =
                        arguments.fold(builder, |builder, (name, value)| builder.argument(name, value));
                    let built = built.build().map(|server| server.explain());
                    assert_eq!(outcome(built), outcome(written), "{example}");
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 30, "{count} examples in all manifests");
}

async fn mistakes_are_told_as_those_of_texts_are(world: &World) {
    let tcp = || world.registry.server_builder("tcp").argument("port", 0);
    let fails = |builder: endpoints::ServerBuilder| builder.build().expect_err("a mistake");

    let error = fails(tcp().argument("bakclog", 5));
    assert_kind(&error, ErrorKind::UnknownArgument);
    assert_eq!((error.argument(), error.suggestion()), (Some("bakclog"), Some("backlog")));
    assert_eq!(error.description(), Some(&b"tcp:port=0:bakclog=5"[..]));
    let error = fails(tcp().argument("schlüssel", 5));
    assert_kind(&error, ErrorKind::UnknownArgument);
    assert!(error.expected().contains(&"backlog".to_owned()), "{error:?}");

    assert_kind(&fails(tcp().argument("port", 65536)), ErrorKind::BadPort);
    assert_kind(&fails(tcp().argument("port", -1)), ErrorKind::BadPort);
    let list = fails(tcp().argument("interface", ["::1", "127.0.0.1"]));
    assert_kind(&list, ErrorKind::InvalidArgument);
    assert!(list.message().contains("interface takes one value, not a list"), "{list}");
    assert_kind(&fails(world.registry.server_builder("tcp")), ErrorKind::MissingArgument);
    assert_kind(&fails(world.registry.server_builder("tpc").argument("port", 0)), ErrorKind::UnknownScheme);
    assert_kind(
        &fails(world.registry.server_builder("exec").argument("command", "true")),
        ErrorKind::WrongRole,
    );

    // What is set once more replaces what was there; an absent value sets nothing.
    let server = tcp().argument("port", 8080).opt_argument("backlog", None::<u32>).build().expect("a server");
    assert_eq!(server.to_string(), "tcp:port=8080");

    let client = world.registry.client("tcp:h.example:80").expect("a client");
    let server = tcp().build().expect("a server");
    for (name, value) in [("interface", Value::from(&client)), ("port", Value::from(&server))] {
        let error = fails(tcp().argument(name, value));
        assert_kind(&error, ErrorKind::InvalidArgument);
        assert_eq!(error.argument(), Some(name), "{error}");
    }
    let error = fails(world.registry.server_builder("haproxy").argument("endpoint", &client));
    assert!(error.message().contains("endpoint takes no client endpoint"), "{error}");
    let tls = world.registry.client_builder("tls").argument("host", "h.example").argument("port", 443);
    let error = tls.argument("endpoint", &server).build().expect_err("a server");
    assert!(error.message().contains("endpoint takes no server endpoint"), "{error}");
}

/// Both ends of a connection.
async fn joined(client: &ClientEndpoint, server: &ServerEndpoint) -> (Vec<String>, Vec<String>) {
    let listener = server.listen().await.expect("listen");
    let accepting = async { listener.accept().await.expect("accept").await.expect("a handshake") };
    let (near, far) = tokio::join!(client.connect(), accepting);
    let (mut near, mut far) = (near.expect("connect"), far);
    exchange(&mut near, &mut far).await;
    let layers = |connection: &endpoints::Connection| {
        connection.info().layers().iter().map(|layer| layer.scheme().to_owned()).collect()
    };
    (layers(&near), layers(&far))
}

/// Both sides of a Unix socket in a fresh folder.
fn unix(world: &World) -> (tempfile::TempDir, ClientEndpoint, ServerEndpoint) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a:b=c");
    let client = world.registry.client_builder("unix").argument("path", &path).build().expect("a client");
    let server = world.registry.server_builder("unix").argument("address", &path).argument("mode", 0o600);
    (folder, client, server.build().expect("a server"))
}

async fn endpoints_stand_around_others(world: &World) {
    let (_folder, client, server) = unix(world);
    let client =
        world.registry.client_builder("haproxy").argument("endpoint", client).argument("version", "1");
    let server = world
        .registry
        .server_builder("haproxy")
        .argument("endpoint", server)
        .argument("timeout", Duration::from_millis(2500))
        .build()
        .expect("a server");
    assert!(server.to_string().ends_with(":timeout=2.5"), "{server}");
    let client = client.build().expect("a client");
    // What is printed makes the same.
    let again = world.registry.client(client.description().text()).expect("the same client");
    assert_eq!(again.to_string(), client.to_string());
    let (near, far) = joined(&client, &server).await;
    assert_eq!((near, far), (vec!["haproxy".into(), "unix".into()], vec!["haproxy".into(), "unix".into()]));
}

async fn tls_stands_around_any_endpoint(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let (_folder, client, server) = unix(world);
    let tls_server = server
        .wrap_tls(files.join("server.pem"))
        .alpn(["h2", "http/1.1"])
        .timeout(Duration::from_secs(5))
        .build()
        .expect("a server");
    let tls_client = client
        .wrap_tls("localhost")
        .trust_roots(files.join("trust"))
        .alpn(["http/1.1"])
        .ciphers(["TLS_AES_256_GCM_SHA384"])
        .timeout(Duration::from_secs(5))
        .build()
        .expect("a client");
    let listener = tls_server.listen().await.expect("listen");
    let accepting = async { listener.accept().await.expect("accept").await.expect("a handshake") };
    let (near, mut far) = tokio::join!(tls_client.connect(), accepting);
    let mut near = near.expect("connect");
    exchange(&mut near, &mut far).await;
    assert_eq!(far.info().fact(fact::TLS_ALPN), Some(&b"http/1.1"[..]));
    assert_eq!(far.info().fact(fact::TLS_CIPHER), Some(&b"TLS_AES_256_GCM_SHA384"[..]));
    drop((near, far, listener));

    // A pair, and a client that must show a certificate.
    let (_folder, client, server) = unix(world);
    let server = server
        .wrap_tls(files.join("server.crt"))
        .private_key(files.join("server.key"))
        .client_ca(files.join("trust"))
        .build()
        .expect("a server");
    let bare = client.wrap_tls("localhost").trust_roots(files.join("trust"));
    let client = bare.clone().certificate(files.join("client.pem")).build().expect("a client");
    let (near, far) = joined(&client, &server).await;
    assert_eq!((near, far), (vec!["tls".into(), "unix".into()], vec!["tls".into(), "unix".into()]));

    let error = bare.private_key(files.join("nothing.key")).build().expect_err("no certificate");
    assert_kind(&error, ErrorKind::MissingArgument);
    let error = client.wrap_tls("a b").build().expect_err("no name");
    assert_eq!(error.argument(), Some("host"), "{error}");
}

async fn a_preamble_around_tls_goes_beneath_it(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let written = |registry: &Registry, around: &ServerEndpoint| {
        registry.server(around.description().text()).expect("the same server").explain()
    };
    let trust = files.join("trust");
    // Deep down, and where TLS has a listener of its own.
    let (_folder, socket, listening) = unix(world);
    let around = |registry: &Registry, inner: &ServerEndpoint| {
        registry.server_builder("haproxy").argument("endpoint", inner).build().expect("a server")
    };
    let tls = listening.wrap_tls(files.join("server.pem")).build().expect("a server");
    let server = around(&world.registry, &tls);
    assert_eq!(format!("{:?}", server.explain()), format!("{:?}", written(&world.registry, &server)));
    let client =
        world.registry.client_builder("haproxy").argument("endpoint", &socket).build().expect("a client");
    let client = client.wrap_tls("localhost").trust_roots(&trust).build().expect("a client");
    let (_, far) = joined(&client, &server).await;
    assert_eq!(far, ["tls", "haproxy", "unix"]);

    let builder = world.registry.server_builder("tls").argument("path", files.join("server.pem"));
    let tls = builder.argument("port", 0).argument("interface", "127.0.0.1").build().expect("a server");
    let server = around(&world.registry, &tls);
    let listener = server.listen().await.expect("listen");
    let client = format!(
        "{}:trustRoots={}",
        text(&listener.reachable()[0]),
        endpoints::quote_str(trust.to_str().expect("UTF-8"))
    );
    let accepting = async { listener.accept().await.expect("accept").await.expect("a handshake") };
    let (mut near, mut far) = tokio::join!(world.connect(&client), accepting);
    exchange(&mut near, &mut far).await;
    let layers: Vec<_> = far.info().layers().iter().map(|layer| layer.scheme().to_owned()).collect();
    assert_eq!(layers, ["tls", "haproxy", "tcp"]);

    // TLS inside of TLS: the header stands beneath both.
    let (_folder, socket, listening) = unix(world);
    let tls = listening.wrap_tls(files.join("server.pem")).build().expect("a server");
    let tls = tls.wrap_tls(files.join("server.pem")).build().expect("a server");
    let server = around(&world.registry, &around(&world.registry, &tls));
    let mut client = socket;
    for _ in 0..2 {
        client =
            world.registry.client_builder("haproxy").argument("endpoint", client).build().expect("a client");
    }
    for _ in 0..2 {
        client = client.wrap_tls("localhost").trust_roots(&trust).build().expect("a client");
    }
    let (_, far) = joined(&client, &server).await;
    assert_eq!(far, ["tls", "tls", "haproxy", "haproxy", "unix"]);
}

async fn an_endpoint_of_another_registry_is_used_itself(world: &World) {
    let nothing = || Registry::builder().default_plugin_path(false);
    let other = nothing().without_built_in("unix").build().expect("a registry");
    let (_folder, client, server) = unix(world);
    assert_kind(&other.client(client.description().text()).expect_err("no unix"), ErrorKind::UnknownScheme);
    let client = other.client_builder("haproxy").argument("endpoint", client).build().expect("a client");
    let server = other.server_builder("haproxy").argument("endpoint", server).build().expect("a server");
    let (_, far) = joined(&client, &server).await;
    assert_eq!(far, ["haproxy", "unix"]);
}

async fn secrets_of_others_stay_hidden(world: &World) {
    const SECRET: &str = "hunter2";
    let proxied = world
        .registry
        .client_builder("socks5")
        .argument("host", "h.example")
        .argument("port", 80)
        .argument("proxy", world.registry.client("tcp:127.0.0.1:1").expect("a client"))
        .argument("username", "me")
        .argument("password", SECRET)
        .build()
        .expect("a client");
    // Nobody there knows which of its arguments is a secret.
    let other = Registry::builder().default_plugin_path(false).build().expect("a registry");
    for registry in [&other, &world.registry] {
        let builder = registry.client_builder("haproxy").argument("endpoint", &proxied);
        let client = builder.clone().build().expect("a client");
        let error = builder.clone().argument("version", "3").build().expect_err("no such version");
        let description = String::from_utf8_lossy(error.description().expect("a description")).into_owned();
        for shown in [
            client.to_string(),
            format!("{client:?}"),
            format!("{:?}", client.explain()),
            format!("{builder:?}"),
            format!("{error:?}"),
            description,
        ] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
        assert!(client.to_string().contains("socks5"), "{client}");
        let around = client.wrap_tls("h.example").build().expect("a client");
        assert!(!around.to_string().contains(SECRET), "{around}");
    }
}

async fn nesting_has_an_end(world: &World) {
    let mut client = world.registry.client("tcp:h.example:80").expect("a client");
    let mut levels = 0;
    let error = loop {
        match world.registry.client_builder("haproxy").argument("endpoint", &client).build() {
            Ok(around) => client = around,
            Err(error) => break error,
        }
        levels += 1;
        assert!(levels < 100, "still going on");
    };
    assert!(levels >= 10, "{levels}");
    assert_kind(&error, ErrorKind::InvalidArgument);
    assert!(error.message().contains("nested"), "{error}");
}
