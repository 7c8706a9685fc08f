//! Endpoints of the scheme tcp.
