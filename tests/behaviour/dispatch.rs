//! From a description to an endpoint, or to an error that says where it is wrong.

use endpoints::{Error, ErrorKind, Origin, Registry, RoleKind};

use crate::support::{World, around, assert_kind, both_forms};

both_forms!(
    errors_point_at_what_is_wrong,
    messages_help,
    spans_stand_in_the_outermost_text,
    schemes_have_no_case,
    arguments_are_explained,
    nested_endpoints_are_explained,
    endpoints_print_canonically,
);

use RoleKind::{Client, Server};

fn error(registry: &Registry, role: RoleKind, description: &str) -> Error {
    let made = match role {
        Client => registry.client(description).map(drop),
        Server => registry.server(description).map(drop),
    };
    made.expect_err(description)
}

/// The part of the description that the error points at.
fn pointed_at(error: &Error) -> &str {
    let span = error.span().expect("a span");
    let description = std::str::from_utf8(error.description().expect("a description")).expect("UTF-8");
    &description[span]
}

/// Role, description, kind, argument, what is pointed at.
const WRONG: [(RoleKind, &str, ErrorKind, Option<&str>, &str); 36] = [
    (Client, r"tcp:h:80\", ErrorKind::TrailingBackslash, None, r"\"),
    (Client, "tcp:h:80:hôst=1", ErrorKind::NonAsciiKey, None, "hôst"),
    (Client, "host=h:port=80", ErrorKind::NoScheme, None, "host=h:port=80"),
    (Client, "nope:x", ErrorKind::UnknownScheme, None, "nope"),
    (Server, "tcp :80", ErrorKind::UnknownScheme, None, "tcp "),
    (Client, r"tls\::80", ErrorKind::UnknownScheme, None, r"tls\:"),
    (Client, "tcp6:h:80", ErrorKind::WrongRole, None, "tcp6"),
    (Server, "socks5:h:80:x", ErrorKind::WrongRole, None, "socks5"),
    (Server, "tcp:80:bakclog=5", ErrorKind::UnknownArgument, Some("bakclog"), "bakclog"),
    (Client, "tcp:h:80:Timeout=5", ErrorKind::UnknownArgument, Some("Timeout"), "Timeout"),
    (Server, "tcp:interface=127.0.0.1", ErrorKind::MissingArgument, Some("port"), "tcp"),
    (Client, "tcp", ErrorKind::MissingArgument, Some("host"), "tcp"),
    (Client, "tcp:host=h", ErrorKind::MissingArgument, Some("port"), "tcp"),
    (Client, "tcp::80", ErrorKind::MissingArgument, Some("host"), ""),
    (Server, "unix:address=", ErrorKind::MissingArgument, Some("address"), "address="),
    (Client, "pass:", ErrorKind::UnknownScheme, None, ""),
    (Server, "tcp:80:port=81", ErrorKind::DuplicateArgument, Some("port"), "port=81"),
    (Server, "tcp:port=1:port=2", ErrorKind::DuplicateArgument, Some("port"), "port=2"),
    (Client, "unix:/a:checkPID=1:lockfile=1", ErrorKind::DuplicateArgument, Some("checkPID"), "lockfile=1"),
    (Server, "tcp:80:127.0.0.1:5:9", ErrorKind::TooManyArguments, None, "9"),
    (Client, "tcp:host=h:80:81:82", ErrorKind::TooManyArguments, None, "82"),
    (Client, "tcp:h:http", ErrorKind::BadNumber, Some("port"), "http"),
    (Client, "tcp:h:80:timeout=soon", ErrorKind::BadNumber, Some("timeout"), "soon"),
    (Server, "tcp:80:backlog=2147483648", ErrorKind::BadNumber, Some("backlog"), "2147483648"),
    (Client, "unix:/a:checkPID=maybe", ErrorKind::BadNumber, Some("checkPID"), "maybe"),
    (Server, "tcp:port=", ErrorKind::BadNumber, Some("port"), "port="),
    (Client, "tcp:h:65536", ErrorKind::BadPort, Some("port"), "65536"),
    (Server, "tcp:-1", ErrorKind::BadPort, Some("port"), "-1"),
    (Server, "unix:/a:mode=689", ErrorKind::BadOctal, Some("mode"), "689"),
    (Server, "unix:/a:77777", ErrorKind::BadOctal, Some("mode"), "77777"),
    (Client, "tcp:h\tx:80", ErrorKind::InvalidArgument, Some("host"), "h\tx"),
    (Client, "unix:/a\0b", ErrorKind::InvalidArgument, Some("path"), "/a\0b"),
    (Client, r"faulty:hagn:tcp\:h\:1", ErrorKind::InvalidArgument, Some("mode"), "hagn"),
    // What a plugin finds itself.
    (Client, "tcp:h:80:bindAddress=[", ErrorKind::InvalidArgument, Some("bindAddress"), "bindAddress=["),
    (
        Server,
        "tcp6:0:interface=10.0.0.1",
        ErrorKind::InvalidArgument,
        Some("interface"),
        "interface=10.0.0.1",
    ),
    (
        Client,
        r"socks5:h:80:tcp\:p\:1:username=me",
        ErrorKind::InvalidArgument,
        Some("username"),
        "username=me",
    ),
];

async fn errors_point_at_what_is_wrong(world: &World) {
    for (role, description, kind, argument, place) in WRONG {
        let error = error(&world.registry, role, description);
        assert_eq!(error.kind(), kind, "{description:?}: {error}");
        assert_eq!(error.argument(), argument, "{description:?}: {error}");
        assert_eq!(pointed_at(&error), place, "{description:?}: {error}");
        assert_eq!(error.description(), Some(description.as_bytes()), "nothing in it is secret");
        assert!(!error.message().contains('\n') && !error.is_retryable(), "{description:?}: {error}");
        assert!(kind.is_invalid_request(), "{kind}");
        if !matches!(kind, ErrorKind::TrailingBackslash | ErrorKind::NonAsciiKey | ErrorKind::NoScheme) {
            assert!(error.scheme().is_some(), "{description:?}: {error}");
        }
    }
}

async fn messages_help(world: &World) {
    for (role, description, suggestion, texts) in [
        (Server, "tpc:80", Some("tcp"), &["tpc", "tcp", "tcp6", "unix", "pass"][..]),
        (Server, "tcp:80:bakclog=5", Some("backlog"), &["bakclog", "port", "interface", "backlog"]),
        (Client, "tcp:h:80:bindaddress=::1", Some("bindAddress"), &["bindaddress", "bindAddress", "timeout"]),
        (Client, "tcp:h:80:zzz=1", None, &["zzz", "host", "port", "timeout", "bindAddress"]),
        (Client, "tcp", None, &["host", "port"]),
        (Server, "tcp:port=1:port=2", None, &["port", "4..10", "11..17"]),
        (Client, "tcp:h:65536", None, &["port", "65536", "1 to 65535"]),
        (Client, "tcp:h:80:timeout=soon", None, &["timeout", "soon", "seconds", "250ms"]),
        (Server, "unix:/a:mode=rw", None, &["mode", "rw", "octal", "660"]),
        (Client, "unix:/a:checkPID=maybe", None, &["checkPID", "maybe", "0", "1"]),
        (Client, r"faulty:hagn:tcp\:h\:1", Some("hang"), &["mode", "hagn", "panic-connect"]),
        (Client, "tcp:::1:80", None, &[r"\:\:1", "host", "port"]),
        (Client, "tcp:2001:db8::1:80", None, &[r"\:\:1"]),
        (Client, "tcp:host=::1:port=80", None, &[r"\:\:1", "host", "port"]),
        (Client, "unix:/a:checkPID=1:lockfile=0", None, &["checkPID", "lockfile"]),
        (Client, "unix:/a:lokfile=0", Some("lockfile"), &["path", "timeout", "checkPID"]),
        (Client, "tcp:h:80:30", None, &["\"30\"", "host", "port"]),
        (Server, "tcp:80:interface=::1", None, &[r"\:\:1"]),
        (Server, "tcp:80:1:2:3", None, &["3", "port", "interface", "backlog"]),
        (Client, "tcp6:h:80", None, &["tcp6", "client"]),
        (Client, r"tcp:h:80\", None, &["backslash"]),
        (Client, "", None, &["scheme", "tcp:"]),
        (Client, "localhost:80", None, &["did you mean tcp:localhost:80?"]),
        (Server, "8080", None, &["did you mean tcp:8080?"]),
        (Server, "127.0.0.1:80", None, &["did you mean tcp:80:interface=127.0.0.1?"]),
        (Client, "/run/app.sock", None, &["did you mean unix:/run/app.sock?"]),
        (Client, "pass:tcp:h:80", None, &[r"endpoint is a description itself", r"endpoint=tcp\:…"]),
        (Client, "pass:endpoint=tcp:h:80", None, &[r"endpoint=tcp\:…"]),
        (Client, "pass:endpoint=tcp:host=h:port=80", None, &[r"endpoint=tcp\:…"]),
        (Server, "haproxy:endpoint=tcp:80", None, &[r"endpoint is a description itself", r"endpoint=tcp\:…"]),
        (Server, "tcp:80:host=localhost", None, &["host is for the client side of tcp", "interface"]),
        (Client, "unix:/a:mode=600", None, &["mode is for the server side of unix"]),
        (Client, "tls:https://example.com:443", None, &["a host is written alone, without the https://"]),
        (Client, "tcp:http://example.com:80", None, &["a host is written alone"]),
        (Server, "haproxy:tcp:localhost:endpoint=tcp:80", None, &[r"endpoint is a description itself"]),
        (Server, "tls:443", None, &["cannot read 443", "as in tls:/etc/ssl/sites:443"]),
    ] {
        let error = error(&world.registry, role, description);
        assert_eq!(error.suggestion(), suggestion, "{description}: {error}");
        if let Some(suggestion) = suggestion {
            assert!(error.expected().iter().any(|name| name == suggestion), "{description}");
            assert!(error.to_string().contains(&format!("did you mean {suggestion}?")), "{error}");
        }
        for text in texts {
            assert!(error.to_string().contains(text), "{description}: {text:?} is not in: {error}");
        }
    }
}

async fn spans_stand_in_the_outermost_text(world: &World) {
    for (innermost, kind, place) in [
        ("tcp:h:80:timeout=never", ErrorKind::BadNumber, "never"),
        ("tcp:h:80:timoeut=5", ErrorKind::UnknownArgument, "timoeut"),
        ("nope:h", ErrorKind::UnknownScheme, "nope"),
        ("tcp6:80", ErrorKind::WrongRole, "tcp6"),
        ("tcp:h", ErrorKind::MissingArgument, "tcp"),
        ("tcp:h:1:2", ErrorKind::TooManyArguments, "2"),
        ("faulty:hagn:x", ErrorKind::InvalidArgument, "hagn"),
    ] {
        for levels in 1..=3 {
            let text = (0..levels).fold(innermost.to_owned(), |inner, _| around("pass", &inner));
            let error = error(&world.registry, Client, &text);
            assert_kind(&error, kind);
            assert_eq!(pointed_at(&error), place, "{text}");
            assert_eq!(error.description(), Some(text.as_bytes()));
        }
    }
    let backslash = error(&world.registry, Client, &around("pass", &around("pass", r"tcp:h:80\")));
    assert_kind(&backslash, ErrorKind::TrailingBackslash);
    assert!(pointed_at(&backslash).bytes().all(|byte| byte == b'\\'), "{}", pointed_at(&backslash));

    // A value with escapes of its own is pointed at as it is written.
    let escaped = error(&world.registry, Client, r"tcp:h:8\:0");
    assert_eq!(pointed_at(&escaped), r"8\:0");
    assert!(escaped.message().contains("8:0"), "{escaped}");
}

async fn schemes_have_no_case(world: &World) {
    for description in ["TCP:h:80", "tCp:h:80", r"\tcp:h:80"] {
        assert_eq!(world.registry.client(description).expect(description).scheme(), "tcp");
    }
    for (description, scheme) in [("TCP6:0", "tcp6"), ("Unix:/a", "unix"), (r"PASS:TCP\:0", "pass")] {
        assert_eq!(world.registry.server(description).expect(description).scheme(), scheme);
    }
    assert_eq!(world.registry.manifest("TcP").expect("tcp").0.plugin.schemes[0].name.as_ref(), "tcp");
}

async fn arguments_are_explained(world: &World) {
    let explained = |role, description: &str| {
        let explanation = match role {
            Client => world.registry.client(description).expect(description).explain(),
            Server => world.registry.server(description).expect(description).explain(),
        };
        let arguments = explanation.arguments.into_iter();
        let argument = |argument: endpoints::ExplainedArgument| {
            let value = String::from_utf8(argument.value.expect("no secret")).expect("UTF-8");
            format!("{}={value}{}", argument.name, if argument.given { "" } else { " by default" })
        };
        arguments.map(argument).collect::<Vec<_>>().join(", ")
    };
    for (role, description, expected) in [
        (
            Client,
            "tcp:h.example:80",
            "host=h.example, port=80, timeout=30 by default, attemptDelay=0.25 by default",
        ),
        (
            Client,
            "tcp:80:host=h.example",
            "host=h.example, port=80, timeout=30 by default, attemptDelay=0.25 by default",
        ),
        (
            Client,
            r"tcp:\:\:1:port=0080:timeout=250ms",
            "host=::1, port=0080, timeout=250ms, attemptDelay=0.25 by default",
        ),
        (Server, "tcp:80", "port=80, interface=0.0.0.0 by default, backlog=50 by default"),
        (Server, "tcp:80::7", "port=80, interface=0.0.0.0, backlog=7"),
        (Server, "tcp6:80:7", r"port=80, backlog=7, interface=:: by default"),
        (Client, "unix:/a", "path=/a, timeout=30 by default, checkPID=0 by default"),
        (Client, "unix:/a:lockfile=1", "path=/a, timeout=30 by default, checkPID=1"),
        (Server, "unix:/a:600", "address=/a, mode=600, backlog=50 by default, lockfile=1 by default"),
    ] {
        assert_eq!(explained(role, description), expected, "{description}");
    }
}

async fn nested_endpoints_are_explained(world: &World) {
    let text = around("pass", &around("PASS", "tcp:h:80"));
    let explanation = world.registry.client(text.as_str()).expect("a client").explain();
    assert_eq!((explanation.scheme.as_str(), explanation.role), ("pass", Client));
    assert_eq!(explanation.plugin, "endpoints-fixture-pass");
    assert!(
        matches!(&explanation.origin, Origin::File(path) if path.ends_with("libendpoints_fixture_pass.so"))
    );
    let [(name, second)] = explanation.inner.as_slice() else { panic!("{explanation:?}") };
    assert_eq!((name.as_str(), second.scheme.as_str()), ("endpoint", "pass"));
    let [(name, third)] = second.inner.as_slice() else { panic!("{explanation:?}") };
    assert_eq!(
        (name.as_str(), third.scheme.as_str(), third.plugin.as_str()),
        ("endpoint", "tcp", "endpoints-plugin-tcp")
    );
    let origin = world.registry.manifest("tcp").expect("tcp").1;
    assert_eq!((&third.origin, third.version.as_str()), (&origin, env!("CARGO_PKG_VERSION")));
    assert!(third.inner.is_empty());
}

async fn endpoints_print_canonically(world: &World) {
    for (description, canonical) in [
        ("TCP:timeout=5:h:80", "TCP:h:80:timeout=5"),
        (r"unix:path=/a\=b", r"unix:path=/a\=b"),
        (r"\tcp:h\.x:80", "tcp:h.x:80"),
    ] {
        let client = world.registry.client(description).expect(description);
        assert_eq!(client.to_string(), canonical);
        assert_eq!(client.description().text(), description.as_bytes());
        assert_eq!(format!("{client:?}"), format!("ClientEndpoint({canonical})"));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let plain = || Registry::builder().default_plugin_path(false);
    let left_out = plain().without_built_in("tpc").build().expect_err("there is no tpc");
    assert_kind(&left_out, ErrorKind::InvalidSetting);
    assert_eq!(left_out.suggestion(), Some("tcp"));
    let preferred =
        plain().prefer("tcp", "endpoints-plugin-unix").build().expect_err("it provides unix alone");
    assert_kind(&preferred, ErrorKind::InvalidSetting);
    assert_eq!(preferred.expected(), ["endpoints-plugin-tcp"]);
}

#[test]
fn descriptions_need_not_be_text() {
    let registry = World::built_in().registry;
    let client = registry.client(&b"unix:/a\xff"[..]).expect("a path may be any bytes");
    assert_eq!(client.explain().arguments[0].value.as_deref(), Some(&b"/a\xff"[..]));
    let error = registry.client(&b"tcp:h\xff:80"[..]).expect_err("a host is text");
    assert_kind(&error, ErrorKind::InvalidArgument);
    assert_eq!((error.argument(), error.span()), (Some("host"), Some(4..6)));
}

#[test]
fn nesting_has_an_end() {
    let world = World::built_in();
    // Backslashes double with each level, so nobody comes near it.
    let nested = |levels: usize| (0..levels).fold("tcp:h:80".to_owned(), |inner, _| around("pass", &inner));
    world.registry.client(nested(10)).expect("ten levels");
    let error = world.registry.client(nested(17)).expect_err("seventeen levels");
    assert_kind(&error, ErrorKind::InvalidArgument);
    assert!(error.message().contains("nested"), "{error}");
}

/// It is refused at the first level that is too deep, whatever stands there: not read to its end, level by level, on the stack.
#[test]
fn what_is_nested_without_end_costs_little() {
    let refuse = || {
        let registry = World::built_in().registry;
        let error = registry.server("haproxy:".repeat(5000) + "tcp:80").expect_err("too many levels");
        assert!(error.message().contains("nested"), "{error}");
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024);
    thread.spawn(refuse).expect("a thread").join().expect("no panic");
}
