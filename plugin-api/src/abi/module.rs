//! The module: what a host finds behind the entry symbol of a plugin in Rust, and what both entries lead to.
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
use super::host::RHost;
use super::{Sized0, guard};
use crate::arguments::Arguments;
use crate::plugin::Plugin;
use crate::services::Host;

/// A plugin's root: grows at the end.
///
/// What it leads to grows too, and says by its size how much there is of it, so the comparison of layouts must not look
/// at that. It looks at the plain values, which stay as they are for a major version: that is what the phantom fields,
/// which are there for the comparison alone, are for.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModRef)))]
#[sabi(missing_field(panic))]
#[sabi(phantom_field(host: RHost))]
#[sabi(phantom_field(slice: RSlice))]
#[sabi(phantom_field(bytes: RBytes))]
#[sabi(phantom_field(error: RError))]
pub struct PluginMod {
    /// The manifest record's text, the same as in the file's section.
    pub manifest: RStr<'static>,
    /// Makes an instance for a host.
    #[sabi(unsafe_opaque_field)]
    #[sabi(last_prefix_field)]
    pub create: Create,
}

impl RootModule for PluginModRef {
    abi_stable::declare_root_module_statics! {PluginModRef}
    const BASE_NAME: &'static str = "endpoints_plugin";
    const NAME: &'static str = "endpoints_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Makes an instance for a host. The plugin owns the handle to the host, also where it fails, and writes the result.
pub type Create = unsafe extern "C" fn(host: RHost, out: *mut RCreated);

/// What making an instance of a plugin comes to.
#[repr(C)]
#[derive(Debug)]
pub struct RCreated {
    /// Bytes in this structure.
    pub size: usize,
    /// Set where it failed.
    pub error: RError,
    /// The plugin's own.
    pub data: *mut (),
    /// The plugin's functions, where it did not fail.
    pub vt: *const PluginVt,
}

// SAFETY: `repr(C)`, size first; zeroes are no error and no instance.
unsafe impl Sized0 for RCreated {}

/// The functions of a plugin's instance.
#[repr(C)]
#[derive(Debug)]
pub struct PluginVt {
    /// Bytes in this table.
    pub size: usize,
    /// Makes an endpoint of a role ([`CLIENT`](super::host::CLIENT) or [`SERVER`](super::host::SERVER)).
    /// Takes the nested endpoints that it wants out of the arguments. May read the files that arguments name; opens no
    /// socket. May be called several times at once.
    pub endpoint: unsafe extern "C" fn(
        data: *mut (),
        role: u32,
        scheme: RSlice,
        arguments: *mut RArgument,
        count: usize,
        out: *mut REndpointResult,
    ),
    /// Frees the instance; its endpoints live on.
    pub drop: unsafe extern "C" fn(data: *mut ()),
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
    /// A nested description, made by the host; taken by writing a null handle in its place. What is left, the host drops.
    pub endpoint: REndpoint,
}

/// Makes an instance of `P`: the [`Create`] of its module.
///
/// # Safety
/// `host` is a counted handle that the caller gives up; `out` is absent, and lent for the call.
pub unsafe extern "C" fn create<P: Plugin>(host: RHost, out: *mut RCreated) {
    // SAFETY: by contract.
    let host = unsafe { Host::from_raw(host) };
    let made = guard(Err(panicked("while it was set up")), || P::new(host).map(Box::new));
    let mut created = RCreated::absent();
    match made {
        Ok(plugin) => {
            created.data = Box::into_raw(plugin).cast();
            created.vt = &Table::<P>::VT;
        }
        Err(error) => created.error = error.into(),
    }
    // SAFETY: by contract.
    unsafe { created.write_to(out) };
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
