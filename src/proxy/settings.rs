//! What a user can set about the data path, as plain data: where it listens,
//! what it refuses, where context may travel and which exchanges get a span.
//!
//! Nothing here reads a file, a flag or the environment; `config` does that
//! once and hands these values down. `Default` is what a user gets who sets
//! nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use crate::net::dial;
use crate::trace::glob::Glob;
use crate::trace::links::Inference;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

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

/// The bounds of everything that could grow or wait on the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request or response body that the message view reads, in
    /// bytes. A longer body streams through and is traced by its headers.
    pub max_body_bytes: usize,
    /// Most bytes of request bodies that are held until they have come whole,
    /// over all connections. A body without room streams through.
    pub held_bytes: usize,
    /// Longest single server-sent event that is looked into, in bytes.
    /// A longer one streams through unseen.
    pub max_event_bytes: usize,
    /// Longest request or response head, in bytes; a longer request is 431.
    pub max_head_bytes: usize,
    /// Most header fields in one head; a request with more is 431.
    pub max_headers: usize,
    /// Most downstream connections at once, over all listeners and workers.
    pub max_connections: usize,
    /// Most HTTP/2 streams that one downstream connection may have open.
    pub max_concurrent_streams: u32,
    /// Longest time for a client's TLS handshake, from its connection on.
    pub handshake_timeout: Duration,
    /// Longest time for a request head to arrive once its first byte is in.
    pub head_timeout: Duration,
    /// Longest time that the message view waits for a body of known length
    /// before the body streams through unseen.
    pub body_wait: Duration,
    /// Longest pause in a body of unknown length before the message view
    /// stops waiting for its end and lets it stream.
    pub body_gap: Duration,
    /// Longest time to reach the upstream, name resolution and TLS included;
    /// 504 after it.
    pub connect_timeout: Duration,
    /// Longest silence of the upstream before its response head; 504 after it.
    pub response_timeout: Duration,
    /// Longest time that shutting down waits for the application to go and
    /// for exchanges in flight.
    pub drain_timeout: Duration,
    /// Longest time after that for the last spans to leave.
    pub flush_timeout: Duration,
    /// How long a client that sent `Expect: 100-continue` is given to hear
    /// from the upstream before the body is read without its answer.
    pub expect_timeout: Duration,
    /// Most requests that are remembered because their answer may come on
    /// another connection, and most sessions; the oldest makes room.
    pub pending: usize,
    /// How long such a request is remembered, and a session that nobody uses.
    pub pending_timeout: Duration,
    /// Most spans of one long stream, or of what a process was given as parent,
    /// that hang under its span; later ones are traces of their own with a link.
    pub stream_spans: usize,
}

impl Limits {
    /// The most fields of a head where it differs from what hyper keeps room
    /// for without asking the allocator.
    pub fn max_headers_if_changed(&self) -> Option<usize> {
        (self.max_headers != HYPER_HEADERS).then_some(self.max_headers)
    }
}

/// The default of hyper's parser, which it holds on the stack.
const HYPER_HEADERS: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_body_bytes: MIB,
            held_bytes: 64 * MIB,
            max_event_bytes: MIB,
            max_head_bytes: 64 * KIB,
            max_headers: HYPER_HEADERS,
            max_connections: 16_384,
            max_concurrent_streams: 256,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            body_wait: Duration::from_secs(5),
            body_gap: Duration::from_millis(5),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60 * 60),
            drain_timeout: Duration::from_secs(20),
            flush_timeout: Duration::from_secs(5),
            expect_timeout: Duration::from_secs(1),
            pending: 16_384,
            pending_timeout: Duration::from_secs(60 * 60),
            stream_spans: 1_000,
        }
    }
}

/// How trace context and baggage are read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// Which carrier wins when both name a valid but different parent.
    pub parent: Preference,
    /// Whether inbound context is continued. When it is not, the trace
    /// restarts and its root links to the context that came.
    pub trust_inbound: bool,
    /// Whether context is written into `params._meta` beside the headers.
    pub write_meta: bool,
    /// What is made of a call that carries no context.
    pub inference: Inference,
    /// Which destinations may see our headers, `_meta` keys and baggage.
    pub to: Destinations,
    /// Baggage entries set on outbound requests, as name and unencoded value.
    /// Empty by `Default`, because the usual entry needs the service name.
    pub baggage_set: Vec<(String, String)>,
    /// The header formats that are read and written.
    pub formats: Formats,
}

impl Default for Propagation {
    fn default() -> Self {
        Propagation {
            parent: Preference::Meta,
            trust_inbound: true,
            write_meta: true,
            inference: Inference::Guarded,
            to: Destinations::Private,
            baggage_set: Vec::new(),
            formats: Formats::default(),
        }
    }
}

/// The baggage entry that names the agent to those behind it.
pub const AGENT_BAGGAGE: &str = "mcp.mesh.agent";

impl Propagation {
    /// The defaults for the agent of this name: everything behind it learns
    /// the name from the baggage entry `mcp.mesh.agent`.
    pub fn for_service(name: &str) -> Self {
        Propagation {
            baggage_set: vec![(AGENT_BAGGAGE.to_owned(), name.to_owned())],
            ..Propagation::default()
        }
    }
}

/// The carrier that wins when `_meta` and the headers disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// `params._meta`, which the MCP peer itself wrote.
    Meta,
    /// The `traceparent` header, for meshes whose proxies extend only that.
    Header,
}

/// Where trace context and baggage may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destinations {
    /// Loopback, private, shared, link-local and unique-local addresses, and
    /// the names that only resolve inside a network.
    Private,
    /// Everywhere.
    All,
    /// Only hosts that one of these matches, whatever the letter case.
    Hosts(Vec<Glob>),
}

impl Destinations {
    /// Whether a host is one of them. `reached` is the address that a
    /// connection to it has, if there is one: what a name resolved to decides,
    /// never what it might resolve to.
    pub fn include(&self, host: &str, reached: Option<IpAddr>) -> bool {
        match self {
            Destinations::All => true,
            Destinations::Hosts(globs) => globs.iter().any(|glob| glob.matches_ignoring_case(host)),
            Destinations::Private => dial::is_private_name(host) || reached.is_some_and(dial::is_private),
        }
    }
}

/// The header formats of context propagation that are switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    pub tracecontext: bool,
    /// `baggage` (W3C Baggage).
    pub baggage: bool,
    /// `b3`, the single header of Zipkin.
    pub b3: bool,
    /// `X-B3-*`, the several headers of Zipkin.
    pub b3multi: bool,
}

impl Default for Formats {
    /// The OpenTelemetry default, `tracecontext,baggage`.
    fn default() -> Self {
        Formats { tracecontext: true, baggage: true, ..Formats::NONE }
    }
}

impl Formats {
    /// No format at all: nothing is read, nothing is written.
    pub const NONE: Formats = Formats { tracecontext: false, baggage: false, b3: false, b3multi: false };
}

/// What spans say beyond the conventions. Each entry is where a value comes
/// from and the name of its attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Fields of the request's head.
    pub from_header: Vec<(HeaderName, String)>,
    /// Baggage, decoded.
    pub from_baggage: Vec<(String, String)>,
    /// Arguments of tools that are texts, numbers or truth values.
    pub from_argument: Vec<(Argument, String)>,
    /// Whether all arguments of a tool call are written down as they came.
    pub capture_arguments: bool,
}

/// An argument of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The tool.
    pub tool: Glob,
    /// The member of its arguments.
    pub name: String,
}

/// Which exchanges get a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanRules {
    /// Whether HTTP that is not MCP gets spans too.
    pub http: bool,
    /// Whether a notification that comes in a stream of events gets one, which
    /// is an instant.
    pub notifications: bool,
    /// Whether a redirected TLS connection, which is not opened, gets one.
    pub tls: bool,
    /// An exchange that one of these matches gets no span. Its context still
    /// passes through.
    pub ignore: Vec<IgnoreRule>,
}

impl Default for SpanRules {
    /// Spans for everything but the MCP keep-alive.
    fn default() -> Self {
        SpanRules {
            http: true,
            notifications: false,
            tls: false,
            ignore: vec![IgnoreRule { method: Some(Glob::new("ping")), ..IgnoreRule::default() }],
        }
    }
}

impl SpanRules {
    /// Whether some rule says that this exchange gets no span.
    pub fn ignores(&self, exchange: &Exchange<'_>) -> bool {
        self.ignore.iter().any(|rule| rule.matches(exchange))
    }

    /// Whether some rule says so of a poll, now that its answer has come.
    pub fn ignores_task(&self, method: &str, status: &str) -> bool {
        let polls = self.ignore.iter().filter(|rule| rule.task_status.is_some());
        let exchange = Exchange { method: Some(method), task_status: Some(status), ..Exchange::default() };
        polls.into_iter().any(|rule| rule.matches(&exchange))
    }
}

/// One rule of [`SpanRules::ignore`]. It matches when every field that it
/// sets does, and a rule that sets none matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreRule {
    /// The path of the request, without its query.
    pub path: Option<Glob>,
    /// The `User-Agent` of the request.
    pub user_agent: Option<Glob>,
    /// The JSON-RPC method, such as `ping` or `notifications/*`.
    pub method: Option<Glob>,
    /// The host that the request names, without its port, whatever its case.
    pub host: Option<Glob>,
    /// What the answer to `tasks/get` and its relatives says of the task, such
    /// as `working`. Goes with `method` alone.
    pub task_status: Option<Glob>,
}

/// What an [`IgnoreRule`] looks at; a field that the exchange lacks is `None`
/// and matches no pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange<'a> {
    /// The path of the request, without its query.
    pub path: Option<&'a str>,
    /// The `User-Agent` of the request.
    pub user_agent: Option<&'a str>,
    /// The JSON-RPC method.
    pub method: Option<&'a str>,
    /// The host that the request names, without its port.
    pub host: Option<&'a str>,
    /// The state of the task that an answer tells.
    pub task_status: Option<&'a str>,
}

impl IgnoreRule {
    /// Whether every pattern that is set matches, and at least one is set.
    pub fn matches(&self, exchange: &Exchange<'_>) -> bool {
        let exact = |pattern: &Glob, value: Option<&str>| value.is_some_and(|v| pattern.matches(v));
        let any_case =
            |pattern: &Glob, value: Option<&str>| value.is_some_and(|v| pattern.matches_ignoring_case(v));
        let tests = [
            self.path.as_ref().map(|p| exact(p, exchange.path)),
            self.user_agent.as_ref().map(|p| exact(p, exchange.user_agent)),
            self.method.as_ref().map(|p| exact(p, exchange.method)),
            self.host.as_ref().map(|p| any_case(p, exchange.host)),
            self.task_status.as_ref().map(|p| exact(p, exchange.task_status)),
        ];
        let mut set = tests.into_iter().flatten().peekable();
        set.peek().is_some() && set.all(|matched| matched)
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

    #[test]
    fn private_destinations_are_known_by_their_name_or_by_the_address_that_was_reached() {
        let cases = [
            ("weather", None, true),
            ("weather", Some("93.184.215.14"), true),
            ("weather.default.svc", Some("2001:db8::1"), true),
            ("api.example.com", Some("10.1.2.3"), true),
            ("api.example.com", Some("fd00::1"), true),
            ("api.example.com", Some("93.184.215.14"), false),
            ("api.example.com", Some("2600::1"), false),
            ("api.example.com", Some("::ffff:93.184.215.14"), false),
            ("api.example.com", None, false),
            ("93.184.215.14", Some("93.184.215.14"), false),
            ("2600::1", Some("2600::1"), false),
            ("10.1.2.3", None, false),
        ];
        for (host, reached, expect) in cases {
            let reached = reached.map(|ip| ip.parse().unwrap());
            assert_eq!(Destinations::Private.include(host, reached), expect, "{host} {reached:?}");
            assert!(Destinations::All.include(host, reached));
            assert!(!Destinations::Hosts(Vec::new()).include(host, reached));
        }
        let list = Destinations::Hosts(vec![Glob::new("*.EXAMPLE.com")]);
        assert!(list.include("api.example.com", None) && !list.include("weather", None));
    }

    #[test]
    fn a_rule_matches_when_all_that_it_sets_does() {
        let rule = IgnoreRule {
            path: Some(Glob::new("/health*")),
            host: Some(Glob::new("*.LOCAL")),
            ..IgnoreRule::default()
        };
        let exchange = Exchange { path: Some("/healthz"), host: Some("App.local"), ..Exchange::default() };
        assert!(rule.matches(&exchange));
        assert!(!rule.matches(&Exchange { host: None, ..exchange }));
        assert!(!rule.matches(&Exchange { path: Some("/mcp"), ..exchange }));
        assert!(!IgnoreRule::default().matches(&exchange), "an empty rule matches nothing");
    }

    #[test]
    fn ping_is_ignored_by_default() {
        let rules = SpanRules::default();
        let call = |method| Exchange { method: Some(method), ..Exchange::default() };
        assert!(rules.ignores(&call("ping")));
        assert!(!rules.ignores(&call("tools/call")));
        assert!(!rules.ignores(&Exchange::default()));
    }
}
