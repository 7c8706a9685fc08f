//! The services that run, and how they come to be others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use endpoints::forward::Relay;
use endpoints::serve::{Event, WhenFull};
use endpoints::service::{
    ClientService, ClientState, ServerService, ServerServiceBuilder, ServerState, Service, ServiceGroup,
};
use endpoints::{Error, ErrorKind};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::file::{self, Full};
use super::kept_up::kept_up;
use super::made::{From, Made, To, value};
use crate::events::{Events, Numbers};
use crate::service::BACKLOG;
use crate::work::Work;

pub(super) struct Set {
    group: ServiceGroup,
    running: Vec<Running>,
    /// Services that are no longer of the set, and drain.
    leaving: JoinSet<(Events, Result<(), Error>)>,
    told: Told,
    workers: usize,
    /// The listeners' descriptions, canonical, for which sockets were taken that this process was handed.
    inherited: HashSet<String>,
}

/// Whom each service tells what happens, now and when it comes again.
struct Told {
    events: Events,
    /// By the names of all services that there were.
    numbers: HashMap<String, Numbers>,
}

impl Told {
    /// For a service that takes the place of any before of that name.
    fn by(&mut self, name: &str) -> Events {
        let numbers = self.numbers.entry(name.to_owned()).or_default();
        self.events.of(name, numbers.go_on())
    }
}

struct Running {
    written: file::Service,
    events: Events,
    work: Current,
    kind: Kind,
    /// Whether its listener is closed.
    closed: watch::Receiver<bool>,
}

#[derive(Clone)]
enum Kind {
    Server(ServerService),
    Client(ClientService),
}

/// What is done with the next connection.
pub(super) type Current = Arc<RwLock<Arc<Work>>>;

pub(super) fn now(current: &Current) -> Arc<Work> {
    Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner))
}

impl Set {
    pub(super) fn new(made: Vec<Made>, events: &Events, workers: usize) -> Self {
        let mut group = ServiceGroup::new("run").stop_together();
        let mut running = Vec::new();
        let mut told = Told { events: events.clone(), numbers: HashMap::new() };
        let inherited = made.iter().filter_map(Made::inherited).collect();
        for made in made {
            let events = told.by(made.name());
            let one = Running::new(made, events, workers);
            group = match one.kind.clone() {
                Kind::Server(server) => group.with(server),
                Kind::Client(client) => group.with(client),
            };
            running.push(one);
        }
        Self { group, running, leaving: JoinSet::new(), told, workers, inherited }
    }

    pub(super) async fn start(&mut self) -> Result<(), Error> {
        Service::start(&self.group).await?;
        for one in &self.running {
            one.say_listening();
        }
        Ok(())
    }

    /// Waits until all have ended by themselves, or one cannot go on.
    pub(super) async fn ended(&mut self) -> Result<(), Error> {
        let ended = self.group.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return ended,
                Some(Ok((events, left))) = self.leaving.join_next() => {
                    // It is over with that, unless all are stopped meanwhile.
                    if let Err(error) = left {
                        events.error(&error);
                    }
                }
            }
        }
    }

    /// Whether a service that had no more connections to give had one that failed.
    pub(super) fn has_failed(&self) -> bool {
        self.running.iter().any(Running::has_failed)
    }

    /// Stops all, and waits for those that left before too.
    pub(super) async fn stop(&mut self) -> Result<(), Error> {
        let mut stopped = Service::stop(&self.group).await;
        while let Some(left) = self.leaving.join_next().await {
            match left {
                // One is the command's own error, and told as such.
                Ok((_, Err(error))) if stopped.is_ok() => stopped = Err(error),
                Ok((events, Err(error))) => events.error(&error),
                Ok((_, Ok(()))) => {}
                Err(panic) => {
                    let message = format!("stopping a service failed: {panic}");
                    stopped = stopped.and(Err(Error::new(ErrorKind::Internal, message)));
                }
            }
        }
        stopped
    }

    /// Refuses what cannot be done while the process runs: a socket that it was handed is taken once.
    pub(super) fn check(&self, made: &[Made]) -> Result<(), Error> {
        for made in made {
            let Some(inherited) = made.inherited() else { continue };
            let before = self.running.iter().find(|one| one.written.name == made.written.name);
            let refused = match before {
                Some(one) => !one.can_become(made),
                None => self.inherited.contains(&inherited),
            };
            if refused {
                let message = format!(
                    "service {:?} listens on a socket that this process was handed, which can be taken once: what is done with its \
                     connections can change, but for all else, such as another name, start the process anew",
                    made.name()
                );
                return Err(Error::new(ErrorKind::InvalidSetting, message));
            }
        }
        Ok(())
    }

    /// Makes the services those of the file: what is the same is left alone. Says what became of each.
    pub(super) async fn change(&mut self, made: Vec<Made>) -> Changes {
        let mut before = std::mem::take(&mut self.running);
        let mut to_start = Vec::new();
        let mut changes = Changes::default();
        for made in made {
            let place = before.iter().position(|one| one.written.name == made.written.name);
            match place.map(|place| before.remove(place)) {
                Some(one) if one.can_become(&made) => {
                    if one.written != made.written {
                        changes.changed.push(made.name().to_owned());
                    }
                    self.running.push(one.become_it(made));
                }
                Some(one) => {
                    changes.restarted.push(made.name().to_owned());
                    self.leave(one).await;
                    to_start.push(made);
                }
                None => {
                    changes.started.push(made.name().to_owned());
                    to_start.push(made);
                }
            }
        }
        for one in before {
            changes.stopped.push(one.written.name.as_ref().clone());
            self.leave(one).await;
        }
        for made in to_start {
            let name = made.name().to_owned();
            if let Err(error) = self.begin(made).await {
                changes.failed(name, &error);
            }
        }
        changes
    }

    /// Takes a service out: it drains while the others go on.
    async fn leave(&mut self, one: Running) {
        let name = one.written.name.as_ref().clone();
        let events = one.events.clone();
        let group = self.group.clone();
        self.leaving.spawn(async move { (events, group.remove(&name).await.map(drop)) });
        one.until_closed().await;
    }

    async fn begin(&mut self, made: Made) -> Result<(), Error> {
        let events = self.told.by(made.name());
        self.inherited.extend(made.inherited());
        let one = Running::new(made, events, self.workers);
        let added = match one.kind.clone() {
            Kind::Server(server) => self.group.add(server).await,
            Kind::Client(client) => self.group.add(client).await,
        };
        match added {
            Ok(()) => {
                one.say_listening();
                self.running.push(one);
                Ok(())
            }
            Err(error) => {
                one.events.error(&error);
                Err(error)
            }
        }
    }
}

/// What became of the services of a file that was read anew, by name.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) started: Vec<String>,
    /// Stopped, and started as they are now.
    pub(super) restarted: Vec<String>,
    /// What is done with their connections to come.
    pub(super) changed: Vec<String>,
    pub(super) stopped: Vec<String>,
    /// Those that could not be started.
    pub(super) failed: Vec<String>,
    /// Each of these, and why.
    pub(super) failures: Vec<String>,
}

impl Changes {
    fn failed(&mut self, name: String, error: &Error) {
        let why = error.message();
        let why = why.strip_prefix(&format!("{name}: ")).unwrap_or(why);
        self.failures.push(format!("{name}: {why}"));
        self.started.retain(|other| *other != name);
        self.restarted.retain(|other| *other != name);
        self.failed.push(name);
    }

    /// Each sort that there is any of.
    pub(super) fn sorts(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        let Self { started, restarted, changed, stopped, failed, .. } = self;
        let sorts = [
            ("started", started),
            ("restarted", restarted),
            ("changed", changed),
            ("stopped", stopped),
            ("failed", failed),
        ];
        sorts.into_iter().map(|(sort, names)| (sort, &**names)).filter(|(_, names)| !names.is_empty())
    }
}

impl Running {
    fn new(made: Made, events: Events, workers: usize) -> Self {
        let observer = events.clone();
        let work = Arc::new(RwLock::new(Arc::new(work(&made, &events))));
        let (is_closed, closed) = watch::channel(false);
        let kind = match made.from {
            From::Listen(server) => {
                let (current, told) = (Arc::clone(&work), events.clone());
                let handle = move |id, incoming| {
                    let (work, events) = (now(&current), told.clone());
                    async move { work.serve(id, incoming, &events).await }
                };
                let service = ServerService::builder(server)
                    .acceptors(workers)
                    .default_backlog(BACKLOG)
                    .on_event(move |event| {
                        if let Event::ListenerClosed = event {
                            is_closed.send_replace(true);
                        }
                        observer.tell(event);
                    });
                Kind::Server(limited(service, &made.written).handle_incoming(handle))
            }
            From::Connect(clients) => {
                is_closed.send_replace(true);
                Kind::Client(kept_up(clients, &made.written, &work, &events))
            }
        };
        Self { written: made.written, events, work, kind, closed }
    }

    /// Whether nothing but what is done with its connections changes.
    fn can_become(&self, made: &Made) -> bool {
        let from = |written: &file::Service| file::Service {
            forward: None,
            exec: None,
            echo: None,
            connect_timeout: None,
            idle_timeout: None,
            ..written.clone()
        };
        match self.kind {
            Kind::Server(_) => from(&self.written) == from(&made.written),
            // The connection that it has would go on as before.
            Kind::Client(_) => self.written == made.written,
        }
    }

    /// Connections to come are served in the new way.
    fn become_it(mut self, made: Made) -> Self {
        if self.written != made.written {
            let new = Arc::new(work(&made, &self.events));
            *self.work.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        self.written = made.written;
        self
    }

    fn has_failed(&self) -> bool {
        let has_finished = match &self.kind {
            Kind::Server(server) => *server.state().borrow() == ServerState::Finished,
            Kind::Client(_) => false,
        };
        has_finished && self.events.has_failed()
    }

    fn say_listening(&self) {
        if let Kind::Server(server) = &self.kind {
            self.events.reached_by(server.reachable(), &server.addresses());
        }
    }

    /// Waits until its address is free.
    async fn until_closed(mut self) {
        let server = match &self.kind {
            Kind::Server(server) => server,
            // There is one connection at a time, also where another service takes its place.
            Kind::Client(client) => {
                let _ = client.state().wait_for(|state| matches!(state, ClientState::Stopped)).await;
                return;
            }
        };
        let mut state = server.state();
        let over = |state: &ServerState| {
            matches!(state, ServerState::Stopped | ServerState::Finished | ServerState::Failed)
        };
        tokio::select! {
            _ = self.closed.wait_for(|closed| *closed) => {}
            _ = state.wait_for(over) => {}
        }
    }
}

fn work(made: &Made, events: &Events) -> Work {
    match &made.to {
        To::Echo => Work::Echo,
        To::Exec(command) => Work::Exec(command.clone()),
        To::Forward(client) => {
            let events = events.clone();
            let mut relay = Relay::new(client.clone()).on_event(move |event| events.tell(event));
            if let Some(limit) = value(made.written.connect_timeout.as_ref()) {
                relay = relay.connect_timeout(limit.0.0);
            }
            if let Some(limit) = value(made.written.idle_timeout.as_ref()) {
                relay = relay.idle_timeout(limit.0.0);
            }
            Work::Relay(relay)
        }
    }
}

fn limited(mut service: ServerServiceBuilder, written: &file::Service) -> ServerServiceBuilder {
    service = service.named(written.name.as_ref());
    if let Some(most) = value(written.max_connections.as_ref()) {
        service = service.max_connections(most.0);
    }
    if let Some(Full::Refuse) = value(written.when_full.as_ref()) {
        service = service.when_full(WhenFull::Refuse);
    }
    if let Some(most) = value(written.max_per_peer.as_ref()) {
        service = service.max_per_peer(most.0);
    }
    if let Some(most) = value(written.max_handshakes.as_ref()) {
        service = service.max_handshakes(most.0);
    }
    if let Some(limit) = value(written.handshake_timeout.as_ref()) {
        service = service.handshake_timeout(limit.0.0);
    }
    if let Some(limit) = value(written.drain_timeout.as_ref()) {
        service = service.drain_timeout(limit.0);
    }
    service
}
