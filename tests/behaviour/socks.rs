//! A SOCKS5 proxy of a few lines (RFC 1928, RFC 1929) that can also misbehave.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a proxy does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Asks for these credentials.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// The version that it claims.
    pub(crate) version: u8,
    /// The reply to the request; 0: granted.
    pub(crate) reply: u8,
    /// Its address as it tells it, from the address type on.
    pub(crate) bound: &'static [u8],
    /// Sends each byte by itself, and reads so.
    pub(crate) bytewise: bool,
    /// Sends this together with its last words.
    pub(crate) at_once: &'static [u8],
}

impl Script {
    pub(crate) const GOOD: Self = Self {
        login: None,
        version: 5,
        reply: 0,
        bound: &[1, 192, 0, 2, 7, 0x1f, 0x90],
        bytewise: false,
        at_once: b"",
    };
}

/// What a proxy was asked for: address type, address and port.
pub(crate) type Asked = Vec<u8>;

/// A proxy for one connection; afterwards it plays the target and sends back what comes. Gives what it was asked for.
pub(crate) async fn proxy(script: Script) -> (SocketAddr, JoinHandle<Option<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accept");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Proxy { stream, script }.run().await
    });
    (address, task)
}

struct Proxy {
    stream: TcpStream,
    script: Script,
}

impl Proxy {
    async fn run(mut self) -> Option<Asked> {
        let [5, methods] = self.read().await? else { return None };
        let methods = self.read_vec(methods.into()).await?;
        let method = if self.script.login.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            self.write(&[self.script.version, 0xff]).await?;
            return None;
        }
        self.write(&[self.script.version, method]).await?;
        if let Some((user, password)) = self.script.login {
            let [1, length] = self.read().await? else { return None };
            let given_user = self.read_vec(length.into()).await?;
            let [length] = self.read().await?;
            let given_password = self.read_vec(length.into()).await?;
            let good = given_user == user.as_bytes() && given_password == password.as_bytes();
            self.write(&[1, u8::from(!good)]).await?;
            if !good {
                return None;
            }
        }
        let [5, 1, 0, kind] = self.read().await? else { return None };
        let mut asked = vec![kind];
        let length = match kind {
            1 => 4,
            4 => 16,
            _ => {
                let [length] = self.read().await?;
                length.into()
            }
        };
        asked.extend(self.read_vec(length + 2).await?);
        let reply = [&[5, self.script.reply, 0], self.script.bound, self.script.at_once].concat();
        self.write(&reply).await?;
        if self.script.reply != 0 {
            return Some(asked);
        }
        let (mut reading, mut writing) = self.stream.split();
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
        let _ = writing.shutdown().await;
        Some(asked)
    }

    async fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.read_vec(N).await?.try_into().ok()
    }

    async fn read_vec(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.ok()?;
        Some(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        if !self.script.bytewise {
            return self.stream.write_all(bytes).await.ok();
        }
        for byte in bytes {
            self.stream.write_all(&[*byte]).await.ok()?;
            // Lets the client read it by itself.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        Some(())
    }
}
