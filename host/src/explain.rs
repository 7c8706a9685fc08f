//! What a description means, without opening anything.

use std::sync::Arc;

use crate::endpoint::{ClientEndpoint, Endpoint, RoleKind, ServerEndpoint};
use crate::provider::Origin;

/// What a description means: who provides it, and each argument with its value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The scheme, in small letters.
    pub scheme: String,
    /// Which side it is.
    pub role: RoleKind,
    /// The name of the plugin that provides it.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Where the plugin comes from.
    pub origin: Origin,
    /// The arguments in the order in which the scheme declares them; those that are neither given nor have a default are
    /// left out.
    pub arguments: Vec<ExplainedArgument>,
    /// What else the plugin tells, such as the names that a certificate is for: pairs of a name and a value.
    pub facts: Vec<(String, String)>,
    /// The endpoints that it stands around, each with the argument that describes it.
    pub inner: Vec<(String, Explanation)>,
}

/// One argument of an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedArgument {
    /// The parameter's name.
    pub name: String,
    /// The value; `None` for a secret.
    pub value: Option<Vec<u8>>,
    /// Whether the description gives it, or it is the default.
    pub given: bool,
}

impl ClientEndpoint {
    /// What the description means. Opens nothing.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        explain(&self.0)
    }
}

impl ServerEndpoint {
    /// What the description means. Opens nothing.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        explain(&self.0)
    }
}

fn explain(endpoint: &Arc<Endpoint>) -> Explanation {
    let described = endpoint.described();
    let arguments = endpoint
        .arguments()
        .into_iter()
        .map(|argument| {
            let name = argument.parameter.name.clone();
            let value = if argument.parameter.secret {
                None
            } else if let Some((_, inner)) = endpoint.nested.iter().find(|(nested, _)| *nested == name) {
                // The inner description's own secrets stay hidden too.
                Some(crate::secrets::masked(&inner.registry, inner.role, inner.description.text()))
            } else {
                Some(described.get(&name).map_or_else(|| argument.value.into_owned(), <[u8]>::to_vec))
            };
            ExplainedArgument { name, value, given: argument.given }
        })
        .collect();
    let declared = |name: &str| endpoint.declared().is_some_and(|role| role.parameter(name).is_some());
    let facts = described
        .iter()
        .filter(|(name, _)| !declared(name))
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let provider = &endpoint.entry.provider;
    Explanation {
        scheme: endpoint.scheme().to_string(),
        role: endpoint.role,
        plugin: provider.name().to_owned(),
        version: provider.manifest.build.version.to_string(),
        origin: provider.origin.clone(),
        arguments,
        facts,
        inner: endpoint.nested.iter().map(|(name, inner)| (name.clone(), explain(inner))).collect(),
    }
}
