//! `{{name}}:`: another endpoint, whose two sides greet each other first, to begin with.
//!
//! What the scheme accepts is declared in `plugin.json`. To make something else of it, change the
//! parameters there, [`Greeting`], and what [`Greeting::exchange`] does.

use std::io;
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Client, Connection, Error, ErrorKind, Host, Plugin, Reachable, Server,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SCHEME: &str = "{{name}}";

/// The plugin. It keeps the host's services for its endpoints.
#[derive(Debug)]
pub struct Wrapper {
    host: Host,
}

impl Plugin for Wrapper {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    // The endpoint inside was made and checked by the host. Nothing is opened yet.
    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        let greeting = Greeting::new(&self.host, arguments)?;
        let inner = arguments.client("endpoint")?;
        Ok(Client::wrap(inner, move |connection| {
            greeting.clone().exchange(connection)
        }))
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let greeting = Greeting::new(&self.host, arguments)?;
        let inner = arguments.server("endpoint")?;
        let word = greeting.word.clone();
        // How a client reaches this listener: it needs the wrapper too. It is printed, so no
        // secrets here.
        let reachable = move |inner| {
            Reachable::new(SCHEME)
                .with("word", &word)
                .with_nested("endpoint", inner)
        };
        let exchange = move |connection| greeting.clone().exchange(connection);
        Ok(Server::wrap_reachable(inner, exchange, reachable))
    }
}

/// What both sides say first.
#[derive(Clone)]
struct Greeting {
    host: Host,
    word: String,
    timeout: Duration,
}

/// The longest word; both sides send theirs before they read, so it must fit into any buffer.
const LONGEST: usize = 255;

impl Greeting {
    fn new(host: &Host, arguments: &Arguments<'_>) -> Result<Self, Error> {
        let word = arguments.text("word")?.to_owned();
        // The manifest says that the word is text. What else must hold is checked here.
        if word.is_empty() || word.len() > LONGEST || word.contains('\n') {
            let message = format!("word: it must be one line of 1 to {LONGEST} bytes");
            return Err(Error::invalid_argument("word", message));
        }
        Ok(Self {
            host: host.clone(),
            word,
            timeout: arguments.duration("timeout")?,
        })
    }

    /// Called for each connection. Of a server, it runs when the connection has been accepted: a
    /// slow peer delays nobody else.
    async fn exchange(self, mut connection: Connection) -> Result<Connection, Error> {
        let ours = format!("{}\n", self.word);
        let mut theirs = Vec::new();
        let exchanging = async {
            connection.write_all(ours.as_bytes()).await?;
            connection.flush().await?;
            // To the end of the line and no further: what follows belongs to whoever reads next.
            while theirs.last() != Some(&b'\n') && theirs.len() <= LONGEST {
                theirs.push(connection.read_u8().await?);
            }
            io::Result::Ok(())
        };
        self.host.timeout(self.timeout, exchanging).await??;
        if theirs != ours.as_bytes() {
            let message = "the peer greets with another word; give both sides the same";
            return Err(Error::new(ErrorKind::HandshakeFailed, message));
        }
        // Handed on as it came: the greeting costs nothing afterwards. To change the bytes, put a
        // stream around it with `connection.map_stream`.
        Ok(connection.with_fact(&format!("{SCHEME}.word"), &self.word))
    }
}

endpoints_plugin_api::export!(Wrapper, "plugin.json");
