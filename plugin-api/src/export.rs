//! The macro that makes a crate a plugin.

use crate::abi::instance::Constructor;

/// Makes the crate a plugin: `export!(TYPE, "plugin.json")`, once in the crate's root.
///
/// `TYPE` implements [`Plugin`](crate::Plugin); the second argument is the manifest's path from the crate's folder. What
/// comes out works in both forms, with no feature to set: compiled in, the plugin registers with the program it is
/// linked into (which must mention the crate: `use my_plugin as _;`); as a `.so` it carries its manifest in a section
/// of its own and exports one entry symbol with the crate's name.
///
/// Two plugins of the same crate name cannot be linked into one program; the linker says so.
#[macro_export]
macro_rules! export {
    ($plugin:ty, $manifest:literal) => {
        #[allow(
            unsafe_code,
            reason = "names two symbols and a section for hosts to find; a plugin's own code stays without"
        )]
        const _: () = {
            use $crate::manifest;

            const PARTS: &[&str] = &[
                "{\"build\":{\"name\":\"",
                env!("CARGO_PKG_NAME"),
                "\",\"version\":\"",
                env!("CARGO_PKG_VERSION"),
                "\",\"api\":\"",
                $crate::VERSION,
                "\",\"requires\":\"",
                manifest::REQUIRES,
                "\",\"rustc\":\"",
                manifest::RUSTC,
                "\",\"target\":\"",
                manifest::TARGET,
                "\",\"panic\":\"",
                if cfg!(panic = "abort") { "abort" } else { "unwind" },
                "\",\"entry\":\"",
                concat!("endpoints_plugin_v1_", env!("CARGO_CRATE_NAME")),
                "\"},\"plugin\":",
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $manifest)),
                "}",
            ];
            const LENGTH: usize = manifest::length(PARTS);
            static TEXT: [u8; LENGTH] = manifest::join(PARTS);

            /// The record that hosts read from the file; exported so that no linker drops it.
            #[used]
            #[unsafe(link_section = ".epplugin")]
            #[unsafe(export_name = concat!("endpoints_manifest_", env!("CARGO_CRATE_NAME")))]
            pub static RECORD: [u8; LENGTH + manifest::HEAD] =
                manifest::record(&manifest::join::<LENGTH>(PARTS));

            fn text() -> &'static str {
                ::core::str::from_utf8(&TEXT).unwrap_or("")
            }

            fn make() -> $crate::abi::module::PluginModRef {
                $crate::__private::module::<$plugin>(text())
            }

            extern "C" fn module() -> $crate::__private::abi_stable::library::RootModuleResult {
                $crate::__private::abi_stable::library::__call_root_module_loader(make)
            }

            /// What the host looks for when it has loaded the file.
            #[unsafe(export_name = concat!("endpoints_plugin_v1_", env!("CARGO_CRATE_NAME")))]
            pub static ENTRY: $crate::__private::abi_stable::library::LibHeader =
                // SAFETY: the function gives a `PluginModRef`, which is the module named here.
                unsafe {
                    $crate::__private::abi_stable::library::LibHeader::from_constructor::<
                        $crate::abi::module::PluginModRef,
                    >(module, $crate::__private::abi_stable::library::CheckTypeLayout::Yes)
                };

            $crate::__private::inventory::submit! {
                $crate::__private::BuiltIn::new::<$plugin>(text)
            }
        };
    };
}

/// A plugin that is compiled into the program.
#[derive(Debug)]
pub struct BuiltIn {
    manifest: fn() -> &'static str,
    constructor: Constructor,
}

impl BuiltIn {
    /// A plugin whose manifest record has the text that `manifest` gives; see [`manifest`](crate::manifest). [`export!`]
    /// makes and registers one.
    #[must_use]
    pub const fn new<P: crate::Plugin>(manifest: fn() -> &'static str) -> Self {
        Self { manifest, constructor: Constructor::of::<P>() }
    }

    /// The text of its manifest record.
    #[must_use]
    pub fn manifest(&self) -> &'static str {
        (self.manifest)()
    }

    /// What makes instances of it.
    #[must_use]
    pub fn constructor(&self) -> Constructor {
        self.constructor
    }

    /// All plugins that are compiled into this program, in no particular order.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        inventory::iter::<Self>.into_iter()
    }
}

inventory::collect!(BuiltIn);
