use std::time::Duration;

use super::values::Factor;
use super::*;

fn services(text: &str) -> Result<Vec<Service>, String> {
    Source::new(Path::new("s.toml"), text).services().map_err(|error| error.message().to_owned())
}

fn refused(text: &str) -> String {
    services(text).expect_err(text)
}

const RELAY: &str = "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\nforward = \"tcp:h:2\"\n";

#[test]
fn everything_that_there_is_can_be_written() {
    let text = r#"
[[service]]
name = "web"
listen = "tcp:443"
forward = "unix:/run/app.sock"
max-connections = 1000
when-full = "refuse"
max-per-peer = 10
max-handshakes = 100
handshake-timeout = "10s"
connect-timeout = 2.5
idle-timeout = "5min"
drain-timeout = 30

[[service]]
name = "uplink"
connect = ["tls:a:1", "tls:b:1"]
order = "random"
retry = { initial-delay = 0.5, max-delay = 30, factor = 2, jitter = "100ms" }
reset-after = 10
connect-timeout = 10
exec = ["agent", "--verbose"]

[[service]]
name = "echo"
listen = "tcp:7"
echo = true
"#;
    let services = services(text).unwrap();
    assert_eq!(
        services.iter().map(|one| &**one.name.as_ref()).collect::<Vec<_>>(),
        ["web", "uplink", "echo"]
    );
    assert_eq!(
        services[0].connect_timeout.as_ref().unwrap().as_ref(),
        &SomeTime(Time(Duration::from_millis(2500)))
    );
    assert_eq!(
        services[0].handshake_timeout.as_ref().unwrap().as_ref(),
        &SomeTime(Time(Duration::from_secs(10)))
    );
    assert_eq!(services[1].retry.as_ref().unwrap().as_ref().factor, Some(Factor(2.0)));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let told = [
        ("", "s.toml:1:1: there is no service in it; a service begins with [[service]]"),
        (
            "[[services]]\n",
            "s.toml:1:3: there is no \"services\" here: known are service; did you mean service?",
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\necho = true\nmax-conections = 1\n",
            "s.toml:5:1: there is no \"max-conections\" here: known are name, listen, connect, forward, exec, echo, \
             max-connections, when-full, max-per-peer, max-handshakes, handshake-timeout, drain-timeout, order, retry, \
             reset-after, connect-timeout, idle-timeout; did you mean max-connections?",
        ),
        ("[[service]]\nlisten = \"tcp:1\"\n", "s.toml:1:1: missing field `name`"),
        (
            "[[service]]\nname = \"a\"\n",
            "s.toml:2:8: service \"a\": say where its connections come from, with listen or connect",
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\nconnect = \"tcp:h:1\"\n",
            "s.toml:4:11: service \"a\": it has both listen and connect: give one of them, or two services",
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\n",
            "s.toml:2:8: service \"a\": say what is done with its connections, with forward, exec or echo = true",
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\necho = true\nexec = [\"x\"]\n",
            "s.toml:4:8: service \"a\": it has more than one of forward, exec and echo: give one of them",
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\nexec = []\n",
            "s.toml:4:8: service \"a\": exec names no program",
        ),
        (
            "[[service]]\nname = \"a\"\nconnect = []\necho = true\n",
            "s.toml:3:11: service \"a\": connect names no endpoint",
        ),
        (
            "[[service]]\nname = \"a\"\nconnect = 5\necho = true\n",
            "s.toml:3:11: wanted a description, or a list of descriptions, not a integer",
        ),
        (
            "[[service]]\nname = \"a\"\nconnect = [\"tcp:h:1\", true]\necho = true\n",
            "s.toml:3:23: wanted a string, not a boolean",
        ),
        (
            "[[service]]\nname = \"\"\nlisten = \"tcp:1\"\necho = true\n",
            "s.toml:2:8: a name has at least one character, and no control characters",
        ),
    ];
    for (text, message) in told {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn settings_that_would_do_nothing_are_refused() {
    let told = [
        ("order = \"random\"", "order is of services with connect, which this one has not"),
        ("retry = { factor = 2 }", "retry is of services with connect, which this one has not"),
        ("when-full = \"wait\"", "when-full says what to do beyond max-connections, which is not given"),
    ];
    for (line, message) in told {
        assert_eq!(
            refused(&format!("{RELAY}{line}\n")),
            format!("s.toml:5:{}: service \"a\": {message}", line.find('=').unwrap() + 3)
        );
    }
    let echo = "[[service]]\nname = \"a\"\nconnect = \"tcp:h:1\"\necho = true\n";
    for setting in ["max-connections = 1", "drain-timeout = 1", "idle-timeout = 1"] {
        let message = refused(&format!("{echo}{setting}\n"));
        assert!(message.contains(" is of services with "), "{message}");
    }
    let listens = "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\necho = true\nconnect-timeout = 1\n";
    assert!(refused(listens).ends_with("is of services with forward or connect, which this one has not"));
}

#[test]
fn values_are_checked() {
    let told = [
        ("max-connections = 0", "wanted a number, 1 or more"),
        ("max-connections = \"many\"", "wanted a whole number, not a string"),
        ("idle-timeout = -1", "a length of time is not below zero"),
        ("idle-timeout = \"soon\"", "\"soon\""),
        ("idle-timeout = true", "wanted a number of seconds, or a text such as \"250ms\", not a boolean"),
        ("idle-timeout = nan", "NaN"),
        ("idle-timeout = 0", "no time at all; leave the setting out"),
        ("handshake-timeout = \"0ms\"", "no time at all"),
        ("connect-timeout = 0", "no time at all"),
        ("when-full = \"drop\"", "there is no \"drop\" here: known are wait, refuse"),
    ];
    for (line, part) in told {
        let message = refused(&format!("{RELAY}{line}\n"));
        assert!(message.starts_with("s.toml:5:") && message.contains(part), "{message}");
    }
}

#[test]
fn no_retry_comes_without_a_pause() {
    let uplink = "[[service]]\nname = \"a\"\nconnect = \"tcp:h:1\"\necho = true\nretry = ";
    let soon = "that is no pause before connecting again: it takes 10ms or more";
    let told = [
        ("{ initial-delay = 0 }", "27", soon),
        ("{ initial-delay = 0.009 }", "27", soon),
        ("{ jitter = 5, max-delay = \"0s\" }", "35", soon),
        ("{ factor = 0 }", "20", "with a factor of 0 it connects again ever sooner: it takes 1 or more"),
        (
            "{ factor = 0.99 }",
            "20",
            "with a factor of 0.99 it connects again ever sooner: it takes 1 or more",
        ),
        ("{ factor = -1 }", "20", "with a factor of -1 it connects again ever sooner: it takes 1 or more"),
    ];
    for (retry, column, message) in told {
        assert_eq!(refused(&format!("{uplink}{retry}\n")), format!("s.toml:5:{column}: {message}"));
    }
    assert!(refused(&format!("{uplink}{{ factor = inf }}\n")).contains("is no factor"));
    let least = "{ initial-delay = 0.01, max-delay = \"10ms\", factor = 1, jitter = 0 }";
    assert!(services(&format!("{uplink}{least}\n")).is_ok());
}

#[test]
fn slips_are_told_in_the_words_of_the_file_and_without_values() {
    let told = [
        (
            "[service]\nname = \"a\"\n",
            "several of these are written with two brackets each, as in [[service]]",
        ),
        (
            "[service.web]\nlisten = \"tcp:1\"\n",
            "several of these are written with two brackets each, as in [[service]]",
        ),
    ];
    for (text, part) in told {
        assert!(refused(text).ends_with(part), "{}", refused(text));
    }
    let listens = "[[service]]\nname = \"a\"\nlisten = \"tcp:1\"\n";
    let message = refused(&format!("{listens}exec = \"agent --token=SECRET\"\n"));
    assert_eq!(message, "s.toml:4:8: wanted a list, not a string");
    let message = refused("[[service]]\nname = \"a\"\nconnect = \"tcp:h:1\"\necho = true\nretry = 5\n");
    assert_eq!(message, "s.toml:5:9: wanted a table such as { factor = 2 }, not a integer");
}

#[test]
fn names_are_of_one_service_each() {
    let message = refused(&format!("{RELAY}{RELAY}"));
    assert_eq!(message, "s.toml:6:8: there are two services with the name \"a\"");
}

#[test]
fn services_are_the_same_wherever_they_stand() {
    let one = services(RELAY).unwrap();
    let two = services(&format!("# moved\n\n{}", RELAY.replace(" = ", "  =  "))).unwrap();
    assert_eq!(one, two);
    let other = services(&format!("{RELAY}idle-timeout = 5\n")).unwrap();
    assert_ne!(one, other);
}
