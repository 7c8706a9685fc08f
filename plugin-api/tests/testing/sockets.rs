//! Sockets that a plugin opens itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use endpoints_plugin_api::testing::{TestHost, Values};
use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, ErrorKind, Host, Listen, ListenContext,
    Listener, Plugin, Reachable, Server,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// TCP on this machine, connected in the way that `how` says.
struct Sockets(Host);

struct Local {
    host: Host,
    how: String,
    port: u16,
}

impl Plugin for Sockets {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self(host))
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        Ok(Client::new(Local {
            host: self.0.clone(),
            how: arguments.text("how")?.to_owned(),
            port: arguments.port("port")?,
        }))
    }

    fn server(&self, _scheme: &str, _arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        Ok(Server::new(Local { host: self.0.clone(), how: String::new(), port: 0 }))
    }
}

impl Connect for Local {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        let to = SocketAddr::from(([127, 0, 0, 1], self.port));
        match &*self.how {
            "finish" => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket =
                    rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
                match rustix::net::connect(&socket, &to) {
                    Ok(()) | Err(rustix::io::Errno::INPROGRESS) => self.host.finish_connect(socket).await,
                    Err(error) => Err(std::io::Error::from(error).into()),
                }
            }
            "adopt" => self.host.adopt(TcpStream::connect(to)?),
            "hand over" => Ok(Connection::from_socket(TcpStream::connect(to)?)),
            "unix" => self.host.adopt(UnixStream::pair()?.0),
            "file" => Ok(Connection::from_socket(std::fs::File::open("/etc/passwd")?)),
            _ => {
                let (one, other) = UnixStream::pair()?;
                Ok(Connection::from_descriptors(one, other, false))
            }
        }
    }
}

impl Listen for Local {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        let port = socket.local_addr()?.port().to_string();
        Ok(Listener::from_socket(socket, vec![Reachable::new("sockets").with("port", port)], ()))
    }
}

fn values(how: &str, port: u16) -> Values {
    Values::new().text("how", how).integer("port", port.into())
}

#[tokio::test]
async fn sockets_can_be_read_and_written_however_they_are_handed_over() {
    let host = TestHost::new();
    let plugin = host.plugin::<Sockets>().unwrap();
    let mut listener = plugin.server("sockets", &Values::new()).unwrap().listen().await.unwrap();
    let reachable = listener.reachable().remove(0);
    let endpoints_plugin_api::Argument::Value(port) = &reachable.arguments[0].1 else { panic!("a port") };
    let port = std::str::from_utf8(port).unwrap().parse().unwrap();
    for how in ["finish", "adopt", "hand over"] {
        let client = plugin.client("sockets", &values(how, port)).unwrap();
        let accepting = async { listener.accept().await?.await };
        let (mut connected, mut accepted) = tokio::try_join!(client.connect(), accepting).unwrap();
        connected.write_all(b"there").await.unwrap();
        connected.shutdown().await.unwrap();
        let mut heard = String::new();
        accepted.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "there");
        accepted.write_all(b"x").await.unwrap();
        assert_eq!(connected.read_u8().await.unwrap(), b'x');
    }
    listener.close().await.unwrap();
    let client = plugin.client("sockets", &values("finish", port)).unwrap();
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn what_is_no_stream_socket_is_an_error() {
    let host = TestHost::new();
    let plugin = host.plugin::<Sockets>().unwrap();
    let connect = async |how: &str| plugin.client("sockets", &values(how, 0)).unwrap().connect().await;
    assert_eq!(connect("unix").await.unwrap().read(&mut [0]).await.unwrap(), 0);
    assert_eq!(connect("file").await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(connect("a pair").await.unwrap_err().kind(), ErrorKind::Unsupported);
}
