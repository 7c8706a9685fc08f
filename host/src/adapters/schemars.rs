//! JSON schemas of what [`serde`](super::serde) reads: made from the manifests of the plugins, with every scheme, every argument, its
//! type, its default and what it does.
//!
//! An editor that knows the schema of a configuration file completes it and explains it. A schema cannot say everything: what it
//! allows may still be refused when it is read.
//!
//! The implementations of [`JsonSchema`] are about the [global](Registry::global) registry, and with it about the plugins in the
//! usual places of this machine at this moment; [`schema`] is about any.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::serde::SCHEME;
use crate::endpoint::{ClientEndpoint, RoleKind, ServerEndpoint};
use crate::grammar::Description;
use crate::manifest::{Parameter, ParameterType, Role, Scheme};
use crate::registry::Registry;

impl JsonSchema for ClientEndpoint {
    fn schema_name() -> Cow<'static, str> {
        "ClientEndpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema(Registry::global(), RoleKind::Client, generator)
    }
}

impl JsonSchema for ServerEndpoint {
    fn schema_name() -> Cow<'static, str> {
        "ServerEndpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema(Registry::global(), RoleKind::Server, generator)
    }
}

/// A string, or a map with any scheme and any arguments.
impl JsonSchema for Description {
    fn schema_name() -> Cow<'static, str> {
        "Description".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let map =
            json!({ "type": "object", "properties": { SCHEME: { "type": "string" } }, "required": [SCHEME] });
        schemars::json_schema!({ "description": "A description, or a map with a scheme", "anyOf": [{ "type": "string" }, map] })
    }
}

/// The schema of endpoints of a registry. What is nested in them has the schemas of [`ClientEndpoint`] and [`ServerEndpoint`].
#[must_use]
pub fn schema(registry: &Registry, role: RoleKind, generator: &mut SchemaGenerator) -> Schema {
    let mut schemes: Vec<_> = registry.entries().collect();
    schemes.sort_by_key(|entry| &entry.scheme().name);
    let text = json!({ "type": "string", "description": format!("A {} description", role.name()) });
    let maps = schemes.into_iter().filter_map(|entry| {
        let scheme = entry.scheme();
        Some(map(scheme, role.of(scheme)?, role, generator))
    });
    let any: Vec<Value> = std::iter::once(text).chain(maps).collect();
    let about = match role {
        RoleKind::Client => "Where to connect to: a description, or a map with a scheme",
        RoleKind::Server => "Where to listen: a description, or a map with a scheme",
    };
    schemars::json_schema!({ "description": about, "anyOf": any })
}

/// The schema of a scheme's map.
fn map(scheme: &Scheme, declared: &Role, role: RoleKind, generator: &mut SchemaGenerator) -> Value {
    let mut properties = Map::new();
    properties.insert(SCHEME.to_owned(), json!({ "const": &*scheme.name }));
    let mut rules = Vec::new();
    let mut beside = Map::new();
    for parameter in &declared.parameters {
        let names = || std::iter::once(&parameter.name).chain(&parameter.aliases);
        let value = described(parameter, value(parameter, role, generator));
        properties.extend(names().map(|name| (name.clone(), value.clone())));
        if parameter.required {
            rules.push(one_of_them(names()));
        }
        if !parameter.requires.is_empty() {
            beside.insert(parameter.name.clone(), json!(parameter.requires));
        }
    }
    for group in &declared.one_of {
        if group.required {
            rules.push(one_of_them(group.names.iter()));
        }
        for (place, one) in group.names.iter().enumerate() {
            let others = &group.names[place + 1..];
            rules.extend(others.iter().map(|other| json!({ "not": { "required": [one, other] } })));
        }
    }
    let mut schema = json!({
        "type": "object",
        "title": &*scheme.name,
        "description": if declared.summary.is_empty() { &scheme.summary } else { &declared.summary },
        "properties": properties,
        "required": [SCHEME],
        "additionalProperties": false,
    });
    for (keyword, value) in [("allOf", Value::Array(rules)), ("dependentRequired", Value::Object(beside))] {
        if value.as_array().is_some_and(|rules| !rules.is_empty())
            || value.as_object().is_some_and(|map| !map.is_empty())
        {
            schema[keyword] = value;
        }
    }
    if scheme.deprecated.is_some() {
        schema["deprecated"] = true.into();
    }
    schema
}

fn one_of_them<'n>(names: impl Iterator<Item = &'n String>) -> Value {
    let mut rules: Vec<Value> = names.map(|name| json!({ "required": [name] })).collect();
    if rules.len() == 1 { rules.remove(0) } else { json!({ "anyOf": rules }) }
}

/// What a parameter takes, in the forms in which `serde` takes it.
fn value(parameter: &Parameter, role: RoleKind, generator: &mut SchemaGenerator) -> Value {
    let one = match parameter.kind {
        ParameterType::Client => return generator.subschema_for::<ClientEndpoint>().to_value(),
        ParameterType::Server => return generator.subschema_for::<ServerEndpoint>().to_value(),
        ParameterType::Rest => {
            return match role {
                RoleKind::Client => generator.subschema_for::<ClientEndpoint>(),
                RoleKind::Server => generator.subschema_for::<ServerEndpoint>(),
            }
            .to_value();
        }
        // The limits are about numbers alone, by the rules of JSON schema.
        ParameterType::Integer | ParameterType::Port => {
            let most = if parameter.kind == ParameterType::Port { Some(u16::MAX.into()) } else { None };
            let mut schema = json!({ "type": ["integer", "string"], "minimum": parameter.min.unwrap_or(0) });
            if let Some(most) = parameter.max.or(most) {
                schema["maximum"] = most.into();
            }
            schema
        }
        ParameterType::Mode => json!({ "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-7]+$" }),
        ParameterType::Duration => json!({ "type": ["number", "string"], "minimum": 0 }),
        ParameterType::Flag => json!({ "type": ["boolean", "integer", "string"] }),
        ParameterType::Choice => json!({ "enum": parameter.choices }),
        ParameterType::Text
        | ParameterType::Bytes
        | ParameterType::Path
        | ParameterType::Ip
        | ParameterType::Network
        | ParameterType::Host => json!({ "type": "string" }),
    };
    // A string may have several values, with commas between them.
    if parameter.list {
        json!({ "anyOf": [{ "type": "array", "items": one }, { "type": "string" }] })
    } else {
        one
    }
}

fn described(parameter: &Parameter, mut schema: Value) -> Value {
    let unit = parameter.unit.as_ref().map(|unit| format!(" In {unit}.")).unwrap_or_default();
    schema["description"] = format!("{}{unit}", parameter.description).into();
    if let Some(default) = &parameter.default {
        let is_number =
            matches!(parameter.kind, ParameterType::Integer | ParameterType::Port | ParameterType::Duration);
        let number = default.parse::<u64>().ok().filter(|_| is_number);
        schema["default"] = number.map_or_else(|| default.clone().into(), Value::from);
    }
    schema
}
