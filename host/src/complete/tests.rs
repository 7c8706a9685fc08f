use super::*;

fn complete(role: RoleKind, typed: &str) -> Vec<Candidate> {
    let registry = Registry::builder().default_plugin_path(false).build().unwrap();
    registry.complete(role, typed)
}

fn texts(role: RoleKind, typed: &str) -> Vec<String> {
    complete(role, typed).into_iter().map(|candidate| candidate.text).collect()
}

fn client(typed: &str) -> Vec<String> {
    texts(RoleKind::Client, typed)
}

fn server(typed: &str) -> Vec<String> {
    texts(RoleKind::Server, typed)
}

#[test]
fn schemes_come_first() {
    let all = client("");
    assert!(all.contains(&"tcp:".to_owned()) && !all.contains(&"systemd:".to_owned()), "{all:?}");
    assert_eq!(all.last().unwrap(), "ssl:", "what is deprecated comes last");
    assert_eq!(server("sy"), ["systemd:"]);
    assert_eq!(client("TC"), ["tcp:"]);
    assert_eq!(client("zz"), [""; 0]);
    assert_eq!(client("host=x"), [""; 0]);
    assert_eq!(client("host=x:un"), ["host=x:unix:"]);
}

#[test]
fn names_come_then_required_ones_first() {
    assert_eq!(client("tcp:")[..2], ["tcp:host=", "tcp:port="]);
    assert_eq!(client("tcp:host=x:p"), ["tcp:host=x:port="]);
    let given = client("tcp:localhost:80:");
    assert!(!given.iter().any(|text| text.ends_with(":host=") || text.ends_with(":port=")), "{given:?}");
    assert!(given.contains(&"tcp:localhost:80:timeout=".to_owned()), "{given:?}");
    // One of those that exclude each other.
    assert!(client("unix:path=/x:").iter().all(|text| !text.ends_with("abstract=")));
    assert_eq!(client("nonsense:"), [""; 0]);
    let port = &complete(RoleKind::Client, "tcp:po")[0];
    assert_eq!((&*port.name, port.goes_on, port.help.is_empty()), ("port", true, false));
}

#[test]
fn values_come_last() {
    assert_eq!(client("unix:path=/x:checkPID="), ["unix:path=/x:checkPID=1", "unix:path=/x:checkPID=0"]);
    assert_eq!(server("tls:clientAuth=op"), ["tls:clientAuth=optional"]);
    assert_eq!(server("systemd:INET"), ["systemd:INET", "systemd:INET6"]);
    let shown = complete(RoleKind::Client, "tcp:timeout=");
    assert_eq!(shown[0].text, "tcp:timeout=30");
    assert_eq!((&*shown[0].help, shown[0].goes_on), ("the default", false));
}

#[test]
fn nested_descriptions_are_completed_with_their_escapes() {
    assert_eq!(client(r"tls:h:443:endpoint=un"), [r"tls:h:443:endpoint=unix\:"]);
    assert_eq!(client(r"tls:h:443:endpoint=tcp\:po"), [r"tls:h:443:endpoint=tcp\:port\="]);
    assert_eq!(
        client(r"tls:h:1:endpoint=unix\:/x\:checkPID\="),
        [r"tls:h:1:endpoint=unix\:/x\:checkPID\=1", r"tls:h:1:endpoint=unix\:/x\:checkPID\=0"]
    );
    // Two levels down.
    let deep = r"tls:h:443:endpoint=tls\:i\:443\:endpoint\=un";
    assert_eq!(client(deep), [format!(r"{deep}ix\\\:")]);
    // A positional argument is one too; and an escape may be half written.
    assert_eq!(client(r"tls:a:1:2:b:c:d:e:un"), [r"tls:a:1:2:b:c:d:e:unix\:"]);
    assert!(client(r"tls:h:443:endpoint=tcp\").contains(&r"tls:h:443:endpoint=tcp\:".to_owned()));
    assert_eq!(client(&(r"tls:h:443:endpoint=".to_owned() + "x\\")), [""; 0]);
    // What is typed stays as it is, needless escapes and all.
    assert_eq!(client(r"tls:\h:443:endpoint=t\cp\:po"), [r"tls:\h:443:endpoint=t\cp\:port\="]);
}

#[test]
fn the_rest_of_a_description_needs_no_escapes() {
    let both = server("haproxy:");
    assert!(
        both.contains(&"haproxy:unix:".to_owned()) && both.contains(&"haproxy:trust=".to_owned()),
        "{both:?}"
    );
    assert_eq!(server("haproxy:un"), ["haproxy:unix:"]);
    assert_eq!(server("haproxy:unix:mo"), ["haproxy:unix:mode="]);
    assert_eq!(server("haproxy:mode=op"), ["haproxy:mode=optional"]);
    assert_eq!(server("haproxy:mode=optional:en"), ["haproxy:mode=optional:endpoint="]);
    assert_eq!(server("haproxy:mode=optional:endpoint=un"), [r"haproxy:mode=optional:endpoint=unix\:"]);
    assert_eq!(server("haproxy:haproxy:un"), ["haproxy:haproxy:unix:"]);
}

#[test]
fn paths_are_those_of_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sites")).unwrap();
    fs::write(folder.path().join("site:1=.pem"), "").unwrap();
    fs::write(folder.path().join(".hidden"), "").unwrap();
    let at = folder.path().to_str().unwrap();
    assert_eq!(
        server(&format!("tls:{at}/s")),
        [format!(r"tls:{at}/site\:1\=.pem"), format!("tls:{at}/sites/")]
    );
    assert_eq!(server(&format!("tls:certificate={at}/.h")), [format!("tls:certificate={at}/.hidden")]);
    assert!(complete(RoleKind::Server, &format!("tls:path={at}/sites"))[0].goes_on);
    assert_eq!(server("tls:path=/nonexistent/x"), [""; 0]);
}

#[test]
fn nothing_is_too_deep_or_too_odd() {
    assert_eq!(client(&"haproxy:".repeat(100)), [""; 0]);
    for odd in
        ["é", "é=", "tcp:é", "tcp:é=1", "tcp:\\", "\\", ":", "=", "tcp:=", "tcp:host=é\\", "tcp::::::::::::"]
    {
        complete(RoleKind::Client, odd);
        complete(RoleKind::Server, odd);
    }
}
