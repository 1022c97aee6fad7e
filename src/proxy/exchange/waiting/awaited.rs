//! What answers a message, and why an answer may never come.

use crate::a2a;
use crate::genai;
use crate::mcp::message::OwnedId;
use crate::proxy::peers::SessionKey;

/// What would answer a message.
#[derive(Debug)]
pub enum Awaited {
    /// The JSON-RPC answer to an MCP request.
    Answer(Answer),
    /// The acknowledgement of an MCP notification.
    Acknowledgement,
    /// The end of the response to a registration in a mesh, which says to
    /// which agents the dependencies were resolved.
    Registration,
    /// The answers of an agent, of which there may be many, to their end.
    Agent(Box<a2a::Reply>),
    /// The answer of a language model, whole or as events, to its end.
    Completion(Box<genai::Reply>),
    /// The end of the response.
    Response,
}

/// Requests whose answers say more than how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// `initialize`: it grants the session.
    Session,
    /// `subscriptions/listen`: its answer comes when the client has heard enough.
    Notifications,
    /// `tasks/get` and its relatives: about work that another request began.
    Task,
    /// Anything else.
    #[default]
    Other,
}

impl Asked {
    /// Reads it off the method.
    pub fn of(method: &str) -> Self {
        match method {
            "initialize" => Asked::Session,
            "subscriptions/listen" => Asked::Notifications,
            _ if method.starts_with("tasks/") => Asked::Task,
            _ => Asked::Other,
        }
    }
}

/// The answer that is awaited.
#[derive(Debug)]
pub struct Answer {
    /// The id that it has to carry, where the request's was read.
    pub id: Option<OwnedId>,
    /// What it is the answer to, where that matters.
    pub asked: Asked,
    /// Whether a client that leaves means to cancel: since 2026-07-28.
    pub modern: bool,
    /// The session that the head of the answer to `initialize` named.
    pub granted: Option<SessionKey>,
}

impl Awaited {
    /// Whether a client that leaves means to cancel: since 2026-07-28.
    pub(in crate::proxy::exchange) fn is_modern(&self) -> bool {
        matches!(self, Awaited::Answer(answer) if answer.modern)
    }

    /// Whether the end of the body, not some message in it, is the end of the answer.
    pub(in crate::proxy::exchange) fn is_whole_body(&self) -> bool {
        matches!(self, Awaited::Agent(_) | Awaited::Completion(_))
    }

    /// Whether the span is one of HTTP, which says the status of any response.
    pub(in crate::proxy::exchange) fn is_http(&self) -> bool {
        matches!(self, Awaited::Registration | Awaited::Completion(_) | Awaited::Response)
    }
}

/// Why a request is no longer in the table of pending ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Another request took its place.
    Displaced,
    /// Its time is over.
    Overdue,
    /// Its session is over.
    EndOfSession,
    /// The sidecar stops.
    Stopping,
}
