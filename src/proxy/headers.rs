//! Header fields on their way through: what is refused, the few that belong
//! to one connection and do not travel, and the trace fields.
//!
//! Everything else is left where it is. `HeaderMap` keeps the order of names
//! only while nothing is removed from it, so a removal rebuilds the map.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version, request, response};

use opentelemetry::trace::TraceFlags;

use super::error::ProxyError;
use super::settings::Formats;
use crate::trace::context::{Outgoing, TraceContext};
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;
use crate::w3c::{b3, trim_ows};

/// The fields of W3C Trace Context and W3C Baggage.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// See [`TRACEPARENT`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// See [`TRACEPARENT`].
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that `Connection` cannot take away: framing and routing, whose loss
/// would change what the message is, and the context, so that no client can
/// switch tracing off for those behind it.
const KEPT: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    TRACEPARENT,
    TRACESTATE,
    BAGGAGE,
];

/// Which of the fields that matter here a head has. Looking each of them up
/// costs more than one pass over the few that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey(u16);

impl Survey {
    /// `Connection` or `Upgrade`.
    pub const HOP: Survey = Survey(1);
    /// `Expect`.
    pub const EXPECT: Survey = Survey(1 << 1);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Survey = Survey(1 << 2);
    /// `traceparent`, `tracestate` or B3.
    pub const TRACE: Survey = Survey(1 << 3);
    /// `baggage`.
    pub const BAGGAGE: Survey = Survey(1 << 4);
    /// Any field of MCP.
    pub const MCP: Survey = Survey(1 << 5);
    /// A digest, a signature, or credentials that may hold one.
    pub const SIGNED: Survey = Survey(1 << 6);
    /// `Content-Encoding`.
    pub const CONTENT_ENCODING: Survey = Survey(1 << 7);

    /// Looks at the names of a head.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut seen = 0;
        for name in headers.keys() {
            let name = name.as_str();
            // The first byte tells most names apart.
            let field = match name.as_bytes()[0] {
                b'c' | b'u' if matches!(name, "connection" | "upgrade") => Survey::HOP,
                b'c' if name == "content-encoding" => Survey::CONTENT_ENCODING,
                b'c' if matches!(name, "content-digest" | "content-md5") => Survey::SIGNED,
                b'e' if name == "expect" => Survey::EXPECT,
                b't' if name == "transfer-encoding" => Survey::TRANSFER_ENCODING,
                b't' if matches!(name, "traceparent" | "tracestate") => Survey::TRACE,
                b'b' if name == "baggage" => Survey::BAGGAGE,
                b'b' if name == "b3" => Survey::TRACE,
                b'm' if name.starts_with("mcp-") => Survey::MCP,
                b'x' if name.starts_with("x-b3-") => Survey::TRACE,
                b'a' if name == "authorization" => Survey::SIGNED,
                b'd' | b'r' | b's' | b'x' if is_signature(name) => Survey::SIGNED,
                _ => continue,
            };
            seen |= field.0;
        }
        Survey(seen)
    }

    /// Whether one of these is there.
    pub fn has(self, fields: Survey) -> bool {
        self.0 & fields.0 != 0
    }
}

fn is_signature(name: &str) -> bool {
    matches!(name, "digest" | "repr-digest" | "signature-input" | "x-amz-content-sha256")
}

/// Refuses what different servers would read differently (RFC 9112, 3.2): an
/// HTTP/1.1 request without exactly one valid `Host`.
pub fn check<B>(request: &Request<B>, survey: Survey) -> Result<(), ProxyError> {
    if survey.has(Survey::TRANSFER_ENCODING) {
        check_coding(request.headers())?;
    }
    let uri = request.uri();
    if uri.authority().is_some() && uri.scheme().is_none() && request.method() != Method::CONNECT {
        return Err(ProxyError::BadRequest("the target is not a path"));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) if request.version() == Version::HTTP_2 => match request.uri().authority() {
            Some(_) => Ok(()),
            None => Err(ProxyError::BadRequest("no :authority and no Host")),
        },
        (None, _) => Err(ProxyError::BadRequest("no Host header")),
        (Some(_), Some(_)) => Err(ProxyError::BadRequest("more than one Host header")),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(ProxyError::BadRequest("the Host header is not a host")),
    }
}

/// `chunked` is said once and nothing is left empty (RFC 9112, 6.1); hyper has
/// seen to it that it comes last.
fn check_coding(headers: &HeaderMap) -> Result<(), ProxyError> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = values.flat_map(|v| v.as_bytes().split(|b| *b == b',')).map(trim_ows);
    let (mut chunked, mut empty) = (0, false);
    for coding in codings {
        chunked += usize::from(coding.eq_ignore_ascii_case(b"chunked"));
        empty |= coding.is_empty();
    }
    if chunked == 1 && !empty {
        Ok(())
    } else {
        Err(ProxyError::BadRequest("Transfer-Encoding is ambiguous"))
    }
}

/// Refuses a target whose authority is another one than `Host` says: the
/// server might believe either (RFC 9112, 3.2.2 and 3.2.3; RFC 9113, 8.3.1).
pub fn check_agreement(head: &request::Parts) -> Result<(), ProxyError> {
    let (Some(authority), Some(host)) = (head.uri.authority(), head.headers.get(header::HOST)) else {
        return Ok(());
    };
    let named = authority.as_str().rsplit('@').next().unwrap_or_default();
    let plain = |text: &[u8]| text.strip_suffix(b":80").unwrap_or(text).to_ascii_lowercase();
    if plain(named.as_bytes()) == plain(host.as_bytes()) {
        Ok(())
    } else {
        Err(ProxyError::BadRequest("the target and the Host header name different servers"))
    }
}

/// Whether a `Host` value can be a host and port, or is empty, which RFC 9112
/// allows for targets without an authority.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b))
        && !value.contains(&b',')
}

/// What a request asks of its connection rather than of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// It wants to switch to another protocol after 101, or to a tunnel.
    pub upgrade: bool,
    /// It is a `CONNECT`, which any success turns into a tunnel.
    pub connect: bool,
    /// It waits for `100 Continue` before it sends its body.
    pub expect: bool,
}

/// Takes out of a request what was meant for this hop only.
pub fn leave_hop(headers: &mut HeaderMap, survey: Survey, version: Version, method: &Method) -> Asked {
    let connect = method == Method::CONNECT;
    if version == Version::HTTP_2 {
        return Asked { upgrade: connect, connect, expect: survey.has(Survey::EXPECT) };
    }
    if headers.contains_key(header::CONNECTION) || headers.contains_key(header::UPGRADE) {
        leave_connection(headers);
    }
    let expect =
        headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let upgrade = headers.contains_key(header::UPGRADE) && version == Version::HTTP_11;
    Asked { upgrade: upgrade || connect, connect, expect }
}

/// The same for a response. One with two framings leaves with the one that
/// counts (RFC 9112, 6.3), and a tunnel has none at all (RFC 9110, 9.3.6).
pub fn leave_hop_of_response(headers: &mut HeaderMap, tunnel: bool) {
    if tunnel {
        remove(headers, &[header::CONTENT_LENGTH, header::TRANSFER_ENCODING]);
    } else if headers.contains_key(header::TRANSFER_ENCODING) {
        remove(headers, &[header::CONTENT_LENGTH]);
    }
    if headers.contains_key(header::CONNECTION) {
        leave_connection(headers);
    }
}

/// Removes the fields that `Connection` names. `close`, `keep-alive` and
/// `upgrade` stay, because each downstream connection has one upstream
/// connection to which they apply just as well; `h2c` goes, because an
/// upgraded connection could not be read.
fn leave_connection(headers: &mut HeaderMap) {
    let h2c = headers.get_all(header::UPGRADE).iter().any(|v| lists(v, |t| t.eq_ignore_ascii_case(b"h2c")));
    let simple = !h2c
        && headers.get_all(header::CONNECTION).iter().all(|v| {
            lists_only(v, |t| {
                [&b"close"[..], b"keep-alive", b"upgrade", b"te"].iter().any(|k| t.eq_ignore_ascii_case(k))
            })
        });
    if simple {
        return;
    }
    let named: Vec<Vec<u8>> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|v| tokens(v).map(<[u8]>::to_ascii_lowercase))
        .filter(|token| !KEPT.iter().any(|name| name.as_str().as_bytes() == token))
        .collect();
    let upgrade: Vec<&HeaderValue> = headers.get_all(header::UPGRADE).iter().collect();
    let upgrade = join(upgrade.iter().flat_map(|v| tokens(v)).filter(|t| !t.eq_ignore_ascii_case(b"h2c")));
    let options = join(named.iter().map(Vec::as_slice).filter(|token| match *token {
        b"close" | b"keep-alive" => true,
        b"upgrade" => upgrade.is_some(),
        _ => false,
    }));
    let keep = |name: &HeaderName| {
        *name != HTTP2_SETTINGS
            && (*name == header::UPGRADE
                || *name == header::CONNECTION
                || *name == KEEP_ALIVE
                || !named.iter().any(|token| token == name.as_str().as_bytes()))
    };
    rebuild(headers, keep, |name| {
        if *name == header::CONNECTION {
            Some(options.clone())
        } else if *name == header::UPGRADE {
            Some(upgrade.clone())
        } else {
            None
        }
    });
}

/// The length that the head of an HTTP/1 response names in one field.
pub fn only_length(head: &response::Parts) -> Option<u64> {
    if head.version == Version::HTTP_2 {
        return None;
    }
    let mut values = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok()?.trim().parse().ok() }
}

/// Takes out what a client says to a forward proxy alone (RFC 9110, 11.7).
pub fn leave_proxy(headers: &mut HeaderMap) {
    let ours = [header::PROXY_AUTHORIZATION, PROXY_CONNECTION];
    if ours.iter().any(|name| headers.contains_key(name)) {
        rebuild(headers, |name| !ours.contains(name), |_| None);
    }
}

/// Removes fields without disturbing the order of the others.
pub fn remove(headers: &mut HeaderMap, names: &[HeaderName]) {
    if names.iter().any(|name| headers.contains_key(name)) {
        rebuild(headers, |name| !names.contains(name), |_| None);
    }
}

/// Copies the map without the names that are not kept. `replace` may give a
/// name one new value, or none, in place of all its values.
fn rebuild(
    headers: &mut HeaderMap,
    keep: impl Fn(&HeaderName) -> bool,
    replace: impl Fn(&HeaderName) -> Option<Option<HeaderValue>>,
) {
    let old = std::mem::take(headers);
    headers.reserve(old.len());
    for name in old.keys() {
        match replace(name) {
            _ if !keep(name) => {}
            Some(value) => {
                if let Some(value) = value {
                    headers.insert(name.clone(), value);
                }
            }
            None => {
                for value in old.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(trim_ows).filter(|t| !t.is_empty())
}

fn lists(value: &HeaderValue, wanted: impl Fn(&[u8]) -> bool) -> bool {
    tokens(value).any(wanted)
}

fn lists_only(value: &HeaderValue, allowed: impl Fn(&[u8]) -> bool) -> bool {
    tokens(value).all(allowed)
}

fn join<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let tokens: Vec<&[u8]> = tokens.collect();
    if tokens.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&tokens.join(&b", "[..])).ok()
}

/// Reads the context that the headers carry, in the formats that are on. Two
/// `traceparent` fields contradict each other and count as none.
pub fn extract(headers: &HeaderMap, formats: Formats) -> Option<TraceContext> {
    if formats.tracecontext
        && let Some(context) = extract_w3c(headers)
    {
        return Some(context);
    }
    if formats.b3 || formats.b3multi { extract_b3(headers, formats) } else { None }
}

fn extract_w3c(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let parent = Traceparent::parse(trim_ows(value.as_bytes()))?;
    let tracestate = match headers.contains_key(TRACESTATE) {
        true => Tracestate::parse(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes)),
        false => None,
    };
    Some(TraceContext { parent, tracestate })
}

fn extract_b3(headers: &HeaderMap, formats: Formats) -> Option<TraceContext> {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let single = if formats.b3 { value(b3::B3).and_then(b3::extract_single) } else { None };
    let multi = || {
        let found =
            b3::extract_multi(value(b3::TRACE_ID), value(b3::SPAN_ID), value(b3::SAMPLED), value(b3::FLAGS));
        if formats.b3multi { found } else { None }
    };
    let context = single.or_else(multi)?;
    // A caller that leaves the decision open is taken at its word that the
    // trace is worth having: it went to the trouble of naming one.
    let flags = if context.sampled == Some(false) { TraceFlags::NOT_SAMPLED } else { Traceparent::SAMPLED };
    let parent = Traceparent { trace_id: context.trace_id?, span_id: context.span_id?, flags };
    Some(TraceContext { parent, tracestate: None })
}

/// Reads the baggage that the headers carry.
pub fn extract_baggage(headers: &HeaderMap, formats: Formats) -> Option<Baggage> {
    if !formats.baggage || !headers.contains_key(BAGGAGE) {
        return None;
    }
    Baggage::parse(headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes))
}

/// Writes a context in the formats that are on, replacing what was there.
pub fn inject(headers: &mut HeaderMap, formats: Formats, context: &Outgoing) {
    if formats.tracecontext {
        set(headers, TRACEPARENT, context.traceparent().as_bytes());
        if context.tracestate.is_empty() {
            remove(headers, &[TRACESTATE]);
        } else {
            set(headers, TRACESTATE, context.tracestate.as_bytes());
        }
    }
    if formats.b3 || formats.b3multi {
        inject_b3(headers, formats, &context.parent);
    }
}

fn inject_b3(headers: &mut HeaderMap, formats: Formats, parent: &Traceparent) {
    let context = b3::B3Context {
        trace_id: Some(parent.trace_id),
        span_id: Some(parent.span_id),
        sampled: Some(parent.is_sampled()),
        debug: false,
    };
    if formats.b3 {
        let mut text = Vec::with_capacity(b3::MAX_SINGLE_BYTES);
        context.encode_single(&mut text);
        set(headers, HeaderName::from_static(b3::B3), &text);
    }
    if formats.b3multi {
        // They would speak of the caller's parent, and of a wish that the
        // decision already took in.
        remove(headers, &[b3::PARENT_SPAN_ID, b3::FLAGS].map(HeaderName::from_static));
        let fields = context.encode_multi();
        let values = [
            (b3::TRACE_ID, fields.trace_id.as_ref().map(<[u8; 32]>::as_slice)),
            (b3::SPAN_ID, fields.span_id.as_ref().map(<[u8; 16]>::as_slice)),
            (b3::SAMPLED, fields.sampled.as_ref().map(<[u8; 1]>::as_slice)),
        ];
        for (name, value) in values {
            set(headers, HeaderName::from_static(name), value.unwrap_or_default());
        }
    }
}

/// Removes trace context in every format.
pub fn strip(headers: &mut HeaderMap) {
    let b3 = [b3::B3, b3::TRACE_ID, b3::SPAN_ID, b3::PARENT_SPAN_ID, b3::SAMPLED, b3::FLAGS];
    let b3 = b3.map(HeaderName::from_static);
    remove(headers, &[TRACEPARENT, TRACESTATE]);
    remove(headers, &b3);
}

/// Writes baggage, replacing what was there. Fields that say the same already
/// keep their spelling.
pub fn inject_baggage(headers: &mut HeaderMap, baggage: &Baggage) {
    let there = Baggage::parse(headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes));
    if there.as_ref() != Some(baggage) {
        set(headers, BAGGAGE, baggage.as_str().as_bytes());
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn list(headers: &HeaderMap) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect()
    }

    fn leave(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut headers = map(fields);
        let survey = Survey::of(&headers);
        leave_hop(&mut headers, survey, Version::HTTP_11, &Method::POST);
        list(&headers)
    }

    #[test]
    fn connection_takes_what_it_names_and_the_order_stays() {
        let left = leave(&[
            ("host", "a"),
            ("connection", "close, x-private, traceparent, content-length"),
            ("x-private", "1"),
            ("a", "1"),
            ("traceparent", "t"),
            ("b", "2"),
            ("content-length", "3"),
            ("a", "3"),
        ]);
        let names: Vec<_> = left.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            names,
            ["host=a", "connection=close", "a=1", "a=3", "traceparent=t", "b=2", "content-length=3"]
        );
    }

    #[test]
    fn the_usual_values_are_left_byte_for_byte() {
        for value in ["keep-alive", "Keep-Alive", "close", "Upgrade", "TE, close"] {
            let fields = [("host", "a"), ("connection", value), ("upgrade", "websocket")];
            assert_eq!(leave(&fields), list(&map(&fields)), "{value}");
        }
    }

    #[test]
    fn h2c_is_not_passed_on() {
        let left = leave(&[
            ("host", "a"),
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
        ]);
        assert_eq!(left, [("host".to_string(), "a".to_string())]);
        let left = leave(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "h2c, websocket")]);
        assert_eq!(left[2].1, "websocket");
        assert_eq!(left[1].1, "upgrade");
    }

    #[test]
    fn exactly_one_host_is_needed() {
        let request = |hosts: &[&str], version| {
            let mut request = Request::new(());
            *request.version_mut() = version;
            for host in hosts {
                request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            check(&request, Survey::of(request.headers())).is_ok()
        };
        assert!(request(&["a:80"], Version::HTTP_11));
        assert!(request(&["[::1]:80"], Version::HTTP_11));
        assert!(request(&[""], Version::HTTP_11));
        assert!(!request(&[], Version::HTTP_11));
        assert!(request(&[], Version::HTTP_10));
        for bad in ["a b", "a/b", "a@b", "a, b", "a\tb", "a?b"] {
            assert!(!request(&[bad], Version::HTTP_11), "{bad}");
        }
        assert!(!request(&["a", "a"], Version::HTTP_11));
        assert!(!request(&["a", "b"], Version::HTTP_10));
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn two_parents_are_none() {
        let formats = Formats::default();
        assert!(extract(&map(&[("traceparent", PARENT)]), formats).is_some());
        assert!(extract(&map(&[("traceparent", PARENT), ("traceparent", PARENT)]), formats).is_none());
        assert!(extract(&map(&[("tracestate", "a=1")]), formats).is_none());
        assert!(extract(&map(&[("traceparent", PARENT)]), Formats::NONE).is_none());
    }

    #[test]
    fn states_of_several_fields_are_joined() {
        let headers = map(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let context = extract(&headers, Formats::default()).unwrap();
        assert_eq!(context.tracestate.unwrap().as_str().replace(' ', ""), "a=1,b=2");
        let headers = map(&[("baggage", "a=1"), ("baggage", "b=2;p")]);
        let baggage = extract_baggage(&headers, Formats::default()).unwrap();
        assert_eq!(baggage.members().count(), 2);
    }

    #[test]
    fn injection_replaces_and_never_leaves_a_stale_state() {
        let mut headers = map(&[("tracestate", "old=1"), ("x", "1"), ("traceparent", "bad"), ("y", "2")]);
        let parent = Traceparent::parse(PARENT.as_bytes()).unwrap();
        inject(&mut headers, Formats::default(), &Outgoing::new(parent, "".to_owned()));
        let names: Vec<_> = list(&headers).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["x", "traceparent", "y"]);
        inject(&mut headers, Formats::default(), &Outgoing::new(parent, "mt=1".to_owned()));
        assert_eq!(headers.get(TRACESTATE).unwrap(), "mt=1");
    }

    #[test]
    fn b3_is_read_and_written_when_asked_for() {
        let b3 = Formats { b3: true, b3multi: true, ..Formats::NONE };
        let mut headers = HeaderMap::new();
        let parent = Traceparent::parse(PARENT.as_bytes()).unwrap();
        inject(&mut headers, b3, &Outgoing::new(parent, "mt=1".to_owned()));
        assert!(!headers.contains_key(TRACEPARENT));
        assert!(headers.contains_key("x-b3-traceid"));
        let single = Formats { b3multi: false, ..b3 };
        let multi = Formats { b3: false, ..b3 };
        for formats in [single, multi] {
            let context = extract(&headers, formats).unwrap();
            assert_eq!(context.parent.span_id, parent.span_id);
            assert!(context.parent.is_sampled());
        }
    }
}
