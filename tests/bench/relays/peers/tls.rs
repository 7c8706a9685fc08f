//! Relays that take TLS and pass on what was in it, and one that answers it. All have TLS 1.2 and 1.3 and give tickets.

use std::path::Path;
use std::process::Child;

use super::{HAPROXY_BUFFERS, command, nginx_head, run, start_each};
use crate::relay::{Place, Relay};
use crate::{Bench, raw};

/// Starts all that are installed.
pub(crate) fn start(bench: &Bench) -> Vec<Relay> {
    let mut all = vec![("endpoints", bench.endpoints.as_path(), ours as super::Begin)];
    all.extend(bench.beside.as_deref().map(|beside| ("endpoints, beside", beside, ours as super::Begin)));
    all.extend([
        ("hitch", Path::new("hitch"), hitch as super::Begin),
        ("nginx", Path::new("nginx"), nginx),
        ("HAProxy", Path::new("haproxy"), haproxy),
        ("stunnel", Path::new("stunnel4"), stunnel),
        (raw::NAME, &bench.itself, raw::tls),
        (raw::LARGE, &bench.itself, raw::tls_large),
        (raw::NO_RELAY, &bench.itself, raw::tls_no_relay),
    ]);
    start_each(bench, &all, 1, false)
}

/// The certificate, followed by its key; `tls::start` has made it.
pub(crate) fn certificate(place: &Place) -> String {
    let pki = place.folder.parent().expect("a folder of its own").join("pki");
    pki.join("server-certfirst.pem").display().to_string()
}

fn ours(program: &Path, place: &Place) -> Vec<Child> {
    let mut command = command(program, place);
    command.args(["forward", "--workers", "1"]);
    command.arg(format!("tls:certificate={}:port={}:interface=127.0.0.1", certificate(place), place.port));
    command.arg(format!("tcp:127.0.0.1:{}", place.backend));
    vec![command.spawn().expect("it starts")]
}

fn hitch(program: &Path, place: &Place) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let configuration = format!(
        "frontend = \"[127.0.0.1]:{port}\"\nbackend = \"[127.0.0.1]:{backend}\"\npem-file = \"{}\"\n\
         workers = 1\ntls-protos = TLSv1.2 TLSv1.3\ndaemon = off\nquiet = on\n",
        certificate(place),
    );
    // It refuses to work as root, which this is in its namespace, and which there is nobody else in.
    let arguments = ["--user", "--map-user=1000", "--map-group=1000", &program.to_string_lossy(), "--config"];
    run(Path::new("unshare"), place, &arguments, &configuration)
}

fn nginx(program: &Path, place: &Place) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let (head, certificate) = (nginx_head(place), certificate(place));
    let configuration = format!(
        "{head}stream {{\n  proxy_timeout 1h; proxy_half_close on;\n  ssl_protocols TLSv1.2 TLSv1.3;\n\
           ssl_certificate {certificate}; ssl_certificate_key {certificate};\n\
           server {{ listen 127.0.0.1:{port} ssl; proxy_pass 127.0.0.1:{backend}; }}\n}}\n",
    );
    run(program, place, &["-c"], &configuration)
}

fn haproxy(program: &Path, place: &Place) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let configuration = format!(
        "global\n  maxconn 4000\n  nbthread 1\n  {HAPROXY_BUFFERS}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen tls\n  bind 127.0.0.1:{port} ssl crt {} ssl-min-ver TLSv1.2\n  server one 127.0.0.1:{backend}\n",
        certificate(place),
    );
    run(program, place, &["-db", "-f"], &configuration)
}

fn stunnel(program: &Path, place: &Place) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let configuration = format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = err\n\
         socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
         [tls]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{backend}\ncert = {}\nsslVersionMin = TLSv1.2\n",
        certificate(place),
    );
    run(program, place, &[], &configuration)
}
