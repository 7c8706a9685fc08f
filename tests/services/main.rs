//! What the host lends, as plugins of both forms use it: each service; and a plugin with a runtime of its own.
//!
//! The two plugins are compiled into this test, and lie beside it as files.

mod each;
mod own_runtime;
mod support;

use endpoints_fixture_own_runtime as _;
use endpoints_fixture_services as _;
