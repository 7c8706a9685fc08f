//! What Unix sockets are bound to, and what is told of it.

use std::fs;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::path::{Path, PathBuf};

use endpoints::Address;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use tokio::io::AsyncReadExt as _;

use crate::support::{World, around, both_forms};

both_forms!(clients_that_have_names_are_told_by_them, a_socket_with_the_longest_path_is_listened_on);

/// The longest path that there can be: the kernel tells it with a NUL behind it, for which its structure has no room.
fn longest(folder: &Path) -> PathBuf {
    let mut longest = folder.join("l").into_os_string();
    longest.push("x".repeat(108 - longest.len()));
    longest.into()
}

async fn clients_that_have_names_are_told_by_them(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, path) = (folder.path().join("s"), folder.path().join("client"));
    let longest = longest(folder.path());
    let abstract_name = path.as_os_str().as_encoded_bytes().to_vec();
    let named = |path: &Path| SocketAddrUnix::new(path).expect("a path");
    let cases = [
        (named(&path), Address::UnixPath(path.clone())),
        (SocketAddrUnix::new_abstract_name(&abstract_name).expect("a name"), {
            Address::UnixAbstract(abstract_name.clone())
        }),
        (named(&longest), Address::UnixUnnamed),
    ];
    for server in
        [format!("unix:{}", socket.display()), around("pass", &format!("unix:{}w", socket.display()))]
    {
        let listener = world.listen(&server).await;
        let at = listener.addresses()[0].path().expect("a path").to_owned();
        for (name, told) in &cases {
            let client =
                rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
            rustix::net::bind(&client, name).expect("bind");
            rustix::net::connect(&client, &named(&at)).expect("connect");
            let incoming = listener.accept().await.expect("accept");
            assert_eq!(incoming.info().peer_addr().as_ref(), Some(told), "{server}");
            let mut accepted = incoming.await.expect("no handshake");
            assert_eq!(accepted.info().peer_addr().as_ref(), Some(told), "{server}");
            let mut client = std::os::unix::net::UnixStream::from(client);
            client.write_all(b"x").expect("write");
            assert_eq!(accepted.read_u8().await.expect("read"), b'x');
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(&longest);
        }
    }
}

/// As one may be inherited.
async fn a_socket_with_the_longest_path_is_listened_on(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let longest = longest(folder.path());
    let name = SocketAddrUnix::new(&longest).expect("a path");
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &name).expect("bind");
    rustix::net::listen(&socket, 1).expect("listen");
    let listener = world.listen(&format!("fd:{}", socket.into_raw_fd())).await;
    assert_eq!((listener.addresses(), listener.reachable().len()), (&[Address::UnixUnnamed][..], 0));
    let client = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    rustix::net::connect(&client, &name).expect("connect");
    let accepted = listener.accept().await.expect("accept").await.expect("no handshake");
    assert_eq!(accepted.info().local_addr(), Some(Address::UnixUnnamed));
}
