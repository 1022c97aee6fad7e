//! Messages to agents (A2A), told from those of MCP that have the same names.

use super::Start;
use crate::a2a::{Call, lookup};
use crate::mcp::method::Target;
use crate::proxy::subject::{self, Subject};

/// The version of A2A that a client speaks.
const A2A_VERSION: &str = "a2a-version";

impl Start<'_> {
    /// The same, or a message to an agent where it is one. What has a sign of
    /// MCP (a header, a revision in `_meta`, a session's own path) is MCP's.
    pub(super) fn or_agent<'s>(&'s self, subject: Subject<'s>) -> Subject<'s> {
        let Some(message) = self.message else { return subject };
        let may_be = match &subject {
            Subject::Http => true,
            Subject::Call(call) => {
                call.known.is_some_and(|known| known.target == Target::TaskId)
                    && call.version.is_none()
                    && call.session.is_none()
                    && !self.head.headers.contains_key(subject::MCP_METHOD)
            }
            _ => false,
        };
        if !may_be || message.id.is_none() {
            return subject;
        }
        let method = message.method.as_ref().and_then(|name| lookup(&name.decode()));
        let version = self.head.headers.get(A2A_VERSION).and_then(|version| version.to_str().ok());
        let version = version.filter(|version| !version.is_empty());
        let call = method.and_then(|method| Call::of(method, version, self.body));
        call.map_or(subject, |call| Subject::Agent(Box::new(call)))
    }
}
