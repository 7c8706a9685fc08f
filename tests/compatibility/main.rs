//! Plugins and hosts that were not built together: other compilers, other profiles, other versions of the boundary.

mod api;
mod checked;
mod host;
mod kept;
mod matrix;
mod rehearsal;
