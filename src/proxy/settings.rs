//! What a user can set about the data path, as plain data: where it listens,
//! what it refuses, where context may travel and which exchanges get a span.
//!
//! Nothing here reads a file, a flag or the environment; `config` does that
//! once and hands these values down. `Default` is what a user gets who sets
//! nothing.

mod limits;
mod propagation;
mod spans;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

pub use self::limits::Limits;
pub use self::propagation::{AGENT_BAGGAGE, Destinations, Formats, Preference, Propagation};
pub use self::spans::{Argument, Attributes, Exchange, IgnoreRule, SpanRules};
use crate::trace::glob::Glob;

/// An inbound listener: traffic from the mesh towards the local application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where the proxy accepts connections.
    pub listen: SocketAddr,
    /// Whether clients speak TLS to it, which ends here.
    pub secure: bool,
    /// The application that every accepted connection is forwarded to.
    pub app: Authority,
}

/// An outbound listener: traffic of the local application towards the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where the proxy accepts connections.
    pub listen: SocketAddr,
    /// The fixed server behind this listener. Without one the listener is a
    /// forward proxy: absolute-form targets, `CONNECT`, or routing by `Host`.
    pub target: Option<BaseUrl>,
}

/// Listeners for what the kernel redirects, and what of it is not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirected {
    /// The port for inbound connections, on all addresses.
    pub inbound: u16,
    /// The port for outbound connections, on the loopback addresses.
    pub outbound: u16,
    /// Connections to these ports are passed on unread.
    pub opaque_ports: Vec<RangeInclusive<u16>>,
}

impl Redirected {
    /// Every address that is listened on where both families are there.
    pub fn addresses(&self) -> [SocketAddr; 3] {
        [
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.inbound)),
            SocketAddr::from((Ipv4Addr::LOCALHOST, self.outbound)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, self.outbound)),
        ]
    }
}

/// A host and a port, the host being a name or an address without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// A DNS name or an IP address; IPv6 addresses carry no brackets here.
    pub host: String,
    /// The TCP port, never 0.
    pub port: u16,
}

impl fmt::Display for Authority {
    /// Writes `host:port`, with the brackets of RFC 3986 around IPv6.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Authority {
    /// The host as an address, when it is one and needs no resolution.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The server.
    pub server: Authority,
    /// Whether it is spoken to in TLS.
    pub secure: bool,
}

impl fmt::Display for Target {
    /// Writes `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

/// Hosts that the application says `http` to and that are spoken to in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originate {
    /// The hosts.
    pub host: Glob,
    /// The port where they speak TLS; 443 unless it is named.
    pub port: Option<u16>,
}

impl Originate {
    /// The port to dial in place of this server's, if this is about it: it
    /// was named without a port (which is 80), or with the port that speaks TLS.
    pub fn port_for(&self, server: &Authority) -> Option<u16> {
        let port = self.port.unwrap_or(443);
        let about = matches!(server.port, 80) || server.port == port;
        (about && self.host.matches_ignoring_case(&server.host)).then_some(port)
    }
}

impl fmt::Display for Originate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host.as_str())?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The base of an `http` or `https` URL: every request path is appended to its
/// prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// Whether the URL says `https`.
    pub secure: bool,
    /// The server; the port is 80 or 443 when the URL names none.
    pub authority: Authority,
    /// Empty, or a path that starts with `/` and does not end with one.
    pub prefix: String,
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_brackets_only_ipv6() {
        let show = |host: &str| Authority { host: host.to_owned(), port: 80 }.to_string();
        assert_eq!(show("::1"), "[::1]:80");
        assert_eq!(show("127.0.0.1"), "127.0.0.1:80");
        assert_eq!(show("app.svc"), "app.svc:80");
    }
}
