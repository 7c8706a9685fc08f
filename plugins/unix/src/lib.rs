//! Endpoints of the scheme unix.
