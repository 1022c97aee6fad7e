//! A request as sampling rules see it. What no rule asks for is not looked up.

use std::cell::OnceCell;
use std::net::SocketAddr;

use http::{header, request};

use super::begin::Met;
use super::subject::{Call, Subject};
use crate::mcp::method::Target;
use crate::trace::rules::{Facts, Field};
use crate::w3c::baggage::Baggage;

/// The entry of our own baggage that names the agent which called.
const CALLER: &str = "mcp.mesh.agent";

/// A request, and how to read its baggage.
pub(super) struct Request<'a, F> {
    pub(super) met: &'a Met<'a>,
    pub(super) head: &'a request::Parts,
    pub(super) subject: &'a Subject<'a>,
    pub(super) baggage: Lazy<F>,
}

/// Baggage that is read when it is first asked for.
pub(super) struct Lazy<F> {
    read: F,
    found: OnceCell<Option<Baggage>>,
}

impl<F: Fn() -> Option<Baggage>> Lazy<F> {
    pub(super) fn new(read: F) -> Self {
        Lazy { read, found: OnceCell::new() }
    }

    fn entry(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let baggage = self.found.get_or_init(|| (self.read)());
        baggage.as_ref().and_then(|baggage| baggage.get(name)).is_some_and(|value| test(&value))
    }
}

impl<F: Fn() -> Option<Baggage>> Facts for Request<'_, F> {
    fn any(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let target = |wanted: fn(&Target) -> bool| {
            let call = self.call()?;
            call.known.filter(|known| wanted(&known.target))?;
            call.target.as_deref()
        };
        let value = match field {
            Field::Peer => return self.peer(test),
            Field::Header(name) => {
                let values = self.head.headers.get_all(&**name).iter();
                return values.filter_map(|value| value.to_str().ok()).any(test);
            }
            Field::Baggage(name) => return self.baggage.entry(name, test),
            Field::Tool => target(|target| matches!(target, Target::ToolName)),
            Field::Prompt => target(|target| matches!(target, Target::PromptName)),
            Field::Resource => target(|target| matches!(target, Target::ResourceUri)),
            Field::Method => match self.subject {
                Subject::Agent(call) => Some(call.method.operation),
                Subject::Model(call) => Some(call.api.operation()),
                _ => self.call().map(|call| &*call.method),
            },
            Field::Host => self.host(),
            Field::Path => Some(self.head.uri.path()),
        };
        value.is_some_and(test)
    }
}

impl<F: Fn() -> Option<Baggage>> Request<'_, F> {
    fn call(&self) -> Option<&Call<'_>> {
        match self.subject {
            Subject::Call(call) => Some(call),
            _ => None,
        }
    }

    fn peer(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        if self.met.outbound {
            let reached = |address: SocketAddr| address.ip().to_canonical().to_string();
            return test(&self.met.target.host) || self.met.upstream.is_some_and(|at| test(&reached(at)));
        }
        self.baggage.entry(CALLER, test) || test(&self.met.downstream.ip)
    }

    fn host(&self) -> Option<&str> {
        if self.met.outbound {
            return Some(&self.met.target.host);
        }
        named_host(self.head)
    }
}

/// A request of a server to its client, of which only the method is known.
pub(crate) struct Method<'a>(pub(crate) &'a str);

impl Facts for Method<'_> {
    fn any(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        *field == Field::Method && test(self.0)
    }
}

/// The host that a request names, without its port.
pub(super) fn named_host(head: &request::Parts) -> Option<&str> {
    let host = match head.headers.get(header::HOST) {
        Some(host) => host.to_str().ok()?,
        None => head.uri.host()?,
    };
    // The colons of an IPv6 address stand in brackets.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    Some(name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name))
}
