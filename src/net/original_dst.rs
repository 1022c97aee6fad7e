//! Where a redirected connection was meant to go, as the kernel remembers it.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination before the kernel redirected the connection. It is our own
/// address for a connection that was tracked and not redirected, and `None`
/// for one that the kernel has no record of.
///
/// `peer` says which protocol it came with: an IPv4 connection on a
/// dual-stack socket is recorded under IPv4.
pub fn of(tcp: &TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(tcp);
    let address =
        if peer.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    address.ok()?.as_socket()
}
