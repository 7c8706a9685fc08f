//! Serving that something is wrong with.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use endpoints_plugin_api::export::BuiltIn;
use endpoints_plugin_api::{
    Accept, Arguments, Error, ErrorKind, Host, Incoming, Listen, ListenContext, Listener, Plugin, Server,
};
use tokio::time::timeout;

use super::Serve;
use crate::Registry;

const MANIFEST: &str = r#"{
  "build": {
    "name": "endpoints-broken", "version": "1.0.0", "api": "1.0.0", "requires": "1.0.0", "rustc": "", "target": "",
    "panic": "unwind", "entry": ""
  },
  "plugin": {
    "summary": "A listener that fails for good, and then has nothing to give",
    "schemes": [{"scheme": "broken", "kind": "transport", "server": {"parameters": []}}]
  }
}"#;

static PLUGIN: BuiltIn = BuiltIn::new::<Broken>(|| MANIFEST);

struct Broken;

impl Plugin for Broken {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn server(&self, _scheme: &str, _arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        Ok(Server::new(Self))
    }
}

impl Listen for Broken {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        Ok(Listener::new(Once(AtomicBool::new(false))))
    }
}

struct Once(AtomicBool);

impl Accept for Once {
    async fn accept(&self) -> Result<Incoming, Error> {
        if self.0.swap(true, Ordering::SeqCst) {
            return pending().await;
        }
        Err(Error::new(ErrorKind::Panicked, "it is of no more use"))
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_acceptor_that_has_nothing_more_to_accept_from_ends_it() {
    let registry = Registry::builder().default_plugin_path(false).compiled_in(&PLUGIN).build().unwrap();
    for limit in [None, Some(10)] {
        let listener = registry.server("broken:").unwrap().listen().await.unwrap();
        let mut serve = Serve::new(listener).acceptors(3);
        if let Some(most) = limit {
            serve = serve.max_connections(most);
        }
        let serving = serve.run(async |_, _| {}, pending::<()>());
        let outcome = timeout(Duration::from_secs(5), serving).await.expect("it ends");
        assert_eq!(outcome.error.unwrap().message(), "broken: it is of no more use");
    }
}
