//! Opening upstream connections: name resolution, a try for each address, one
//! deadline over all of it, and an error that says which step failed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::resolve::Resolver;
use super::tls::HandshakeError;

/// How long one address may stay silent before the next is tried beside it
/// (RFC 8305, 5, which recommends this value).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved, or resolved to nothing.
    #[error("the name did not resolve{}", said(.0))]
    Resolve(Option<Arc<str>>),
    /// As many lookups as may be were going on, and none ended in time.
    #[error("the name did not resolve: too many name lookups are unanswered")]
    Lookups,
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

fn said(reason: &Option<Arc<str>>) -> String {
    reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
}

/// Connects to the host, within `limit` for resolution and all tries together.
/// A silent address does not use that time up: the next one is tried beside
/// it, and the first to answer wins.
///
/// # Errors
/// Which step failed.
pub async fn dial(
    resolver: &Resolver,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let by = Instant::now() + limit;
    if let Ok(ip) = host.parse::<IpAddr>() {
        let connected = timeout_at(by, connect_to(SocketAddr::new(ip, port))).await;
        return connected.map_err(|_| DialError::Timeout(limit))?.map_err(DialError::Connect);
    }
    let found = match timeout_at(by, resolver.resolve(host)).await {
        Ok(found) => found.map_err(|reason| DialError::Resolve(Some(reason)))?,
        Err(_) if resolver.is_full() => return Err(DialError::Lookups),
        Err(_) => return Err(DialError::Timeout(limit)),
    };
    let addresses = in_turns(&found).take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect();
    // In a box, because it would make every exchange larger.
    match timeout_at(by, Box::pin(first_of(addresses))).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Timeout(limit)),
    }
}

/// The system's order, with the two families taking turns from the first one
/// on (RFC 8305, 4), so that a family without a route costs one try.
fn in_turns(found: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let first_family = found.first().is_some_and(IpAddr::is_ipv4);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        found.iter().copied().partition(|ip| ip.is_ipv4() == first_family);
    first.reverse();
    second.reverse();
    std::iter::from_fn(move || {
        std::mem::swap(&mut first, &mut second);
        second.pop().or_else(|| first.pop())
    })
}

async fn first_of(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), DialError> {
    if let [address] = addresses[..] {
        return connect_to(address).await.map_err(DialError::Connect);
    }
    let mut tries = JoinSet::new();
    let mut failed: Option<io::Error> = None;
    for address in addresses {
        tries.spawn(connect_to(address));
        // Whatever ended first ends this wait: a refusal brings the next address at once.
        match timeout(NEXT_ADDRESS, tries.join_next()).await {
            Ok(Some(Ok(Ok(connected)))) => return Ok(connected),
            Ok(Some(Ok(Err(error)))) => failed = Some(telling(failed, error)),
            _ => {}
        }
    }
    while let Some(ended) = tries.join_next().await {
        match ended {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failed = Some(telling(failed, error)),
            Err(_) => {}
        }
    }
    Err(failed.map_or(DialError::Resolve(None), DialError::Connect))
}

/// Of two failures the one that says more of the server: that a family has no
/// route here says nothing.
fn telling(before: Option<io::Error>, now: io::Error) -> io::Error {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable};
    match before {
        Some(before) if matches!(now.kind(), HostUnreachable | NetworkUnreachable) => before,
        _ => now,
    }
}

/// Connects to an address, for as long as the kernel tries.
pub async fn connect_to(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
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
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Knows one name, whose addresses these are.
    fn resolver(addresses: &'static [&'static str]) -> Resolver {
        Resolver::with(1, move |_| Ok(addresses.iter().map(|ip| ip.parse().unwrap()).collect()))
    }

    /// A port on which `127.0.0.2` accepts nothing: its backlog is full, so
    /// the kernel leaves further connections without an answer.
    struct BlackHole {
        port: u16,
        _listener: Socket,
        _waiting: Vec<Socket>,
    }

    fn black_hole() -> BlackHole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting: Vec<Socket> = (0..8)
            .map(|_| {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&address);
                client
            })
            .collect();
        BlackHole { port: address.as_socket().unwrap().port(), _listener: listener, _waiting: waiting }
    }

    #[tokio::test]
    async fn a_silent_address_does_not_use_up_the_time_of_the_next() {
        // A port that is free on the other address too.
        let beside = |hole: BlackHole| Some((TcpListener::bind(("127.0.0.1", hole.port)).ok()?, hole));
        let (listener, hole) = (0..100).find_map(|_| beside(black_hole())).unwrap();
        let resolver = resolver(&["127.0.0.2", "127.0.0.1"]);
        // Far longer than the test, so that only a try beside the first can succeed.
        let (_tcp, peer) = dial(&resolver, "app", hole.port, Duration::from_secs(600)).await.unwrap();
        assert_eq!(peer, listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn silence_everywhere_is_a_timeout() {
        let hole = black_hole();
        let limit = Duration::from_millis(20);
        for (addresses, host) in [(&["127.0.0.2"][..], "app"), (&["127.0.0.2"], "127.0.0.2")] {
            let dialled = dial(&resolver(addresses), host, hole.port, limit).await;
            assert!(matches!(dialled, Err(DialError::Timeout(_))), "{dialled:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_brings_the_next_and_the_last_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_secs(600);
        let several = resolver(&["127.0.0.3", "::1", "127.0.0.1"]);
        assert_eq!(dial(&several, "app", port, limit).await.unwrap().1.port(), port);
        drop(listener);
        let Err(DialError::Connect(error)) = dial(&several, "app", port, limit).await else { panic!() };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let nothing = dial(&resolver(&[]), "app", port, limit).await;
        assert!(matches!(nothing, Err(DialError::Resolve(None))), "{nothing:?}");
    }

    /// Whoever writes a name's records cannot have us try addresses for ever.
    #[tokio::test]
    async fn only_so_many_addresses_of_a_name_are_tried() {
        let listener = TcpListener::bind("127.0.1.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for (before, reached) in [(MAX_ADDRESSES - 1, true), (MAX_ADDRESSES, false)] {
            let several = Resolver::with(1, move |_| {
                let refusing = (0..before).map(|n| IpAddr::from([127, 0, 0, 10 + n as u8]));
                Ok(refusing.chain([IpAddr::from([127, 0, 1, 1])]).collect())
            });
            let dialled = dial(&several, "app", port, Duration::from_secs(600)).await;
            assert_eq!(dialled.is_ok(), reached, "{before}: {dialled:?}");
        }
    }

    #[tokio::test]
    async fn a_dead_resolver_is_named_once_it_holds_all_lookups() {
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let wait = parking_lot::Mutex::new(wait);
        let dead = Resolver::with(1, move |_| {
            let _ = wait.lock().recv();
            Err(io::Error::other("no answer"))
        });
        for host in ["a", "b"] {
            let dialled = dial(&dead, host, 1, Duration::from_millis(5)).await;
            assert!(matches!(dialled, Err(DialError::Lookups)), "{dialled:?}");
        }
        go.send(()).unwrap();
        drop(go);
        let error = dial(&dead, "c", 1, Duration::from_secs(600)).await.unwrap_err();
        assert_eq!(error.to_string(), "the name did not resolve: no answer");
    }

    #[test]
    fn the_families_take_turns() {
        let turns = |found: &[&str]| {
            let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
            in_turns(&found).map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(turns(&["::1", "::2", "::3", "10.0.0.1"]), ["::1", "10.0.0.1", "::2", "::3"]);
        assert_eq!(turns(&["10.0.0.1", "10.0.0.2", "::1"]), ["10.0.0.1", "::1", "10.0.0.2"]);
        assert_eq!(turns(&["10.0.0.1", "10.0.0.2"]), ["10.0.0.1", "10.0.0.2"]);
        assert!(turns(&[]).is_empty());
    }

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
