//! What a message asks of its connection and not of the server: what is
//! refused because it is ambiguous, and the few fields that do not travel.
//!
//! Everything else is left where it is. `HeaderMap` keeps the order of names
//! only while nothing is removed from it, so a removal rebuilds the map.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, Version, request, response};

use super::error::ProxyError;
use super::headers::{BAGGAGE, Survey, TRACEPARENT, TRACESTATE};
use crate::w3c::trim_ows;

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
    let default = if head.uri.scheme() == Some(&Scheme::HTTPS) { &b":443"[..] } else { b":80" };
    let plain = |text: &[u8]| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    if plain(named.as_bytes()) == plain(host.as_bytes()) {
        Ok(())
    } else {
        Err(ProxyError::BadRequest("the target and the Host header name different servers"))
    }
}

/// Whether a `Host` value can be a host and port, or is empty, which RFC 9112
/// allows for targets without an authority.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|b| IN_HOSTS[usize::from(*b)])
}

/// The bytes of names, addresses and ports (RFC 3986, 3.2.2). A comma would be
/// one, but here it joins two values.
const IN_HOSTS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~%!$&'()*+;=:[]";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};

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
    if survey.has(Survey::HOP) {
        leave_connection(headers);
    }
    let expect = survey.has(Survey::EXPECT)
        && headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let upgrade =
        survey.has(Survey::HOP) && version == Version::HTTP_11 && headers.contains_key(header::UPGRADE);
    Asked { upgrade: upgrade || connect, connect, expect }
}

/// The same for a response. One with two framings leaves with the one that
/// counts (RFC 9112, 6.3), and a tunnel has none at all (RFC 9110, 9.3.6).
pub fn leave_hop_of_response(headers: &mut HeaderMap, survey: Survey, tunnel: bool) {
    if tunnel {
        remove(headers, &[header::CONTENT_LENGTH, header::TRANSFER_ENCODING]);
    } else if survey.has(Survey::TRANSFER_ENCODING) {
        remove(headers, &[header::CONTENT_LENGTH]);
    }
    if survey.has(Survey::HOP) {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::proxy) fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    pub(in crate::proxy) fn list(headers: &HeaderMap) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect()
    }

    #[test]
    fn the_default_port_of_the_scheme_changes_no_server() {
        let agree = |uri: &str, host: &str| {
            let request = Request::builder().uri(uri).header(header::HOST, host).body(()).unwrap();
            check_agreement(&request.into_parts().0).is_ok()
        };
        assert!(agree("http://a/", "A:80") && agree("https://a:443/", "a") && agree("https://a/", "a:443"));
        assert!(!agree("http://a/", "a:443") && !agree("https://a/", "a:80") && !agree("https://a/", "b"));
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
}
