//! Options of sockets that rustix does not have.
#![expect(unsafe_code, reason = "reads and sets options that are one integer each")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{
    IPPROTO_TCP, SO_RCVLOWAT, SOL_SOCKET, TCP_WINDOW_CLAMP, c_int, getsockopt, setsockopt, socklen_t,
};

const LENGTH: socklen_t = size_of::<c_int>() as socklen_t;

/// Sets how many bytes have to be there before who waits for them is woken (`SO_RCVLOWAT`, socket(7)).
pub(super) fn set_low_water(socket: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the value an integer of the length that is said.
    let set =
        unsafe { setsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_RCVLOWAT, (&raw const bytes).cast(), LENGTH) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The largest window that the socket offers to its peer, in bytes (`TCP_WINDOW_CLAMP`, tcp(7)). Fails where it is not TCP.
pub(super) fn largest_window(socket: BorrowedFd<'_>) -> io::Result<c_int> {
    let (mut bytes, mut length): (c_int, _) = (0, LENGTH);
    // SAFETY: the descriptor is open, and the kernel writes no more than the length, which is that of the integer.
    let got = unsafe {
        getsockopt(
            socket.as_raw_fd(),
            IPPROTO_TCP,
            TCP_WINDOW_CLAMP,
            (&raw mut bytes).cast(),
            &raw mut length,
        )
    };
    if got == 0 { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}
