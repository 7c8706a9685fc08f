//! The module: what a host finds behind a plugin's one symbol.
//!
//! The module is checked by `abi_stable`: the header of its own, then the layout, both ways round, so that a newer host
//! takes an older plugin and the other way about. What it leads to are plain C tables that begin with their size.

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::RStr;

use super::bytes::{RBytes, RSlice};
use super::endpoint::{REndpoint, REndpointResult};
use super::error::RError;
use super::guard;
use super::host::RHost;
use crate::arguments::Arguments;
use crate::plugin::Plugin;
use crate::services::Host;

/// A plugin's root: grows at the end.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModRef)))]
#[sabi(missing_field(panic))]
pub struct PluginMod {
    /// The manifest record's text, the same as in the file's section.
    pub manifest: RStr<'static>,
    /// Makes an instance for a host; the plugin keeps `host` counted.
    #[sabi(last_prefix_field)]
    pub create: extern "C" fn(host: RHost) -> RCreated,
}

impl RootModule for PluginModRef {
    abi_stable::declare_root_module_statics! {PluginModRef}
    const BASE_NAME: &'static str = "endpoints_plugin";
    const NAME: &'static str = "endpoints_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// An instance of a plugin, or why there is none.
#[repr(C)]
#[derive(StableAbi)]
pub struct RCreated {
    /// Set where it failed.
    pub error: RError,
    /// The plugin's own.
    pub data: *mut (),
    /// The plugin's functions: a table that grows, so its layout is not compared.
    #[sabi(unsafe_opaque_field)]
    pub vt: *const PluginVt,
    /// For the comparison of layouts: the plain values that the tables carry.
    pub values: RValues,
}

/// The plain values of the boundary, which stay as they are for a major version; here so that the comparison of layouts
/// looks at them.
#[repr(C)]
#[derive(StableAbi)]
pub struct RValues {
    /// Bytes, lent.
    pub slice: RSlice,
    /// Bytes, owned.
    pub bytes: RBytes,
}

/// The functions of a plugin's instance.
#[repr(C)]
#[derive(Debug)]
pub struct PluginVt {
    /// Bytes in this table.
    pub size: usize,
    /// Makes an endpoint: role, scheme, arguments (the plugin takes the endpoints it wants out of them), result.
    pub endpoint: unsafe extern "C" fn(*mut (), u32, RSlice, *mut RArgument, usize, *mut REndpointResult),
    /// Frees the instance; its endpoints live on.
    pub drop: unsafe extern "C" fn(*mut ()),
}

/// One argument, checked against the manifest; lent, but for the endpoint.
#[repr(C)]
#[derive(Debug)]
pub struct RArgument {
    /// Bytes in this structure, the distance to the next argument.
    pub size: usize,
    /// The parameter's name.
    pub name: RSlice,
    /// The value; for a nested description its text.
    pub value: RSlice,
    /// The value of an integer, a port, a flag (0 or 1) or a mode; of a duration its nanoseconds.
    pub number: u64,
    /// 1 where the description gives it, 0 where it is the default.
    pub given: u32,
    /// Zero, for later use.
    pub reserved: u32,
    /// A nested description, made by the host; taken by writing [`REndpoint::NONE`] in its place.
    pub endpoint: REndpoint,
}

/// Makes an instance of `P`; what the `create` of its module calls.
#[must_use]
pub extern "C" fn create<P: Plugin>(host: RHost) -> RCreated {
    // SAFETY: the host hands over a counted handle.
    let host = unsafe { Host::from_raw(host) };
    let made = guard(Err(panicked("while it was set up")), || P::new(host).map(Box::new));
    let values = RValues { slice: RSlice { ptr: std::ptr::null(), len: 0 }, bytes: RBytes::EMPTY };
    match made {
        Ok(plugin) => {
            RCreated { error: RError::NONE, data: Box::into_raw(plugin).cast(), vt: &Table::<P>::VT, values }
        }
        Err(error) => {
            RCreated { error: error.into(), data: std::ptr::null_mut(), vt: std::ptr::null(), values }
        }
    }
}

struct Table<P>(std::marker::PhantomData<P>);

impl<P: Plugin> Table<P> {
    const VT: PluginVt =
        PluginVt { size: size_of::<PluginVt>(), endpoint: endpoint::<P>, drop: super::drop_box::<P> };
}

unsafe extern "C" fn endpoint<P: Plugin>(
    data: *mut (),
    role: u32,
    scheme: RSlice,
    arguments: *mut RArgument,
    count: usize,
    out: *mut REndpointResult,
) {
    use super::Sized0 as _;
    // SAFETY: a live instance, which may be used by several threads at once (`Plugin: Sync`).
    let plugin = unsafe { &*data.cast_const().cast::<P>() };
    // SAFETY: lent for the call.
    let (scheme, mut arguments) =
        unsafe { (String::from_utf8_lossy(scheme.bytes()), Arguments::from_raw(arguments, count)) };
    let made = guard(Err(panicked("while it made an endpoint")), || match role {
        super::host::CLIENT => plugin.client(&scheme, &mut arguments).map(|client| client.0.into_raw()),
        super::host::SERVER => plugin.server(&scheme, &mut arguments).map(|server| server.0.into_raw()),
        role => Err(crate::Error::new(crate::ErrorKind::Internal, format!("unknown role {role}"))),
    });
    // SAFETY: the caller lends an absent result.
    unsafe { REndpointResult::from(made).write_to(out) };
}

fn panicked(when: &str) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Panicked, format!("the plugin panicked {when}"))
}
