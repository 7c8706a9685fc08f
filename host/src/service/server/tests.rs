//! A service that several tasks use at once, in any order: whatever they do, nobody waits for ever, nothing is left open,
//! and the last word is kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use endpoints_plugin_api::export::BuiltIn;
use endpoints_plugin_api::{
    Accept, Arguments, Connection, Error, ErrorKind, Host, Incoming, Listen, ListenContext, Listener, Plugin,
    Server,
};
use tokio::io::{AsyncReadExt, duplex};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{ServerService, ServerState};
use crate::Registry;
use crate::serve::Stopping;
use crate::service::chance::{Chance, FOR_EVER, many_times, on_two_threads};

const MANIFEST: &str = r#"{
  "build": {
    "name": "endpoints-crowd", "version": "1.0.0", "api": "1.0.0", "requires": "1.0.0", "rustc": "", "target": "",
    "panic": "unwind", "entry": ""
  },
  "plugin": {
    "summary": "Listeners that take their time, fail, and end by themselves",
    "schemes": [
      {
        "scheme": "crowd",
        "kind": "transport",
        "server": {"parameters": [{"name": "place", "type": "text", "position": 1, "required": true}]}
      }
    ]
  }
}"#;

static PLUGIN: BuiltIn = BuiltIn::new::<Crowd>(|| MANIFEST);

static PLACES: Mutex<Option<HashMap<String, Arc<Place>>>> = Mutex::new(None);

/// What goes on in one service.
struct Place {
    chance: Chance,
    listeners: AtomicUsize,
    /// The most that there were at a time.
    most_listeners: AtomicUsize,
    connections: AtomicUsize,
    served: AtomicU64,
}

/// One more of something, until it is dropped.
struct Counted(Arc<Place>, fn(&Place) -> &AtomicUsize);

impl Counted {
    fn new(place: &Arc<Place>, which: fn(&Place) -> &AtomicUsize) -> Self {
        which(place).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(place), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Place {
    fn new(name: &str, seed: u64) -> Arc<Self> {
        let place = Arc::new(Self {
            chance: Chance::new(seed),
            listeners: AtomicUsize::new(0),
            most_listeners: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            served: AtomicU64::new(0),
        });
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.get_or_insert_default().insert(name.to_owned(), Arc::clone(&place));
        place
    }
}

struct Crowd;

impl Plugin for Crowd {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.as_ref().and_then(|places| places.get(arguments.text("place").ok()?));
        Ok(Server::new(There(Arc::clone(place.expect("there is such a place")))))
    }
}

struct There(Arc<Place>);

impl Listen for There {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let opened = Counted::new(&self.0, |place| &place.listeners);
        self.0.most_listeners.fetch_max(self.0.listeners.load(Ordering::SeqCst), Ordering::SeqCst);
        self.0.chance.linger(50).await;
        if self.0.chance.below(8) == 0 {
            return Err(Error::new(ErrorKind::AddressInUse, "not this time"));
        }
        Ok(Listener::new(Opened(opened)))
    }
}

struct Opened(Counted);

impl Accept for Opened {
    async fn accept(&self) -> Result<Incoming, Error> {
        let place = &self.0.0;
        sleep(place.chance.millis(20)).await;
        if place.chance.below(30) == 0 {
            return Err(Error::new(ErrorKind::Closed, "nobody comes any more"));
        }
        let (near, far) = duplex(16);
        let stays = place.chance.millis(100);
        tokio::spawn(async move {
            sleep(stays).await;
            drop(far);
        });
        Ok(Incoming::ready(Connection::from_stream(near)))
    }
}

fn service(name: &str, place: &Arc<Place>) -> ServerService {
    let registry = Registry::builder().default_plugin_path(false).compiled_in(&PLUGIN).build().unwrap();
    let endpoint = registry.server(format!("crowd:{name}")).unwrap();
    let place = Arc::clone(place);
    let handle = move |mut connection: crate::Connection, stopping: Stopping| {
        let counted = Counted::new(&place, |place| &place.connections);
        place.served.fetch_add(1, Ordering::SeqCst);
        async move {
            match counted.0.chance.below(3) {
                0 => stopping.wait().await,
                // Longer than it is given.
                1 => sleep(Duration::from_secs(60)).await,
                _ => drop(connection.read(&mut [0]).await),
            }
        }
    };
    let builder = ServerService::builder(endpoint).drain_timeout(Duration::from_millis(200));
    builder.max_connections(4).acceptors(2).handle(handle)
}

/// One of those who use it. What it does ends in time, or is given up.
async fn user(service: ServerService, place: Arc<Place>) {
    for _ in 0..8 {
        place.chance.linger(80).await;
        let given_up = place.chance.millis(60);
        let patience = if place.chance.below(2) == 0 { FOR_EVER } else { given_up };
        let done = match place.chance.below(6) {
            0 => timeout(patience, service.bind()).await,
            1..3 => timeout(patience, service.start()).await,
            3 | 4 => timeout(patience, service.stop()).await,
            _ => timeout(given_up, service.ended()).await.or(Ok(Ok(()))),
        };
        assert!(done.is_ok() || patience < FOR_EVER, "it waits for ever");
    }
}

async fn used_in_any_order(seed: u64, users: u64) -> u64 {
    let name = format!("{users}-{seed}");
    let place = Place::new(&name, seed);
    let service = service(&name, &place);
    let mut using = JoinSet::new();
    for _ in 0..users {
        using.spawn(user(service.clone(), Arc::clone(&place)));
    }
    while let Some(used) = using.join_next().await {
        used.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let mut state = service.state();
    if seed.is_multiple_of(2) {
        let _ = timeout(FOR_EVER, service.stop()).await.expect("it stops");
        assert_eq!(*state.borrow_and_update(), ServerState::Stopped, "seed {seed}");
    } else {
        drop(service);
        // What has ended by itself stays so.
        let over = |now: &ServerState| {
            matches!(now, ServerState::Stopped | ServerState::Finished | ServerState::Failed)
        };
        timeout(FOR_EVER, state.wait_for(over)).await.expect("it ends").expect("it is told");
    }
    assert!(place.most_listeners.load(Ordering::SeqCst) <= 1, "seed {seed}: it listened twice at a time");
    assert_eq!(place.listeners.load(Ordering::SeqCst), 0, "seed {seed}: it listens still");
    assert_eq!(place.connections.load(Ordering::SeqCst), 0, "seed {seed}: a connection is open still");
    place.served.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn whatever_several_do_with_it_it_stops_and_leaves_nothing() {
    many_times(async |seed| used_in_any_order(seed, 1 + seed % 5).await).await;
}

#[test]
fn so_it_does_on_several_threads() {
    on_two_threads(|seed| used_in_any_order(seed, 4));
}
