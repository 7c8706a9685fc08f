//! The host's hold on an instance of a plugin.

use std::sync::Arc;

use super::Sized0;
use super::bytes::RSlice;
use super::endpoint::{Foreign as ForeignEndpoint, REndpoint, REndpointResult};
use super::host::RHost;
use super::module::{Create, PluginVt, RArgument, RCreated};
use super::services::Services;
use super::table::check;
use crate::error::{Error, ErrorKind};
use crate::plugin::Plugin;

/// An instance of a plugin, made for one host.
#[derive(Debug)]
pub struct Instance {
    data: *mut (),
    vt: *const PluginVt,
}

// SAFETY: a `Plugin` is `Send` and `Sync`, and the table's contract says the same of plugins in other languages.
unsafe impl Send for Instance {}
// SAFETY: likewise.
unsafe impl Sync for Instance {}

/// The function that makes instances of a plugin.
#[derive(Clone, Copy, Debug)]
pub struct Constructor(Create);

impl Constructor {
    /// That of a plugin that is compiled in.
    #[must_use]
    pub const fn of<P: Plugin>() -> Self {
        Self(super::module::create::<P>)
    }

    /// The function that a plugin gives.
    ///
    /// # Safety
    /// It keeps the contract of [`Create`]: it is of a module whose layout, or of an entry whose version, was checked.
    #[must_use]
    pub const unsafe fn new(create: Create) -> Self {
        Self(create)
    }
}

/// An argument as the host gives it.
#[derive(Debug)]
pub struct Given<'a> {
    /// The parameter's name.
    pub name: &'a str,
    /// The value.
    pub value: &'a [u8],
    /// The value of a numeric type; see [`RArgument::number`].
    pub number: u64,
    /// Whether the description gives it, or it is the default.
    pub given: bool,
    /// A nested description's endpoint.
    pub endpoint: Option<ForeignEndpoint>,
}

impl Instance {
    /// Makes an instance, which is lent `services`.
    ///
    /// # Errors
    /// What the plugin says against it.
    pub fn create<S: Services>(constructor: Constructor, services: Arc<S>) -> Result<Self, Error> {
        let (host, mut created) = (RHost::new(services), RCreated::absent());
        // SAFETY: by the contract of `Constructor`; the handle is given up, and `created` is absent.
        unsafe { (constructor.0)(host, &raw mut created) };
        if let Some(error) = created.error.into_error() {
            return Err(error);
        }
        if created.vt.is_null() {
            return Err(Error::new(ErrorKind::Internal, "the plugin gave neither an instance nor an error"));
        }
        // SAFETY: a table, by the contract of `Constructor`.
        unsafe { check(created.vt)? };
        Ok(Self { data: created.data, vt: created.vt })
    }

    /// Makes an endpoint of a role ([`CLIENT`](super::host::CLIENT) or [`SERVER`](super::host::SERVER)). Endpoints among
    /// the arguments are given to the plugin, or freed.
    ///
    /// # Errors
    /// What the plugin says against the arguments.
    pub fn endpoint(
        &self,
        role: u32,
        scheme: &str,
        arguments: &mut [Given<'_>],
    ) -> Result<ForeignEndpoint, Error> {
        let mut raw: Vec<RArgument> = arguments
            .iter_mut()
            .map(|argument| RArgument {
                size: size_of::<RArgument>(),
                name: RSlice::new(argument.name.as_bytes()),
                value: RSlice::new(argument.value),
                number: argument.number,
                given: u32::from(argument.given),
                reserved: 0,
                endpoint: argument.endpoint.take().map_or(REndpoint::NONE, ForeignEndpoint::into_raw),
            })
            .collect();
        let mut out = REndpointResult::absent();
        // SAFETY: a live instance; everything is lent for the call, and `out` is absent.
        unsafe {
            let scheme = RSlice::new(scheme.as_bytes());
            ((*self.vt).endpoint)(self.data, role, scheme, raw.as_mut_ptr(), raw.len(), &raw mut out);
        }
        for argument in raw {
            if !argument.endpoint.is_none() {
                // SAFETY: the plugin did not take it, so it is still owned here.
                drop(unsafe { ForeignEndpoint::new(argument.endpoint) });
            }
        }
        // SAFETY: written by the plugin.
        unsafe { out.take() }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { ((*self.vt).drop)(self.data) }
    }
}
