//! Opening upstream connections: name resolution, a try for each address, one
//! deadline over all of it, and an error that says which step failed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::tls::HandshakeError;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved, or resolved to nothing.
    #[error("the name did not resolve")]
    Resolve(#[source] Option<io::Error>),
    /// Every address refused or was unreachable; this is the last answer.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// It was reached, and the TLS handshake failed.
    #[error("{0}")]
    Tls(#[source] HandshakeError),
    /// The deadline passed first.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Connects to the first address of the host that accepts, within `timeout`
/// for resolution and all tries together.
pub async fn dial(host: &str, port: u16, timeout: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    match tokio::time::timeout(timeout, connect(host, port)).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Timeout(timeout)),
    }
}

async fn connect(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return connect_to(SocketAddr::new(ip, port)).await.map_err(DialError::Connect);
    }
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|e| DialError::Resolve(Some(e)))?;
    let mut last = None;
    for address in addresses {
        match connect_to(address).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(DialError::Resolve(None), DialError::Connect))
}

async fn connect_to(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let tcp = TcpStream::connect(address).await?;
    super::io::tune(&tcp, address.ip());
    Ok((tcp, address))
}

/// Whether an address is one that only a private network routes: loopback,
/// RFC 1918, RFC 6598, link-local (RFC 3927, RFC 4291), unique-local (RFC 4193).
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

/// Whether a name is one that only resolves inside a network: a single label,
/// or a name under one of the customary internal suffixes.
pub fn is_private_name(host: &str) -> bool {
    const SUFFIXES: [&str; 4] = [".svc", ".cluster.local", ".local", ".internal"];
    let host = host.strip_suffix('.').unwrap_or(host);
    let ends = |suffix: &str| {
        host.len() > suffix.len()
            && host.is_char_boundary(host.len() - suffix.len())
            && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    !host.is_empty()
        && host.parse::<IpAddr>().is_err()
        && (!host.contains('.') || SUFFIXES.iter().any(|suffix| ends(suffix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses() {
        let cases = [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("169.254.1.1", true),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:8.8.8.8", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_private(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn private_names() {
        let cases = [
            ("weather", true),
            ("weather.default.svc", true),
            ("weather.default.SVC.cluster.local", true),
            ("printer.local", true),
            ("db.corp.internal.", true),
            ("example.com", false),
            ("localhost.example.com", false),
            ("svc", true),
            (".svc", false),
            ("", false),
            ("8.8.8.8", false),
            ("2001:db8::1", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_private_name(text), expected, "{text}");
        }
    }
}
