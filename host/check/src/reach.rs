//! How a listener of the scheme under test is reached.

use endpoints::{ClientEndpoint, Description, Listener};

use crate::finding::{Step, Verdict, skips};
use crate::subject::{Subject, is_nested, set};
use crate::values::stands_around;

impl Subject {
    /// The client endpoint that reaches a listener: by what the listener tells, else by the arguments that both sides
    /// have in common.
    pub(crate) fn client_of(&self, listener: &Listener) -> Verdict<ClientEndpoint> {
        self.client_around(listener, None)
    }

    /// The same, which stands around `inner` where it is a wrapper.
    pub(crate) fn client_around(&self, listener: &Listener, inner: Option<&[u8]>) -> Verdict<ClientEndpoint> {
        if let Some(given) = &self.task.client {
            return self.registry.client(given).step("making the client endpoint that was given");
        }
        let told = listener.reachable();
        let own = told.iter().find(|description| description.scheme() == self.name().as_bytes());
        match own.or(told.first()) {
            Some(description) => self.client_told(description, inner),
            None if self.scheme.client.is_none() => skips(
                "the scheme has no client side, and its listener does not tell how it is reached; give --client",
            ),
            None => self.client_alone(inner.unwrap_or_default()),
        }
    }

    /// The client endpoint of a description that a listener tells. What was given counts more than what is told, and what
    /// is not told, such as a secret, is the same as for the server.
    pub(crate) fn client_told(&self, told: &Description, inner: Option<&[u8]>) -> Verdict<ClientEndpoint> {
        let is_own = told.scheme() == self.name().as_bytes();
        let as_told = || self.registry.client(told.text());
        let Some(role) = &self.scheme.client else {
            return as_told().step("making the client endpoint that a listener tells");
        };
        if is_own
            && inner.is_none()
            && self.task.arguments.is_empty()
            && let Ok(client) = as_told()
        {
            return Ok(client);
        }
        let mut arguments = self.values().client(inner.unwrap_or_default())?;
        let nested = role.parameters.iter().find(|parameter| is_nested(parameter.kind));
        match nested {
            // It tells how the endpoint inside is reached.
            Some(nested) if !is_own && inner.is_none() => {
                set(&mut arguments, &nested.name, told.text().to_vec());
            }
            Some(_) if !is_own => {}
            _ => {
                for part in told.keywords() {
                    let name = part.key().unwrap_or_default();
                    let Some(parameter) = role.parameter(&name) else { continue };
                    let was_given = self.task.arguments.iter().any(|(given, _)| parameter.is_called(given));
                    let stands_inside = is_nested(parameter.kind) && inner.is_some();
                    if !was_given && !stands_inside {
                        set(&mut arguments, &parameter.name, part.value().into_owned());
                    }
                }
            }
        }
        self.make_client(&arguments).map_err(|error| self.not_made(false, &error))
    }

    /// A server endpoint of the very address that a listener has, where that is known.
    pub(crate) fn server_again(
        &self,
        listener: &Listener,
        inner: &[u8],
    ) -> Verdict<endpoints::ServerEndpoint> {
        let role = self.role(true)?;
        if self.task.server.is_some() || stands_around(role) {
            return self.server_around(inner);
        }
        let mut arguments = self.values().server(inner)?;
        let told = listener.reachable();
        let own = told.iter().find(|one| one.scheme() == self.name().as_bytes());
        for part in own.or(told.first()).into_iter().flat_map(Description::keywords) {
            let name = part.key().unwrap_or_default();
            if let Some(parameter) = role.parameter(&name) {
                set(&mut arguments, &parameter.name, part.value().into_owned());
            }
        }
        self.make_server(&arguments).or_else(|_| {
            skips("a listener does not tell its address in words that the server side understands")
        })
    }
}
