//! The sockets that a process inherits, as its environment tells (sd_listen_fds(3)): `LISTEN_PID`, `LISTEN_FDS` and, where
//! they have names, `LISTEN_FDNAMES`.

use std::env;
use std::os::fd::RawFd;
use std::process;

use endpoints_plugin_api::Error;

/// The first inherited descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// The most sockets that an error lists.
const SHOWN: usize = 32;

/// What the environment tells.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// How many there are.
    count: usize,
    /// Their names, as far as they have any.
    names: Vec<String>,
    /// Why there is none, where it is not that there are too few.
    why_none: Option<String>,
}

impl Inherited {
    pub(crate) fn from_environment() -> Self {
        let text = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let (pid, count, names) = (text("LISTEN_PID"), text("LISTEN_FDS"), text("LISTEN_FDNAMES"));
        Self::new(pid.as_deref(), count.as_deref(), names.as_deref(), process::id())
    }

    fn new(pid: Option<&str>, count: Option<&str>, names: Option<&str>, own: u32) -> Self {
        let why_none = match (pid, count) {
            (None, None) => Some(
                "LISTEN_FDS is not set, so this process was not started for a socket (to try it: \
                     systemd-socket-activate -l 127.0.0.1:8080 endpoints …)"
                    .to_owned(),
            ),
            (None, Some(_)) => Some("LISTEN_PID is not set".to_owned()),
            (Some(pid), _) if pid.trim().parse() != Ok(own) => Some(format!(
                "LISTEN_PID is {pid}, so they are meant for that process, not for this one ({own})"
            )),
            (Some(_), Some(count)) if count.trim().parse::<usize>().is_err() => {
                Some(format!("LISTEN_FDS is {count:?}, which is no number of sockets"))
            }
            _ => None,
        };
        let count = count.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        Self {
            count: if why_none.is_some() { 0 } else { count },
            names: names
                .filter(|names| !names.is_empty())
                .map(|names| names.split(':').map(str::to_owned).collect())
                .unwrap_or_default(),
            why_none,
        }
    }

    /// The descriptor at a place, from 0.
    ///
    /// # Errors
    /// If there are not so many.
    pub(crate) fn at(&self, index: u64) -> Result<RawFd, Error> {
        let place = usize::try_from(index).ok().filter(|place| *place < self.count);
        place.and_then(descriptor).ok_or_else(|| {
            Error::invalid_argument(
                "index",
                format!("index: there is no socket {index}; {}", self.what_there_is()),
            )
        })
    }

    /// The descriptor of that name.
    ///
    /// # Errors
    /// If none has it, or several have.
    pub(crate) fn named(&self, name: &str) -> Result<RawFd, Error> {
        let named = |(_, known): &(usize, &String)| known.as_str() == name;
        let mut places = self.names.iter().take(self.count).enumerate().filter(named).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => descriptor(place)
                .ok_or_else(|| Error::invalid_argument("name", "name: its descriptor has no number")),
            (Some(one), Some(other)) => Err(Error::invalid_argument(
                "name",
                format!(
                    "name: several sockets have the name {name:?}, such as {one} and {other}; give index instead"
                ),
            )),
            (None, _) => Err(Error::invalid_argument(
                "name",
                format!("name: no socket has the name {name:?}; {}", self.what_there_is()),
            )),
        }
    }

    fn what_there_is(&self) -> String {
        if let Some(why) = &self.why_none {
            return why.clone();
        }
        let name = |place: usize| match self.names.get(place) {
            Some(name) => format!("{place} ({name:?})"),
            None => format!("{place} (unnamed)"),
        };
        match self.count {
            0 => "none is inherited".to_owned(),
            count => {
                // However many the environment claims.
                let shown: Vec<String> = (0..count.min(SHOWN)).map(name).collect();
                let more = count.saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let are =
                    if count == 1 { "one is inherited".to_owned() } else { format!("{count} are inherited") };
                format!("{are}: {}{more}", shown.join(", "))
            }
        }
    }
}

fn descriptor(place: usize) -> Option<RawFd> {
    RawFd::try_from(place).ok()?.checked_add(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(pid: &str, count: &str, names: Option<&str>) -> Inherited {
        Inherited::new(Some(pid), Some(count), names, 7)
    }

    #[test]
    fn sockets_are_found_by_place_and_by_name() {
        let all = inherited("7", "3", Some("web:admin:api"));
        assert_eq!((all.at(0).unwrap(), all.at(2).unwrap(), all.named("admin").unwrap()), (3, 5, 4));
        for error in [all.at(3).unwrap_err(), all.named("x").unwrap_err()] {
            assert!(
                error.message().ends_with(r#"3 are inherited: 0 ("web"), 1 ("admin"), 2 ("api")"#),
                "{error}"
            );
        }
        assert!(inherited("7", "2", Some("a:a")).named("a").unwrap_err().message().contains("0 and 1"));
    }

    #[test]
    fn names_may_be_absent_or_few() {
        assert_eq!(inherited("7", "2", None).at(1).unwrap(), 4);
        assert_eq!(inherited("7", "2", Some("a")).at(1).unwrap(), 4);
        // More names than sockets name nothing.
        assert!(inherited("7", "1", Some("a:b")).named("b").is_err());
    }

    #[test]
    fn an_absurd_number_of_sockets_makes_no_absurd_message() {
        let error = inherited("7", &usize::MAX.to_string(), Some("web")).named("x").unwrap_err();
        assert!(
            error.message().contains(r#"0 ("web"), 1 (unnamed), 2 (unnamed)"#)
                && error.message().ends_with(" more"),
            "{error}"
        );
        assert!(error.message().len() < 700, "{error}");
    }

    #[test]
    fn sockets_of_other_processes_are_not_ours() {
        let error = inherited("8", "3", None).at(0).unwrap_err();
        assert!(error.message().contains("LISTEN_PID is 8"), "{error}");
        let error = Inherited::new(None, None, None, 7).at(0).unwrap_err();
        assert!(error.message().contains("LISTEN_FDS is not set"), "{error}");
        assert!(error.message().contains("systemd-socket-activate -l"), "{error}");
        let error = inherited("7", "x", None).at(0).unwrap_err();
        assert!(error.message().contains(r#"LISTEN_FDS is "x", which is no number"#), "{error}");
        let error = inherited("7", "1", None).at(1).unwrap_err();
        assert!(error.message().ends_with("no socket 1; one is inherited: 0 (unnamed)"), "{error}");
    }
}
