//! What a request is about: an MCP message, part of an MCP stream that gets
//! no span of its own, or plain HTTP.

use std::borrow::Cow;

use base64::Engine;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, request};

use super::headers::Survey;
use super::mesh::{self, RegistryCall};
use crate::a2a;
use crate::genai;
use crate::mcp::message::{Kind, Message, OwnedId};
use crate::mcp::method::{self, Target};

/// The method of a message, since 2026-07-28.
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
/// The session of revisions before 2026-07-28.
pub const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// The first revision without sessions and server-to-client requests.
const MODERN: &str = "2026-07-28";

/// What a request is about.
#[derive(Debug)]
pub enum Subject<'a> {
    /// A JSON-RPC request or notification of MCP.
    Call(Box<Call<'a>>),
    /// MCP traffic that belongs to no single call and gets no span.
    Quiet(Quiet<'a>),
    /// A request to the registry of MCP Mesh.
    Registry(RegistryCall<'a>),
    /// A message to an agent (A2A).
    Agent(Box<a2a::Call<'a>>),
    /// A call of a language model.
    Model(Box<genai::Call<'a>>),
    /// Anything else.
    Http,
}

/// What of a session is no call, before 2026-07-28. Each names its session,
/// where there is one.
#[derive(Clone, Copy, Debug)]
pub enum Quiet<'a> {
    /// A stream of what the server has to say.
    Stream {
        /// The session.
        session: Option<&'a str>,
        /// The revision, where it is said.
        version: Option<&'a str>,
    },
    /// An answer to a request of the server.
    Answer(Option<&'a str>),
    /// The end of the session.
    End(Option<&'a str>),
}

/// An MCP request or notification.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method, known or not.
    pub method: Cow<'a, str>,
    /// The known method's entry.
    pub known: Option<&'static method::Method>,
    /// The tool, prompt or resource that the method is about.
    pub target: Option<Cow<'a, str>>,
    /// The id; absent for a notification, and where the body was not read.
    pub id: Option<OwnedId>,
    /// Whether no answer is due.
    pub notification: bool,
    /// The revision of the protocol, where it is said.
    pub version: Option<Cow<'a, str>>,
    /// Whether that is 2026-07-28 or later.
    pub modern: bool,
    /// The session, before 2026-07-28.
    pub session: Option<&'a str>,
    /// The value of `jsonrpc` where it is not `2.0`.
    pub jsonrpc: Option<Cow<'a, str>>,
}

impl<'a> Subject<'a> {
    /// Classifies a request by its message where there is one, else by its
    /// headers alone.
    pub fn of(head: &'a request::Parts, survey: Survey, message: Option<&Message<'a>>) -> Self {
        let has_mcp = survey.has(Survey::MCP);
        let (said, session) = if has_mcp { version_and_session(&head.headers) } else { (None, None) };
        match message {
            Some(message) => match message.kind() {
                Kind::Response if said.is_some() || session.is_some() => {
                    Subject::Quiet(Quiet::Answer(session))
                }
                Kind::Response => Subject::Http,
                _ => of_message(head, message, said, session),
            },
            None if is_stream(head, said, session) => Subject::Quiet(match head.method {
                Method::DELETE => Quiet::End(session),
                _ => Quiet::Stream { session, version: said },
            }),
            None if has_mcp => of_headers(head, said),
            None => Subject::Http,
        }
    }

    /// The session that it names, before 2026-07-28.
    pub fn session(&self) -> Option<&'a str> {
        match self {
            Subject::Call(call) => call.session,
            Subject::Quiet(Quiet::Stream { session, .. } | Quiet::Answer(session) | Quiet::End(session)) => {
                *session
            }
            Subject::Registry(_) | Subject::Agent(_) | Subject::Model(_) | Subject::Http => None,
        }
    }

    /// The same, or a request to a registry where it is one. `body` is the
    /// whole body, empty where it was not read.
    pub fn or_registry(self, head: &'a request::Parts, body: &'a [u8]) -> Self {
        match self {
            Subject::Http => mesh::registry_call(&head.method, head.uri.path(), body)
                .map_or(Subject::Http, Subject::Registry),
            subject => subject,
        }
    }
}

fn of_message<'a>(
    head: &'a request::Parts,
    message: &Message<'a>,
    said: Option<&'a str>,
    session: Option<&'a str>,
) -> Subject<'a> {
    let (Some(name), Some(_)) = (&message.method, &message.jsonrpc) else {
        return Subject::Http;
    };
    let name = name.decode();
    let known = method::lookup(&name);
    let in_message = message.meta.protocol_version.as_ref().map(|v| v.decode());
    let has_sign =
        in_message.is_some() || said.is_some() || session.is_some() || head.headers.contains_key(MCP_METHOD);
    if known.is_none() && !has_sign {
        return Subject::Http;
    }
    let offered = match &*name {
        "initialize" => message.params_protocol_version.as_ref().map(|v| v.decode()),
        _ => None,
    };
    let version = in_message.or(said.map(Cow::Borrowed)).or(offered);
    let modern = version.as_deref().is_some_and(is_modern);
    let call = Call::of_message(name, message, version);
    Subject::Call(Box::new(Call { session: session.filter(|_| !modern), ..call }))
}

impl<'a> Call<'a> {
    /// What a message of this method says of itself. It names no session.
    pub fn of_message(method: Cow<'a, str>, message: &Message<'a>, version: Option<Cow<'a, str>>) -> Self {
        let known = method::lookup(&method);
        let target = match known.map(|k| &k.target) {
            Some(Target::ToolName | Target::PromptName) => message.name.as_ref(),
            Some(Target::ResourceUri) => message.uri.as_ref(),
            _ => None,
        };
        let jsonrpc = message.jsonrpc.as_ref().filter(|jsonrpc| !jsonrpc.eq_str("2.0"));
        Call {
            target: target.map(|t| t.decode()),
            known,
            id: message.id.as_ref().and_then(OwnedId::new),
            notification: message.id.is_none(),
            modern: version.as_deref().is_some_and(is_modern),
            session: None,
            version,
            jsonrpc: jsonrpc.map(|jsonrpc| jsonrpc.decode()),
            method,
        }
    }
}

/// Since 2026-07-28 the headers mirror method and target, so that a span can
/// be named although the body cannot be read.
fn of_headers<'a>(head: &'a request::Parts, said: Option<&'a str>) -> Subject<'a> {
    let (&Method::POST, Some(name)) = (&head.method, text(&head.headers, &MCP_METHOD)) else {
        return Subject::Http;
    };
    let known = method::lookup(name);
    let has_target = known
        .is_some_and(|k| matches!(k.target, Target::ToolName | Target::PromptName | Target::ResourceUri));
    let target = if has_target { text(&head.headers, &MCP_NAME).map(unwrap_base64) } else { None };
    Subject::Call(Box::new(Call {
        method: Cow::Borrowed(name),
        known,
        target,
        id: None,
        notification: known.is_some_and(|k| k.notification),
        version: said.map(Cow::Borrowed),
        modern: said.is_none_or(is_modern),
        session: None,
        jsonrpc: None,
    }))
}

/// Whether a request without a message opens or ends a stream or a session.
fn is_stream(head: &request::Parts, said: Option<&str>, session: Option<&str>) -> bool {
    match head.method {
        Method::GET => head
            .headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|v| v.to_str().is_ok_and(|v| v.to_ascii_lowercase().contains("text/event-stream"))),
        Method::DELETE => said.is_some() || session.is_some(),
        _ => false,
    }
}

/// Revisions are dates, so their order is the order of their text.
pub fn is_modern(version: &str) -> bool {
    version.len() == MODERN.len() && version.starts_with(|c: char| c.is_ascii_digit()) && version >= MODERN
}

/// MCP 2026-07-28 wraps header values that are not plain ASCII.
fn unwrap_base64(value: &str) -> Cow<'_, str> {
    let inner = value.strip_prefix("=?base64?").and_then(|v| v.strip_suffix("?="));
    let decoded = inner
        .and_then(|inner| base64::engine::general_purpose::STANDARD.decode(inner).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map_or(Cow::Borrowed(value), Cow::Owned)
}

/// What the headers say of the revision and of the session. One pass over the
/// few that there are takes less than to look up two names.
fn version_and_session(headers: &HeaderMap) -> (Option<&str>, Option<&str>) {
    let (mut version, mut session) = (None, None);
    for (name, value) in headers {
        let place = match name.as_str() {
            "mcp-protocol-version" => &mut version,
            "mcp-session-id" => &mut session,
            _ => continue,
        };
        place.get_or_insert(value);
    }
    (version.and_then(|v| v.to_str().ok()), session.and_then(|v| v.to_str().ok()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::mcp::message;

    fn head(method: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().method(method).uri("/mcp");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn call<'a>(head: &'a request::Parts, body: &'a str) -> Option<Call<'a>> {
        let message = message::parse(body.as_bytes()).ok();
        match Subject::of(head, Survey::of(&head.headers), message.as_ref()) {
            Subject::Call(call) => Some(*call),
            _ => None,
        }
    }

    #[test]
    fn a_modern_call() {
        let head = head("POST", &[("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "s")]);
        let call =
            call(&head, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}"#).unwrap();
        assert_eq!((&*call.method, call.target.as_deref()), ("tools/call", Some("add")));
        assert!(call.modern && !call.notification);
        assert_eq!(call.session, None, "there are no sessions any more");
    }

    #[test]
    fn a_legacy_notification() {
        let head = head("POST", &[("mcp-session-id", "s")]);
        let call = call(&head, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
        assert!(call.notification && !call.modern);
        assert_eq!(call.session, Some("s"));
    }

    #[test]
    fn json_rpc_that_is_not_mcp_stays_http() {
        let plain = head("POST", &[]);
        assert!(call(&plain, r#"{"jsonrpc":"2.0","id":1,"method":"eth_call"}"#).is_none());
        assert!(call(&plain, r#"{"method":"tools/call","id":1}"#).is_none());
        assert!(call(&plain, r#"{"hello":1}"#).is_none());
        let mcp = head("POST", &[("mcp-protocol-version", "2025-06-18")]);
        assert_eq!(call(&mcp, r#"{"jsonrpc":"2.0","id":1,"method":"x/custom"}"#).unwrap().method, "x/custom");
    }

    #[test]
    fn headers_name_the_call_where_the_body_cannot() {
        let head = head(
            "POST",
            &[
                ("mcp-method", "tools/call"),
                ("mcp-name", "=?base64?Y2Fmw6k=?="),
                ("mcp-protocol-version", "2026-07-28"),
            ],
        );
        match Subject::of(&head, Survey::of(&head.headers), None) {
            Subject::Call(call) => {
                assert_eq!(call.target.as_deref(), Some("café"));
                assert!(call.modern && call.id.is_none());
            }
            other => panic!("{other:?}"),
        };
    }

    #[test]
    fn streams_answers_and_ends_of_sessions_are_quiet() {
        let stream = head("GET", &[("accept", "text/event-stream")]);
        assert!(matches!(
            Subject::of(&stream, Survey::of(&stream.headers), None),
            Subject::Quiet(Quiet::Stream { .. })
        ));
        let end = head("DELETE", &[("mcp-session-id", "s")]);
        assert!(matches!(
            Subject::of(&end, Survey::of(&end.headers), None),
            Subject::Quiet(Quiet::End(Some("s")))
        ));
        let answer = head("POST", &[("mcp-session-id", "s")]);
        let message = message::parse(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap();
        assert!(matches!(
            Subject::of(&answer, Survey::of(&answer.headers), Some(&message)),
            Subject::Quiet(Quiet::Answer(Some("s")))
        ));
        let page = head("GET", &[("accept", "text/html")]);
        assert!(matches!(Subject::of(&page, Survey::of(&page.headers), None), Subject::Http));
    }

    #[test]
    fn revisions_are_compared_as_dates() {
        assert!(is_modern("2026-07-28") && is_modern("2027-01-01"));
        assert!(!is_modern("2025-11-25") && !is_modern("DRAFT-2026"));
    }
}
