//! Listening sockets: one for each worker on the same address, so that the
//! kernel spreads connections and no worker waits for another.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted on one socket.
const BACKLOG: i32 = 1024;

/// Binds `count` sockets to one address. Port 0 picks a free port, the same
/// for all. An address that another process uses is an error, even if that
/// process shares its ports as we do.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = socket(address, false)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    // The first bind proved that nobody else is there.
    let address = first.local_addr()?;
    drop(first);
    (0..count).map(|_| socket(address, true)).collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` means every address of the machine, as users expect of it.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    super::io::tune_listener(&socket)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds as [`bind`] does; where the machine has no IPv6 at all and the
/// address is the IPv6 wildcard, the IPv4 wildcard serves instead.
pub fn bind_dual(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    match bind(address, count) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_absent(&error) => {
            bind(SocketAddr::from(([0, 0, 0, 0], address.port())), count)
        }
        result => result,
    }
}

/// Binds a socket for packets as [`bind_dual`] binds one for connections.
pub fn bind_packets(address: SocketAddr) -> io::Result<UdpSocket> {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    match bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_absent(&error) => {
            bind(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        result => result,
    }
}

/// Whether the error says that the machine has no such address: its family is
/// switched off as a whole, or for every interface.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

/// Errors of Linux.
const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused_even_when_both_would_share_it() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_eq!(first.len(), 2);
        assert_eq!(first[1].local_addr().unwrap(), address);
        assert_eq!(bind(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn packets_come_from_both_families() {
        let socket = bind_packets(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        from.send_to(b"x", ("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(false).unwrap();
        let (length, sender) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!((length, sender.ip().to_canonical()), (1, from.local_addr().unwrap().ip()));
        assert!(bind_packets(socket.local_addr().unwrap()).is_err(), "it is in use");
    }
}
