//! The file that `endpoints run` reads, checked as far as no plugin is asked.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use endpoints::{Error, ErrorKind};
use serde::Deserialize;
use toml::Spanned;

mod values;

pub(super) use values::{Count, Full, Order, Retry, Several, SomeTime, Time};

/// What stands in the file: services, in its order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    service: Vec<Service>,
}

/// One service, as it is written. Two are equal if nothing needs to be done to make one of the other.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Service {
    pub(super) name: Spanned<String>,

    // Where connections come from: one of these.
    pub(super) listen: Option<Spanned<String>>,
    pub(super) connect: Option<Spanned<Several>>,

    // What is done with them: one of these.
    pub(super) forward: Option<Spanned<String>>,
    pub(super) exec: Option<Spanned<Vec<String>>>,
    pub(super) echo: Option<Spanned<bool>>,

    // With listen.
    pub(super) max_connections: Option<Spanned<Count>>,
    pub(super) when_full: Option<Spanned<Full>>,
    pub(super) max_per_peer: Option<Spanned<Count>>,
    pub(super) max_handshakes: Option<Spanned<Count>>,
    pub(super) handshake_timeout: Option<Spanned<SomeTime>>,
    pub(super) drain_timeout: Option<Spanned<Time>>,

    // With connect.
    pub(super) order: Option<Spanned<Order>>,
    pub(super) retry: Option<Spanned<Retry>>,
    pub(super) reset_after: Option<Spanned<Time>>,

    // With forward.
    pub(super) connect_timeout: Option<Spanned<SomeTime>>,
    pub(super) idle_timeout: Option<Spanned<SomeTime>>,
}

/// A file's path and text, for errors that say where.
pub(super) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

/// The most bytes that a file may have.
const LARGEST: u64 = 4 << 20;

/// Reads the services of a file.
pub(super) fn read(path: &Path) -> Result<(String, Vec<Service>), Error> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    read.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::InvalidSetting,
        };
        Error::new(kind, format!("cannot read {}: {error}", path.display()))
    })?;
    if text.len() as u64 > LARGEST {
        let message =
            format!("{} has more than {} MiB: it is no file of services", path.display(), LARGEST >> 20);
        return Err(Error::new(ErrorKind::InvalidSetting, message));
    }
    let services = Source::new(path, &text).services()?;
    Ok((text, services))
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text }
    }

    fn services(&self) -> Result<Vec<Service>, Error> {
        let written: Written = toml::from_str(self.text).map_err(|error| self.unreadable(&error))?;
        if written.service.is_empty() {
            return Err(self.error(0..0, "there is no service in it; a service begins with [[service]]"));
        }
        let mut names = HashSet::new();
        for service in &written.service {
            self.check(service)?;
            if !names.insert(service.name.as_ref()) {
                let message = format!("there are two services with the name {:?}", service.name.as_ref());
                return Err(self.error(service.name.span(), message));
            }
        }
        Ok(written.service)
    }

    /// What no type can say.
    fn check(&self, service: &Service) -> Result<(), Error> {
        let name = service.name.as_ref();
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(self
                .error(service.name.span(), "a name has at least one character, and no control characters"));
        }
        let of = |what: &str| format!("service {name:?}: {what}");
        match (&service.listen, &service.connect) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(connect)) => {
                let message = of("it has both listen and connect: give one of them, or two services");
                return Err(self.error(connect.span(), message));
            }
            (None, None) => {
                let message = of("say where its connections come from, with listen or connect");
                return Err(self.error(service.name.span(), message));
            }
        }
        if let Some(connect) = &service.connect
            && connect.as_ref().is_empty()
        {
            return Err(self.error(connect.span(), of("connect names no endpoint")));
        }
        let work = [
            service.forward.as_ref().map(Spanned::span),
            service.exec.as_ref().map(Spanned::span),
            service.echo.as_ref().filter(|echo| *echo.as_ref()).map(Spanned::span),
        ];
        let mut work = work.into_iter().flatten();
        match (work.next(), work.next()) {
            (Some(_), None) => {}
            (_, Some(second)) => {
                let message = of("it has more than one of forward, exec and echo: give one of them");
                return Err(self.error(second, message));
            }
            (None, _) => {
                let message = of("say what is done with its connections, with forward, exec or echo = true");
                return Err(self.error(service.name.span(), message));
            }
        }
        if let Some(exec) = &service.exec
            && exec.as_ref().first().is_none_or(String::is_empty)
        {
            return Err(self.error(exec.span(), of("exec names no program")));
        }
        self.check_belonging(service, &of)
    }

    /// Whether each setting is about something that the service does.
    fn check_belonging(&self, service: &Service, of: &dyn Fn(&str) -> String) -> Result<(), Error> {
        fn at<T>(name: &'static str, value: Option<&Spanned<T>>) -> Option<(&'static str, Range<usize>)> {
            value.map(|value| (name, value.span()))
        }
        let listening = [
            at("max-connections", service.max_connections.as_ref()),
            at("when-full", service.when_full.as_ref()),
            at("max-per-peer", service.max_per_peer.as_ref()),
            at("max-handshakes", service.max_handshakes.as_ref()),
            at("handshake-timeout", service.handshake_timeout.as_ref()),
            at("drain-timeout", service.drain_timeout.as_ref()),
        ];
        let connecting = [
            at("order", service.order.as_ref()),
            at("retry", service.retry.as_ref()),
            at("reset-after", service.reset_after.as_ref()),
        ];
        let forwarding = [at("idle-timeout", service.idle_timeout.as_ref())];
        let misplaced = [
            (service.listen.is_none(), "listen", &listening[..]),
            (service.connect.is_none(), "connect", &connecting[..]),
            (service.forward.is_none(), "forward", &forwarding[..]),
        ];
        for (is_missing, wanted, settings) in misplaced {
            let first = settings.iter().flatten().next().filter(|_| is_missing);
            if let Some((name, span)) = first {
                let message = of(&format!("{name} is of services with {wanted}, which this one has not"));
                return Err(self.error(span.clone(), message));
            }
        }
        if let (Some(when_full), None) = (&service.when_full, &service.max_connections) {
            let message = of("when-full says what to do beyond max-connections, which is not given");
            return Err(self.error(when_full.span(), message));
        }
        if let (None, None, Some(limit)) = (&service.forward, &service.connect, &service.connect_timeout) {
            let message =
                of("connect-timeout is of services with forward or connect, which this one has not");
            return Err(self.error(limit.span(), message));
        }
        Ok(())
    }

    /// An error at a place of the file.
    pub(super) fn error(&self, span: Range<usize>, message: impl fmt::Display) -> Error {
        Error::new(ErrorKind::InvalidSetting, format!("{}: {message}", self.place(span)))
    }

    /// The path, line and column of a place.
    pub(super) fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    fn unreadable(&self, error: &toml::de::Error) -> Error {
        // Some messages of the parser have several lines.
        let message = error.message().trim().replace('\n', ", ");
        let message = match unknown(&message) {
            Some((written, known)) => {
                let nearest = known
                    .iter()
                    .map(|name| (strsim::damerau_levenshtein(written, name), name))
                    .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
                    .min_by_key(|(distance, _)| *distance);
                let meant = nearest.map(|(_, name)| format!("; did you mean {name}?")).unwrap_or_default();
                format!("there is no {written:?} here: known are {}{meant}", known.join(", "))
            }
            None => plain(&message),
        };
        self.error(error.span().unwrap_or(0..0), message)
    }
}

/// The name that serde does not know, and those that it does.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest =
        message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (written, rest) = rest.split_once('`')?;
    Some((written, rest.split('`').skip(1).step_by(2).collect()))
}

/// A message about a type, in the words of the file, and without the value: that may be a secret.
fn plain(message: &str) -> String {
    let types = message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
    let Some((found, wanted)) = types else { return message.to_owned() };
    let found = found.split([' ', ',']).next().unwrap_or(found);
    match (wanted, found) {
        ("a sequence", "map") => {
            "several of these are written with two brackets each, as in [[service]]".to_owned()
        }
        ("a sequence", found) => format!("wanted a list, not a {found}"),
        ("i64" | "usize", found) => format!("wanted a whole number, not a {found}"),
        ("f64", found) => format!("wanted a number, not a {found}"),
        ("struct Retry", found) => format!("wanted a table such as {{ factor = 2 }}, not a {found}"),
        (wanted, found) => format!("wanted {wanted}, not a {found}"),
    }
}

#[cfg(test)]
mod tests;
