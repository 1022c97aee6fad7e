//! What a request has to do with its session, before 2026-07-28.

use std::borrow::Cow;

use http::Method;

use super::{Start, Started};
use crate::mcp::message::{Kind, Message, OwnedId};
use crate::mcp::method::Target;
use crate::proxy::exchange::{Side, answered, cancelled};
use crate::proxy::peers::{SessionKey, Way};
use crate::proxy::subject::{Quiet, Subject};
use crate::trace::context::TraceContext;

impl Start<'_> {
    /// What the request is about, with what its session is known to have
    /// agreed on. The session is one of 2024-11-05 where the target says so.
    pub(super) fn subject(&self) -> (Subject<'_>, Option<SessionKey>) {
        let mut subject = Subject::of(self.head, self.met.survey, self.message);
        let endpoint = if subject.session().is_none() { self.endpoint() } else { None };
        match &mut subject {
            Subject::Call(call) if call.version.is_none() => {
                let session = endpoint.or_else(|| call.session.map(|id| self.session(id)));
                let peers = &self.worker.tracer.peers;
                let version = session.and_then(|session| peers.version(session, self.met.started));
                call.version = version.map(|version| Cow::Owned(version.into_string()));
            }
            Subject::Http if endpoint.is_some() && self.message.is_some_and(is_answer) => {
                subject = Subject::Quiet(Quiet::Answer(None));
            }
            _ => {}
        }
        (subject, endpoint)
    }

    fn session(&self, id: &str) -> SessionKey {
        self.worker.tracer.peers.session(self.met.outbound, self.met.target, id)
    }

    /// The session of 2024-11-05 whose messages are sent to the target of this request.
    fn endpoint(&self) -> Option<SessionKey> {
        let peers = &self.worker.tracer.peers;
        if !peers.has_endpoints() || self.head.method != Method::POST {
            return None;
        }
        let path = self.head.uri.path_and_query()?.as_str();
        let session = peers.endpoint(self.met.outbound, self.met.target, path);
        peers.version(session, self.met.started).map(|_| session)
    }

    /// Where the exchange takes place, as far as that matters to its end.
    pub(super) fn side(&self, subject: &Subject<'_>, endpoint: Option<SessionKey>) -> Side {
        Side {
            outbound: self.met.outbound,
            session: endpoint.or_else(|| subject.session().map(|id| self.session(id))),
            ends_session: matches!(subject, Subject::Quiet(Quiet::End(_))),
            is_stream: matches!(subject, Subject::Quiet(Quiet::Stream { .. })),
            elsewhere: endpoint.is_some(),
        }
    }

    /// Lets the message end what it answers or takes back.
    pub(super) fn of_session(
        &self,
        subject: &Subject<'_>,
        session: Option<SessionKey>,
        started: &mut Started,
    ) {
        let (Some(session), Some(message)) = (session, self.message) else { return };
        match subject {
            Subject::Quiet(Quiet::Answer(_)) => {
                answered(self.worker, session, Way::ToClient, message, false);
            }
            Subject::Call(call) if call.method == "notifications/cancelled" => {
                let target = cancelled(self.worker, session, Way::ToServer, message);
                if let (Some(target), Some(waiting)) = (target, &mut started.waiting) {
                    waiting.link(&target, "cancels");
                }
            }
            _ => {}
        }
    }

    /// The request that a notification takes back, which it hangs under where it
    /// names no parent.
    pub(super) fn named(&self, subject: &Subject<'_>) -> Option<TraceContext> {
        let (Subject::Call(call), Some(message)) = (subject, self.message) else { return None };
        let id = message.request_id.as_ref().filter(|_| call.notification)?;
        let session = call.session.map(|id| self.session(id)).or_else(|| self.endpoint())?;
        let peers = &self.worker.tracer.peers;
        let waiting = peers.waiting(peers.key(session, Way::ToServer, &OwnedId::new(id)?))?;
        waiting.lock().context_of(id)
    }

    /// Links the message to the request whose work it goes on with: a retry to
    /// the try that wanted more, a poll to the call that became a task.
    pub(super) fn of_others(&self, subject: &Subject<'_>, started: &mut Started) {
        let (Subject::Call(call), Some(message), Some(waiting)) =
            (subject, self.message, &mut started.waiting)
        else {
            return;
        };
        if call.known.is_some_and(|known| known.target == Target::TaskId) || message.request_state.is_some() {
            waiting.goes_on(self.worker, self.met.outbound, Some(self.met.target), message, self.met.started);
        }
    }
}

fn is_answer(message: &Message<'_>) -> bool {
    message.kind() == Kind::Response
}
