//! Arguments as a host gives them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::host::TestHost;
use super::network::Named;
use crate::abi::endpoint::Foreign;
use crate::abi::instance::Given;

/// The arguments of a description, as a host gives them after it has checked them and filled in the defaults.
///
/// Nothing is checked here: the names and types have to be those of the manifest. A later value of a name replaces an
/// earlier one, so that tests can begin with common ones.
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<Value>);

#[derive(Clone, Debug)]
struct Value {
    name: String,
    bytes: Vec<u8>,
    number: u64,
    given: bool,
    /// What makes the endpoint of a nested description.
    nested: Option<fn(Named) -> Foreign>,
}

impl Values {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A value of the types `text`, `host`, `choice`, `ip` or `network`.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.with(name, value, 0, None)
    }

    /// A value of the type `bytes`.
    #[must_use]
    pub fn bytes(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with(name, value, 0, None)
    }

    /// A value of the type `path`.
    #[must_use]
    pub fn path(self, name: &str, value: impl AsRef<Path>) -> Self {
        self.with(name, value.as_ref().as_os_str().as_bytes(), 0, None)
    }

    /// A value of the types `integer` or `port`.
    #[must_use]
    pub fn integer(self, name: &str, value: u64) -> Self {
        self.with(name, value.to_string(), value, None)
    }

    /// A value of the type `mode`: permission bits, as in `0o660`.
    #[must_use]
    pub fn mode(self, name: &str, value: u32) -> Self {
        self.with(name, format!("{value:o}"), value.into(), None)
    }

    /// A value of the type `flag`.
    #[must_use]
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.with(name, u8::from(value).to_string(), value.into(), None)
    }

    /// A value of the type `duration`, at most 584 years.
    #[must_use]
    pub fn duration(self, name: &str, value: Duration) -> Self {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX - 1);
        self.with(name, format!("{nanos}ns"), nanos, None)
    }

    /// The values of a list.
    #[must_use]
    pub fn list(self, name: &str, values: &[&str]) -> Self {
        self.with(name, values.join(","), 0, None)
    }

    /// A nested client description: it connects to whoever listens at `endpoint` in memory.
    #[must_use]
    pub fn client(self, name: &str, endpoint: &str) -> Self {
        self.with(name, endpoint, 0, Some(Named::client))
    }

    /// A nested server description: it listens at `endpoint` in memory.
    #[must_use]
    pub fn server(self, name: &str, endpoint: &str) -> Self {
        self.with(name, endpoint, 0, Some(Named::server))
    }

    /// Says that the value of `name` is the default of the manifest, and not given by the description.
    #[must_use]
    pub fn by_default(mut self, name: &str) -> Self {
        for value in self.0.iter_mut().filter(|value| value.name == name) {
            value.given = false;
        }
        self
    }

    fn with(
        mut self,
        name: &str,
        bytes: impl AsRef<[u8]>,
        number: u64,
        nested: Option<fn(Named) -> Foreign>,
    ) -> Self {
        self.0.retain(|value| value.name != name);
        let bytes = bytes.as_ref().to_vec();
        self.0.push(Value { name: name.to_owned(), bytes, number, given: true, nested });
        self
    }

    /// The form in which they cross.
    pub(super) fn lend(&self, host: &TestHost) -> Vec<Given<'_>> {
        let endpoint = |value: &Value| {
            let name = String::from_utf8_lossy(&value.bytes).into_owned();
            value.nested.map(|make| make(Named { host: host.clone(), name }))
        };
        let lent = self.0.iter().map(|value| Given {
            name: &value.name,
            value: &value.bytes,
            number: value.number,
            given: value.given,
            endpoint: endpoint(value),
        });
        lent.collect()
    }
}
