//! Where a request goes: the application behind an inbound listener, the
//! server of a base URL, or whatever a forward-proxy request names.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme, Uri};
use http::{Method, Version, request};

use super::error::ProxyError;
use super::hop;
use super::settings::{Authority, Inbound, Outbound};

/// The direction of a listener, seen from the pod.
#[derive(Clone, Debug)]
pub enum Route {
    /// Inbound: everything goes to the application.
    Inbound(Arc<Authority>),
    /// Outbound to one server, with the path of its base URL.
    Base(Arc<Authority>, String),
    /// Outbound to whatever the request names.
    Forward,
}

impl Route {
    /// The route of an inbound listener.
    pub fn inbound(inbound: &Inbound) -> Self {
        Route::Inbound(Arc::new(inbound.app.clone()))
    }

    /// The route of an outbound listener.
    pub fn outbound(outbound: &Outbound) -> Self {
        match &outbound.target {
            Some(base) => Route::Base(Arc::new(base.authority.clone()), base.prefix.clone()),
            None => Route::Forward,
        }
    }

    /// Whether requests come from the pod's own application.
    pub fn is_outbound(&self) -> bool {
        !matches!(self, Route::Inbound(_))
    }

    /// Whether all requests go to one place, so that the close of its
    /// connection is worth passing on.
    pub fn is_fixed(&self) -> bool {
        !matches!(self, Route::Forward)
    }

    /// Whether a `CONNECT` is for this proxy to carry out.
    pub fn tunnels(&self) -> bool {
        matches!(self, Route::Forward)
    }

    /// Finds the target and gives the request the form that it has to have
    /// there. What the client said to a forward proxy alone is taken out.
    pub fn target(&self, head: &mut request::Parts) -> Result<Arc<Authority>, ProxyError> {
        if self.is_fixed() || head.version == Version::HTTP_2 {
            hop::check_agreement(head)?;
        }
        match self {
            Route::Inbound(app) => Ok(Arc::clone(app)),
            Route::Base(server, path) => {
                prefix(head, path)?;
                Ok(Arc::clone(server))
            }
            Route::Forward => {
                hop::leave_proxy(&mut head.headers);
                named(head).map(Arc::new)
            }
        }
    }
}

/// Puts the path of the base URL in front of the request's.
fn prefix(head: &mut request::Parts, prefix: &str) -> Result<(), ProxyError> {
    if prefix.is_empty() || head.method == Method::CONNECT {
        return Ok(());
    }
    let path = format!("{prefix}{}", head.uri.path_and_query().map_or("/", PathAndQuery::as_str));
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = path.parse().ok();
    head.uri = Uri::from_parts(parts).map_err(|_| ProxyError::BadRequest("the path is not valid"))?;
    Ok(())
}

/// Absolute form, as `HTTP_PROXY` makes clients send; else routed by `Host`.
fn named(head: &mut request::Parts) -> Result<Authority, ProxyError> {
    if head.method == Method::CONNECT {
        let authority = head.uri.authority().ok_or(ProxyError::BadRequest("CONNECT names no host"))?;
        return match authority.port_u16() {
            Some(port) if port != 0 => Ok(split(authority, port)),
            _ => Err(ProxyError::BadRequest("CONNECT names no port")),
        };
    }
    if let Some(scheme) = head.uri.scheme() {
        if *scheme == Scheme::HTTPS {
            return Err(ProxyError::BadRequest(
                "https goes through CONNECT, not through an absolute-form target",
            ));
        }
        if *scheme != Scheme::HTTP {
            return Err(ProxyError::BadRequest("only http targets are proxied"));
        }
        let authority =
            head.uri.authority().cloned().ok_or(ProxyError::BadRequest("the target names no host"))?;
        let target = with_port(&authority)?;
        if head.version != Version::HTTP_2 {
            to_origin_form(head, &authority);
        }
        return Ok(target);
    }
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority: UriAuthority =
        host.parse().map_err(|_| ProxyError::BadRequest("neither the target nor Host names a server"))?;
    with_port(&authority)
}

/// The server of an `http` authority: port 80 unless it names another, and
/// nothing where what it names is no port.
fn with_port(authority: &UriAuthority) -> Result<Authority, ProxyError> {
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let named = host.strip_prefix(authority.host()).unwrap_or_default();
    match (named, authority.port_u16()) {
        ("" | ":", None) => Ok(split(authority, 80)),
        (_, Some(port)) if port != 0 => Ok(split(authority, port)),
        _ => Err(ProxyError::BadRequest("the port of the target is not a port")),
    }
}

/// RFC 9112, 3.2.2: the target decides, and `Host` has to agree with it.
fn to_origin_form(head: &mut request::Parts, authority: &UriAuthority) {
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = None;
    parts.authority = None;
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    head.uri = Uri::from_parts(parts).unwrap_or_default();
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let agrees =
        head.headers.get(header::HOST).is_some_and(|h| h.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
    if !agrees && let Ok(host) = HeaderValue::from_str(host) {
        head.headers.insert(header::HOST, host);
    }
}

fn split(authority: &UriAuthority, port: u16) -> Authority {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Authority { host: host.to_owned(), port }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, uri: &str, host: Option<&str>) -> request::Parts {
        let mut builder = Request::builder().method(method).uri(uri);
        if let Some(host) = host {
            builder = builder.header(header::HOST, host);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn forward_requests_find_their_target_and_lose_the_absolute_form() {
        let cases = [
            ("GET", "http://a.example/x?y", Some("b"), "a.example:80", "/x?y", "a.example"),
            ("GET", "http://a.example:81", Some("a.example:81"), "a.example:81", "/", "a.example:81"),
            ("GET", "/x", Some("a.example:8080"), "a.example:8080", "/x", "a.example:8080"),
            ("GET", "http://[::1]:9/", None, "[::1]:9", "/", "[::1]:9"),
            (
                "CONNECT",
                "a.example:443",
                Some("a.example:443"),
                "a.example:443",
                "a.example:443",
                "a.example:443",
            ),
        ];
        for (method, uri, host, target, path, host_after) in cases {
            let mut head = head(method, uri, host);
            assert_eq!(Route::Forward.target(&mut head).unwrap().to_string(), target, "{uri}");
            assert_eq!(head.uri.to_string(), path, "{uri}");
            assert_eq!(head.headers[header::HOST], host_after, "{uri}");
        }
    }

    #[test]
    fn forward_requests_that_name_nothing_are_refused() {
        for (method, uri, host) in [
            ("GET", "/x", None),
            ("GET", "/x", Some("a b")),
            ("GET", "https://a.example/", Some("a.example")),
            ("GET", "ftp://a.example/", Some("a.example")),
            ("CONNECT", "a.example", Some("a.example")),
        ] {
            assert!(Route::Forward.target(&mut head(method, uri, host)).is_err(), "{method} {uri}");
        }
    }

    #[test]
    fn a_base_url_puts_its_path_in_front_and_leaves_host_alone() {
        let base = |prefix: &str| {
            let server = Authority { host: "weather".into(), port: 8000 };
            Route::Base(Arc::new(server), prefix.into())
        };
        let mut request = head("POST", "/mcp?x=1", Some("localhost:14001"));
        assert_eq!(base("/v1").target(&mut request).unwrap().to_string(), "weather:8000");
        assert_eq!(request.uri, "/v1/mcp?x=1");
        assert_eq!(request.headers[header::HOST], "localhost:14001");
        let mut request = head("POST", "/mcp", Some("localhost:14001"));
        base("").target(&mut request).unwrap();
        assert_eq!(request.uri, "/mcp");
    }
}
