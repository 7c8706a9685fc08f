//! The values that a file of services may have.

use std::fmt;
use std::time::Duration;

use endpoints::service::Backoff;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

/// One description, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Several {
    One(String),
    More(Vec<Spanned<String>>),
}

/// What is done with a connection beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Full {
    Wait,
    Refuse,
}

/// In which order several endpoints are tried.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    Given,
    Random,
}

/// How long to wait before connecting again.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Retry {
    pub(crate) initial_delay: Option<Pause>,
    pub(crate) max_delay: Option<Pause>,
    pub(crate) jitter: Option<Time>,
    pub(crate) factor: Option<Factor>,
}

/// A number of things, at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Count(pub(crate) usize);

/// By how much a delay grows: 1 or more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Factor(pub(crate) f64);

/// A length of time: a number of seconds, or a text as descriptions have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Time(pub(crate) Duration);

/// One that is not nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SomeTime(pub(crate) Time);

/// One that is long enough for a server that refuses connections to be left alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pause(pub(crate) Time);

/// The least pause.
const LEAST: Duration = Duration::from_millis(10);

impl Several {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::More(descriptions) if descriptions.is_empty())
    }
}

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeveralVisitor)
    }
}

/// By hand, since each description has its place.
struct SeveralVisitor;

impl<'de> Visitor<'de> for SeveralVisitor {
    type Value = Several;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a description, or a list of descriptions")
    }

    fn visit_str<E: de::Error>(self, description: &str) -> Result<Several, E> {
        Ok(Several::One(description.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Several, A::Error> {
        let mut descriptions = Vec::new();
        while let Some(description) = list.next_element()? {
            descriptions.push(description);
        }
        Ok(Several::More(descriptions))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match usize::try_from(number) {
            Ok(0) | Err(_) => Err(de::Error::custom("wanted a number, 1 or more")),
            Ok(number) => Ok(Self(number)),
        }
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let factor = f64::deserialize(deserializer)?;
        if factor < 1.0 {
            let message =
                format!("with a factor of {factor} it connects again ever sooner: it takes 1 or more");
            return Err(de::Error::custom(message));
        }
        Backoff::new().factor(factor).map_err(|error| de::Error::custom(error.message()))?;
        Ok(Self(factor))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

impl<'de> Deserialize<'de> for SomeTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Time::deserialize(deserializer)? {
            Time(Duration::ZERO) => Err(de::Error::custom("no time at all; leave the setting out")),
            time => Ok(Self(time)),
        }
    }
}

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = Time::deserialize(deserializer)?;
        if time.0 < LEAST {
            let message = format!("that is no pause before connecting again: it takes {LEAST:?} or more");
            return Err(de::Error::custom(message));
        }
        Ok(Self(time))
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, or a text such as \"250ms\"")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Time, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => Ok(Time(Duration::from_secs(seconds))),
            Err(_) => Err(E::custom("a length of time is not below zero")),
        }
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Time, E> {
        Duration::try_from_secs_f64(seconds)
            .map(Time)
            .map_err(|error| E::custom(format!("{seconds}: {error}")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        endpoints::parse_duration(text).map(Time).map_err(|error| E::custom(error.message()))
    }
}
