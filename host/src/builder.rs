//! Endpoints made from values, without a text.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::arguments;
use crate::endpoint::{self, ClientEndpoint, Endpoint, RoleKind, ServerEndpoint};
use crate::error::{Error, ErrorKind, shown};
use crate::grammar::Description;
use crate::manifest::{Parameter, ParameterType, Role};
use crate::registry::Registry;

/// The value of an argument, to be given to a builder.
///
/// It is checked against what the scheme declares when the endpoint is made, as a text would be, and written as the
/// parameter's type wants it: `0o660` as a `mode` is those permission bits, 30 as a `timeout` is seconds, `true` as a
/// flag is 1. A text stands for what it would in a description, but nothing in it needs escaping.
#[derive(Clone)]
pub struct Value(Kind);

#[derive(Clone)]
enum Kind {
    Bytes(Vec<u8>),
    Integer(u64),
    Flag(bool),
    Duration(Duration),
    List(Vec<Value>),
    Endpoint(Arc<Endpoint>),
}

impl Value {
    /// Bytes that need not be UTF-8.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// The bytes as they stand, unescaped, in a description.
    fn render(&self, parameter: Option<&Parameter>) -> Result<Vec<u8>, String> {
        let kind = parameter.map(|parameter| parameter.kind);
        match &self.0 {
            Kind::Bytes(bytes) => Ok(bytes.clone()),
            Kind::Integer(bits) if kind == Some(ParameterType::Mode) => Ok(format!("{bits:o}").into_bytes()),
            Kind::Integer(number) => Ok(number.to_string().into_bytes()),
            Kind::Flag(flag) => Ok(if *flag { b"1" } else { b"0" }.to_vec()),
            Kind::Duration(duration) => Ok(seconds(*duration).into_bytes()),
            Kind::List(values) => list(values, parameter),
            Kind::Endpoint(endpoint) => {
                let fits = match kind {
                    Some(ParameterType::Client) => endpoint.role == RoleKind::Client,
                    Some(ParameterType::Server) => endpoint.role == RoleKind::Server,
                    // Of the same role as what is around it, which is checked where that is known.
                    Some(ParameterType::Rest) | None => true,
                    Some(_) => return Err("takes a value, not an endpoint".into()),
                };
                if fits {
                    Ok(endpoint.description.text().to_vec())
                } else {
                    Err(format!("takes no {} endpoint", endpoint.role.name()))
                }
            }
        }
    }
}

fn list(values: &[Value], parameter: Option<&Parameter>) -> Result<Vec<u8>, String> {
    if parameter.is_some_and(|parameter| !parameter.list) {
        return Err("takes one value, not a list".into());
    }
    let mut listed = Vec::new();
    for (place, value) in values.iter().enumerate() {
        let value = value.render(parameter)?;
        if value.contains(&b',') {
            let value = match parameter {
                Some(parameter) if parameter.secret => "a comma".to_owned(),
                _ => shown(&value),
            };
            return Err(format!("cannot have {value} in a value of its list: commas stand between them"));
        }
        if place > 0 {
            listed.push(b',');
        }
        listed.extend(value);
    }
    Ok(listed)
}

/// Seconds, as precise as the duration is.
fn seconds(duration: Duration) -> String {
    let (whole, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 {
        return whole.to_string();
    }
    format!("{whole}.{nanos:09}").trim_end_matches('0').to_owned()
}

impl fmt::Debug for Value {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Bytes(_) => "Bytes",
            Kind::Integer(_) => "Integer",
            Kind::Flag(_) => "Flag",
            Kind::Duration(_) => "Duration",
            Kind::List(_) => "List",
            Kind::Endpoint(_) => "Endpoint",
        })
    }
}

macro_rules! value_from {
    ($($type:ty => |$value:ident| $made:expr),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self($made)
            }
        }
    )*};
}

value_from! {
    &str => |text| Kind::Bytes(text.into()),
    &String => |text| Kind::Bytes(text.as_bytes().into()),
    String => |text| Kind::Bytes(text.into_bytes()),
    &OsStr => |text| Kind::Bytes(text.as_bytes().into()),
    &Path => |path| Kind::Bytes(path.as_os_str().as_bytes().into()),
    &PathBuf => |path| Kind::Bytes(path.as_os_str().as_bytes().into()),
    PathBuf => |path| Kind::Bytes(path.as_os_str().as_bytes().into()),
    u16 => |number| Kind::Integer(number.into()),
    u32 => |number| Kind::Integer(number.into()),
    u64 => |number| Kind::Integer(number),
    bool => |flag| Kind::Flag(flag),
    Duration => |duration| Kind::Duration(duration),
    IpAddr => |ip| Kind::Bytes(ip.to_string().into()),
    Ipv4Addr => |ip| Kind::Bytes(ip.to_string().into()),
    Ipv6Addr => |ip| Kind::Bytes(ip.to_string().into()),
    SocketAddr => |address| Kind::Bytes(address.to_string().into()),
    &ClientEndpoint => |endpoint| Kind::Endpoint(Arc::clone(&endpoint.0)),
    ClientEndpoint => |endpoint| Kind::Endpoint(endpoint.0),
    &ServerEndpoint => |endpoint| Kind::Endpoint(Arc::clone(&endpoint.0)),
    ServerEndpoint => |endpoint| Kind::Endpoint(endpoint.0),
}

impl From<i32> for Value {
    /// What a whole number in a program is unless something else is said; one below zero is refused later.
    fn from(number: i32) -> Self {
        Self(match u64::try_from(number) {
            Ok(number) => Kind::Integer(number),
            Err(_) => Kind::Bytes(number.to_string().into()),
        })
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    /// A list.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(Kind::List(values.into_iter().map(Into::into).collect()))
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(values: [T; N]) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Clone + Into<Value>> From<&[T]> for Value {
    fn from(values: &[T]) -> Self {
        values.iter().cloned().collect()
    }
}

macro_rules! builder_type {
    ($builder:ident, $endpoint:ident, $role:expr, $make:literal, $method:ident, $doc:literal, $example:literal) => {
        #[doc = $doc]
        ///
        /// Any scheme of the registry can be made so, also those of plugins. The arguments are those of descriptions;
        /// `endpoints inspect SCHEME` lists them.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $example]
        /// # Ok::<(), endpoints::Error>(())
        /// ```
        #[derive(Clone, Debug)]
        #[must_use = "nothing is made until `build` is called"]
        pub struct $builder(Parts);

        impl $builder {
            pub(crate) fn new(registry: &Registry, scheme: &str) -> Self {
                let (registry, scheme) = (registry.clone(), scheme.to_owned());
                Self(Parts { registry, scheme, arguments: Vec::new() })
            }

            /// Gives an argument. Of one that is given before under the same name, this value counts.
            ///
            /// An endpoint as the value is used itself, whichever registry it is of.
            pub fn argument(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
                self.0.set(name.into(), value.into());
                self
            }

            /// Gives an argument where there is a value for it.
            pub fn opt_argument(self, name: impl Into<String>, value: Option<impl Into<Value>>) -> Self {
                match value {
                    Some(value) => self.argument(name, value),
                    None => self,
                }
            }

            /// Makes the endpoint: it is checked through and through, nothing is opened.
            ///
            /// # Errors
            #[doc = concat!("As [`Registry::", $make, "`]; the error shows the description with these arguments.")]
            pub fn build(self) -> Result<$endpoint, Error> {
                self.0.make($role).map($endpoint::new)
            }
        }

        impl $endpoint {
            /// A builder of one from values, with the [global](Registry::global) registry;
            #[doc = concat!("[`Registry::", stringify!($method), "`] is for another one.")]
            pub fn builder(scheme: &str) -> $builder {
                Registry::global().$method(scheme)
            }
        }
    };
}

builder_type!(
    ClientBuilder,
    ClientEndpoint,
    RoleKind::Client,
    "client",
    client_builder,
    "Makes a client endpoint from values.",
    r#"use endpoints::ClientEndpoint;

let tunnel = ClientEndpoint::builder("unix").argument("path", "/run/tunnel.sock").build()?;
let client = ClientEndpoint::builder("tls")
    .argument("host", "db.example.com")
    .argument("port", 5432)
    .argument("timeout", std::time::Duration::from_secs(5))
    .argument("alpn", ["postgresql"])
    .argument("endpoint", tunnel)
    .build()?;"#
);
builder_type!(
    ServerBuilder,
    ServerEndpoint,
    RoleKind::Server,
    "server",
    server_builder,
    "Makes a server endpoint from values.",
    r#"use endpoints::ServerEndpoint;

let server = ServerEndpoint::builder("unix").argument("address", "/run/app.sock").argument("mode", 0o660).build()?;
assert_eq!(server.to_string(), "unix:address=/run/app.sock:mode=660");"#
);

#[derive(Clone, Debug)]
struct Parts {
    registry: Registry,
    scheme: String,
    arguments: Vec<(String, Value)>,
}

impl Parts {
    fn set(&mut self, name: String, value: Value) {
        match self.arguments.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.arguments.push((name, value)),
        }
    }

    fn make(self, role: RoleKind) -> Result<Arc<Endpoint>, Error> {
        let Self { registry, scheme, arguments } = self;
        let entry = registry.find(scheme.as_bytes());
        // What is wrong with the scheme is told by making the endpoint.
        let declared = entry.as_ref().ok().and_then(|entry| role.of(entry.scheme()));
        let mut builder = Description::builder(&scheme);
        let mut objects = Vec::new();
        for (name, value) in arguments {
            let parameter = declared.and_then(|declared| declared.parameter(&name));
            let refused = |problem: String| {
                Error::new(ErrorKind::InvalidArgument, format!("{name} {problem}"))
                    .with_argument(&name)
                    .with_scheme(&scheme)
            };
            if !name.is_ascii() {
                let names = declared.map(Role::names).unwrap_or_default();
                return Err(arguments::unknown(names, &name).with_scheme(&scheme));
            }
            let bytes = value.render(parameter).map_err(refused)?;
            builder = builder.keyword(parameter.map_or(&name, |parameter| &parameter.name), bytes);
            if let (Kind::Endpoint(endpoint), Some(parameter)) = (value.0, parameter) {
                if parameter.kind == ParameterType::Rest && endpoint.role != role {
                    return Err(refused(format!("takes no {} endpoint", endpoint.role.name())));
                }
                objects.push((parameter.name.clone(), endpoint));
            }
        }
        endpoint::make_around(&registry, role, builder.build(), objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(value: impl Into<Value>, parameter: &str) -> Result<String, String> {
        let parameter: Parameter = serde_json::from_str(&format!(r#"{{"name":"p",{parameter}}}"#)).unwrap();
        value.into().render(Some(&parameter)).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn values_are_written_as_the_type_wants_them() {
        assert_eq!(rendered(0o660, r#""type":"mode""#).unwrap(), "660");
        assert_eq!(rendered("660", r#""type":"mode""#).unwrap(), "660");
        assert_eq!(rendered(432_u16, r#""type":"port""#).unwrap(), "432");
        assert_eq!(rendered(true, r#""type":"flag""#).unwrap(), "1");
        let duration = r#""type":"duration""#;
        assert_eq!(rendered(30, duration).unwrap(), "30");
        assert_eq!(rendered(-1, duration).unwrap(), "-1");
        assert_eq!(rendered(Duration::from_millis(1500), duration).unwrap(), "1.5");
        assert_eq!(rendered(Duration::from_nanos(1), duration).unwrap(), "0.000000001");
        assert_eq!(rendered(Duration::from_secs(20), duration).unwrap(), "20");
        assert_eq!(rendered(Ipv6Addr::LOCALHOST, r#""type":"ip""#).unwrap(), "::1");
    }

    #[test]
    fn lists_are_for_parameters_that_take_them() {
        let listed = r#""type":"text","list":true"#;
        assert_eq!(rendered(["h2", "http/1.1"], listed).unwrap(), "h2,http/1.1");
        assert_eq!(rendered(Vec::<&str>::new(), listed).unwrap(), "");
        assert_eq!(rendered(vec!["h2".to_owned()], listed).unwrap(), "h2");
        assert!(rendered(["a,b"], listed).unwrap_err().contains("\"a,b\""));
        assert!(rendered(["h2"], r#""type":"text""#).unwrap_err().contains("not a list"));
    }

    #[test]
    fn debugging_shows_no_value() {
        assert_eq!(format!("{:?}", Value::from("hunter2")), "Bytes");
    }
}
