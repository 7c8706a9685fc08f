//! What stands in a configuration file for a description, before anything is known of schemes.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::builder::{ClientBuilder, ServerBuilder, Value};
use crate::endpoint::{ClientEndpoint, Endpoint, RoleKind, ServerEndpoint, make};
use crate::grammar::Description;
use crate::manifest::{Parameter, ParameterType, Role};
use crate::registry::Registry;

/// The key of a map that has the scheme.
pub(crate) const SCHEME: &str = "scheme";

/// A value of a configuration file.
pub(super) enum Node {
    Bytes(Vec<u8>),
    Integer(u64),
    /// A number that is no [`Integer`](Self::Integer), as a description has it.
    Number(String),
    Flag(bool),
    List(Vec<Node>),
    Map(Map),
}

/// A description as a map.
pub(super) struct Map {
    scheme: String,
    arguments: Vec<(String, Node)>,
}

impl Node {
    /// Reads a string or a map; `role` says for the error whose description is wanted.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D, role: &str) -> Result<Self, D::Error> {
        match Self::deserialize(deserializer)? {
            node @ (Self::Bytes(_) | Self::Map(_)) => Ok(node),
            _ => {
                let space = if role.is_empty() { "" } else { " " };
                Err(D::Error::custom(format_args!(
                    "a {role}{space}description is a string, as in \"tcp:port=80\", or a map with a {SCHEME}"
                )))
            }
        }
    }

    /// Makes the endpoint.
    pub(super) fn endpoint(self, registry: &Registry, role: RoleKind) -> Result<Arc<Endpoint>, String> {
        match self {
            Self::Bytes(text) => make(registry, role, &text).map_err(|error| error.to_string()),
            Self::Map(map) => map.endpoint(registry, role),
            _ => Err("it is neither a string nor a map".into()),
        }
    }

    /// Makes the description, by the grammar alone.
    pub(super) fn description(self, registry: &Registry) -> Result<Description, String> {
        match self {
            Self::Bytes(text) => registry.parse(text).map_err(|error| error.to_string()),
            Self::Map(map) => map.description(registry),
            _ => Err("it is neither a string nor a map".into()),
        }
    }

    /// As a builder takes it. Maps become endpoints of the kind that the parameter wants.
    fn value(
        self,
        registry: &Registry,
        role: RoleKind,
        parameter: Option<&Parameter>,
    ) -> Result<Value, String> {
        Ok(match self {
            Self::Bytes(bytes) => Value::bytes(bytes),
            Self::Integer(number) => number.into(),
            Self::Number(text) => text.into(),
            Self::Flag(flag) => flag.into(),
            Self::List(nodes) => {
                let values = nodes.into_iter().map(|node| node.value(registry, role, parameter));
                values.collect::<Result<Vec<Value>, String>>()?.into()
            }
            Self::Map(map) => {
                let role = match parameter.map(|parameter| parameter.kind) {
                    Some(ParameterType::Client) => RoleKind::Client,
                    Some(ParameterType::Server) => RoleKind::Server,
                    // What is not declared is refused by its name.
                    Some(ParameterType::Rest) | None => role,
                    Some(_) => return Err("takes a value, not a map".into()),
                };
                if parameter.is_none() {
                    return Ok(Value::bytes(""));
                }
                let endpoint = map.endpoint(registry, role)?;
                match role {
                    RoleKind::Client => ClientEndpoint::new(endpoint).into(),
                    RoleKind::Server => ServerEndpoint::new(endpoint).into(),
                }
            }
        })
    }

    /// As a description has it.
    fn text(self, registry: &Registry, is_mode: bool) -> Result<Vec<u8>, String> {
        Ok(match self {
            Self::Bytes(bytes) => bytes,
            Self::Integer(bits) if is_mode => format!("{bits:o}").into(),
            Self::Integer(number) => number.to_string().into(),
            Self::Number(text) => text.into(),
            Self::Flag(flag) => if flag { b"1" } else { b"0" }.to_vec(),
            Self::List(nodes) => {
                let values = nodes.into_iter().map(|node| node.text(registry, is_mode));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                if values.iter().any(|value| value.contains(&b',')) {
                    return Err(
                        "cannot have a comma in a value of its list: commas stand between them".into()
                    );
                }
                values.join(&b',')
            }
            Self::Map(map) => map.description(registry)?.into_text(),
        })
    }
}

impl Map {
    fn endpoint(self, registry: &Registry, role: RoleKind) -> Result<Arc<Endpoint>, String> {
        let Self { scheme, arguments } = self;
        // What is wrong with the scheme is told by making the endpoint.
        let entry = registry.find(scheme.as_bytes()).ok();
        let declared = entry.as_ref().and_then(|entry| role.of(entry.scheme()));
        let mut values = Vec::new();
        for (name, node) in arguments {
            let parameter = declared.and_then(|declared| declared.parameter(&name));
            let nested = matches!(node, Node::Map(_));
            let value = node.value(registry, role, parameter).map_err(|problem| {
                if nested { format!("{name}: {problem}") } else { format!("{name} {problem}") }
            })?;
            values.push((name, value));
        }
        let made = match role {
            RoleKind::Client => {
                let builder = ClientBuilder::new(registry, &scheme);
                let with =
                    |builder: ClientBuilder, (name, value): (String, Value)| builder.argument(name, value);
                values.into_iter().fold(builder, with).build().map(|endpoint| endpoint.0)
            }
            RoleKind::Server => {
                let builder = ServerBuilder::new(registry, &scheme);
                let with =
                    |builder: ServerBuilder, (name, value): (String, Value)| builder.argument(name, value);
                values.into_iter().fold(builder, with).build().map(|endpoint| endpoint.0)
            }
        };
        made.map_err(|error| error.to_string())
    }

    fn description(self, registry: &Registry) -> Result<Description, String> {
        let entry = registry.find(self.scheme.as_bytes()).ok();
        let is_mode = |name: &str| {
            let scheme = entry.as_ref().map(crate::provider::SchemeEntry::scheme);
            let roles = scheme.iter().flat_map(|scheme| scheme.client.iter().chain(&scheme.server));
            let mut parameters = roles.filter_map(|role: &Role| role.parameter(name));
            parameters.any(|parameter| parameter.kind == ParameterType::Mode)
        };
        let mut builder = Description::builder(&self.scheme);
        for (name, node) in self.arguments {
            if !name.is_ascii() {
                return Err(format!("{name:?} cannot be the name of an argument: it is not ASCII"));
            }
            let value =
                node.text(registry, is_mode(&name)).map_err(|problem| format!("{name}: {problem}"))?;
            builder = builder.keyword(&name, value);
        }
        Ok(builder.build())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number, a boolean, a list, or a map with a scheme")
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Bytes(text.into()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Node, E> {
        Ok(Node::Bytes(bytes.into()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Integer(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(u64::try_from(number).map_or_else(|_| Node::Number(number.to_string()), Node::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut scheme = None;
        let mut arguments: Vec<(String, Node)> = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            let is_scheme = name == SCHEME;
            if arguments.iter().any(|(known, _)| *known == name) || (is_scheme && scheme.is_some()) {
                return Err(A::Error::custom(format_args!("{name} is given twice")));
            }
            if is_scheme {
                scheme = Some(entries.next_value::<String>()?);
            } else {
                arguments.push((name, entries.next_value()?));
            }
        }
        match scheme {
            Some(scheme) => Ok(Node::Map(Map { scheme, arguments })),
            None => Err(A::Error::missing_field(SCHEME)),
        }
    }
}
