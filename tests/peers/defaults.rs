//! What TLS uses where the description names nothing: the roots that the system trusts, and `server.pem`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use endpoints_tests::make_certificates;
use tempfile::TempDir;

use crate::harness::{Peer, need, program, run};
use crate::ours::Plugins;

/// Certificates and room for files.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(&folder.path().join("pki")).expect("certificates");
    folder
}

/// The command with the plugins in `files`, to be run in `folder`.
fn command(plugins: Plugins, files: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = plugins.command(files);
    command.args(arguments).current_dir(folder);
    command
}

#[test]
fn the_roots_of_the_system_are_trusted() {
    need!("openssl");
    for plugins in Plugins::BOTH {
        let (folder, files) = (folder(), plugins.folder());
        let mut server = Command::new(program("openssl"));
        // Sends each line back in reverse.
        server.args(["s_server", "-quiet", "-rev", "-accept", "127.0.0.1:0"]);
        server.args(["-cert", "pki/server.crt", "-key", "pki/server.key"]).current_dir(folder.path());
        let mut server = Peer::start(server.stdin(Stdio::null()), folder.path());
        let port = server.port();

        let input = folder.path().join("input");
        fs::write(&input, "hello\n").expect("a file");
        for scheme in ["tls", "ssl"] {
            let connect = |roots: &str| {
                let description = format!("{scheme}:localhost:{port}");
                let mut command = command(plugins, files.path(), folder.path(), &["connect", &description]);
                // What rustls takes for the system's, where it is set.
                command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
                run(&mut command, Some(&input))
            };
            assert_eq!(connect("pki/ca.crt").expect("a root of the system's"), b"olleh\n");
            let error = connect("pki/other-ca.crt").expect_err("nobody the system trusts");
            assert!(error.contains("UnknownIssuer"), "{error}");
        }
    }
}

#[test]
fn server_pem_is_what_ssl_shows() {
    need!("openssl");
    for plugins in Plugins::BOTH {
        let (folder, files) = (folder(), plugins.folder());
        let listen = ["listen", "--echo", "ssl:0:interface=127.0.0.1"];
        let without = run(&mut command(plugins, files.path(), folder.path(), &listen), None);
        let error = without.expect_err("there is no such file");
        assert!(error.contains("server.pem"), "{error}");

        fs::copy(folder.path().join("pki/server.pem"), folder.path().join("server.pem")).expect("a copy");
        let mut listening = command(plugins, files.path(), folder.path(), &listen);
        let mut listening = Peer::start(listening.stdin(Stdio::null()), folder.path());
        let mut client = Command::new(program("openssl"));
        client.args(["s_client", "-connect", &format!("127.0.0.1:{}", listening.port())]);
        client.args(["-CAfile", "pki/ca.crt", "-verify_return_error", "-verify_hostname", "localhost"]);
        let said = run(client.current_dir(folder.path()), None).expect("openssl");
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
}
