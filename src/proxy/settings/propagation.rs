//! Where context may travel, and in which form.

use std::net::IpAddr;

use crate::net::dial;
use crate::trace::glob::Glob;
use crate::trace::links::Inference;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
