//! Calls of language models among the pod's own requests.

use http::Method;

use super::Start;
use crate::genai::{Call, Candidate};
use crate::proxy::subject::Subject;

impl Start<'_> {
    /// The same, or a call of a model where it is one.
    pub(super) fn or_model<'s>(&'s self, subject: Subject<'s>) -> Subject<'s> {
        let is_candidate = matches!(subject, Subject::Http)
            && self.met.outbound
            && self.head.method == Method::POST
            && self.message.is_none();
        if !is_candidate {
            return subject;
        }
        let body = match (self.body, self.note) {
            (b"", None) => return subject,
            (b"", Some(_)) => None,
            (body, _) => Some(body),
        };
        let candidate = Candidate {
            host: &self.met.target.host,
            path: self.head.uri.path(),
            body,
            is_versioned: self.head.headers.contains_key("anthropic-version"),
        };
        Call::of(candidate).map_or(subject, |call| Subject::Model(Box::new(call)))
    }
}
