//! Where a request goes: the application behind an inbound listener, the
//! server of a base URL, or whatever a forward-proxy request names.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme, Uri};
use http::{Method, Version, request};

use super::error::ProxyError;
use super::hop;
use super::settings::{Authority, Inbound, Originate, Outbound, Target};
use crate::net::tls::Acceptor;

/// The direction of a listener, seen from the pod.
#[derive(Clone, Debug)]
pub enum Route {
    /// Inbound: everything goes to the application. Clients speak TLS to the
    /// listener where it has somebody to answer it.
    Inbound(Arc<Target>, Option<Arc<Acceptor>>),
    /// Outbound to one server, with the path of its base URL.
    Base(Arc<Target>, String),
    /// Outbound to whatever the request names.
    Forward,
    /// Redirected, in this direction (`true` is outbound): everything goes to
    /// where the connection was meant to go.
    Original(Arc<Target>, bool),
}

impl Route {
    /// The route of an inbound listener. `acceptor` is for those that are secure.
    pub fn inbound(inbound: &Inbound, acceptor: Option<&Arc<Acceptor>>) -> Self {
        let app = Target { server: inbound.app.clone(), secure: false };
        Route::Inbound(Arc::new(app), acceptor.filter(|_| inbound.secure).cloned())
    }

    /// The route of an outbound listener.
    pub fn outbound(outbound: &Outbound) -> Self {
        match &outbound.target {
            Some(base) => {
                let target = Target { server: base.authority.clone(), secure: base.secure };
                Route::Base(Arc::new(target), base.prefix.clone())
            }
            None => Route::Forward,
        }
    }

    /// Whether requests come from the pod's own application.
    pub fn is_outbound(&self) -> bool {
        !matches!(self, Route::Inbound(..) | Route::Original(_, false))
    }

    /// Who answers the TLS of its clients, if they speak any.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        match self {
            Route::Inbound(_, acceptor) => acceptor.as_deref(),
            _ => None,
        }
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
    /// `originate` says which targets that the request names are spoken to in TLS.
    pub fn target(
        &self,
        head: &mut request::Parts,
        originate: &[Originate],
    ) -> Result<Arc<Target>, ProxyError> {
        if self.is_fixed() || head.version == Version::HTTP_2 {
            hop::check_agreement(head)?;
        }
        match self {
            Route::Inbound(target, _) => Ok(Arc::clone(target)),
            Route::Original(target, _) if originate.is_empty() => Ok(Arc::clone(target)),
            Route::Original(target, _) => {
                let secure = self.named(head).map(|server| originated(head, server, originate));
                let secure = secure.transpose()?.filter(|named| named.secure);
                Ok(secure.map_or_else(|| Arc::clone(target), Arc::new))
            }
            Route::Base(server, path) => {
                prefix(head, path)?;
                if server.secure {
                    address(head, &server.server)?;
                }
                Ok(Arc::clone(server))
            }
            Route::Forward => {
                hop::leave_proxy(&mut head.headers);
                let server = named(head)?;
                originated(head, server, originate).map(Arc::new)
            }
        }
    }

    /// Whether the connection was meant for somebody else than this proxy.
    pub fn is_redirected(&self) -> bool {
        matches!(self, Route::Original(..))
    }

    /// The server as the application calls it, where its calls are redirected
    /// and only the request knows a name. It decides nothing about the way.
    pub fn named(&self, head: &request::Parts) -> Option<Authority> {
        let Route::Original(target, true) = self else { return None };
        let host = || head.headers.get(header::HOST)?.to_str().ok()?.parse().ok();
        let authority = head.uri.authority().cloned().or_else(host)?;
        let named = split(&authority, authority.port_u16().unwrap_or(target.server.port));
        (!named.host.is_empty()).then_some(named)
    }
}

/// The server as it is spoken to: in TLS if the list says so, and the request
/// is then addressed to it.
fn originated(
    head: &mut request::Parts,
    mut server: Authority,
    originate: &[Originate],
) -> Result<Target, ProxyError> {
    let port = originate.iter().find_map(|rule| rule.port_for(&server));
    let port = port.filter(|_| head.method != Method::CONNECT);
    if let Some(port) = port {
        server.port = port;
        address(head, &server)?;
    }
    Ok(Target { server, secure: port.is_some() })
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

/// Names the server as a client would that speaks TLS to it: servers choose by
/// that name, and refuse one that they do not know (RFC 9110, 7.4).
fn address(head: &mut request::Parts, server: &Authority) -> Result<(), ProxyError> {
    if head.method == Method::CONNECT {
        return Ok(());
    }
    let named = |text: &str| {
        let named: UriAuthority = text.parse().ok()?;
        Some(split(&named, named.port_u16().unwrap_or(443)))
    };
    let is_server = |text: &str| named(text).is_some_and(|named| named == *server);
    let name = server.to_string();
    let name = name.strip_suffix(":443").unwrap_or(&name);
    let invalid = |_| ProxyError::BadRequest("the target is not a server name");
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if host.map_or(head.version != Version::HTTP_2, |host| !is_server(host)) {
        let value = HeaderValue::from_str(name).map_err(|_| ProxyError::BadRequest("no valid name"))?;
        head.headers.insert(header::HOST, value);
    }
    if head.version == Version::HTTP_2 {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        if !parts.authority.as_ref().is_some_and(|authority| is_server(authority.as_str())) {
            parts.authority = Some(name.parse().map_err(invalid)?);
        }
        parts.scheme = Some(Scheme::HTTPS);
        head.uri = Uri::from_parts(parts).map_err(|_| ProxyError::BadRequest("the path is not valid"))?;
    }
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
    use crate::trace::glob::Glob;

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
            assert_eq!(Route::Forward.target(&mut head, &[]).unwrap().to_string(), target, "{uri}");
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
            assert!(Route::Forward.target(&mut head(method, uri, host), &[]).is_err(), "{method} {uri}");
        }
    }

    #[test]
    fn hosts_on_the_list_are_spoken_to_in_tls_under_the_name_that_they_know() {
        let rule = |host: &str, port| Originate { host: Glob::new(host), port };
        let rules = [rule("API.example", None), rule("*.corp.example", Some(8443))];
        let cases = [
            ("http://api.example/x", "api.example:443", true, "api.example"),
            ("http://api.example:80/x", "api.example:443", true, "api.example"),
            ("http://api.example:443/x", "api.example:443", true, "api.example:443"),
            ("http://api.example:8080/x", "api.example:8080", false, "api.example:8080"),
            ("http://a.corp.example/x", "a.corp.example:8443", true, "a.corp.example:8443"),
            ("http://a.corp.example:8443/x", "a.corp.example:8443", true, "a.corp.example:8443"),
            ("http://a.corp.example:443/x", "a.corp.example:443", false, "a.corp.example:443"),
            ("http://other.example/x", "other.example:80", false, "other.example"),
        ];
        for (uri, server, secure, host) in cases {
            let mut head = head("GET", uri, None);
            let target = Route::Forward.target(&mut head, &rules).unwrap();
            assert_eq!((target.to_string().as_str(), target.secure), (server, secure), "{uri}");
            assert_eq!(head.headers[header::HOST], host, "{uri}");
            assert_eq!(head.uri, "/x");
        }
        let mut connect = head("CONNECT", "api.example:443", Some("api.example:443"));
        assert!(!Route::Forward.target(&mut connect, &rules).unwrap().secure, "that TLS is the agent's");
    }

    #[test]
    fn redirected_calls_to_hosts_on_the_list_are_spoken_to_in_tls_too() {
        let rules = [Originate { host: Glob::new("api.example"), port: None }];
        let to = |port, outbound| {
            let server = Authority { host: "192.0.2.1".into(), port };
            Route::Original(Arc::new(Target { server, secure: false }), outbound)
        };
        let cases = [
            (to(80, true), "api.example", "api.example:443"),
            (to(443, true), "api.example:443", "api.example:443"),
            (to(8080, true), "api.example:8080", "192.0.2.1:8080"),
            (to(80, true), "other.example", "192.0.2.1:80"),
            (to(80, false), "api.example", "192.0.2.1:80"),
        ];
        for (route, host, target) in cases {
            let mut head = head("GET", "/x", Some(host));
            let found = route.target(&mut head, &rules).unwrap();
            assert_eq!(found.to_string(), target, "{host}");
            assert_eq!(found.secure, target.starts_with("api."), "{host}");
            assert_eq!(head.headers[header::HOST], host);
            assert!(!route.target(&mut head, &[]).unwrap().secure, "{host}");
        }
    }

    #[test]
    fn over_http2_the_scheme_and_authority_become_those_of_the_server() {
        let server = Authority { host: "weather".into(), port: 8443 };
        let base = Route::Base(Arc::new(Target { server, secure: true }), "/v1".into());
        let mut request = head("POST", "http://localhost:14001/mcp", None);
        request.version = Version::HTTP_2;
        base.target(&mut request, &[]).unwrap();
        assert_eq!(request.uri, "https://weather:8443/v1/mcp");
        assert!(!request.headers.contains_key(header::HOST), "none was there");
    }

    #[test]
    fn a_base_url_puts_its_path_in_front_and_leaves_host_alone() {
        let base = |prefix: &str| {
            let server = Authority { host: "weather".into(), port: 8000 };
            Route::Base(Arc::new(Target { server, secure: false }), prefix.into())
        };
        let mut request = head("POST", "/mcp?x=1", Some("localhost:14001"));
        assert_eq!(base("/v1").target(&mut request, &[]).unwrap().to_string(), "weather:8000");
        assert_eq!(request.uri, "/v1/mcp?x=1");
        assert_eq!(request.headers[header::HOST], "localhost:14001");
        let mut request = head("POST", "/mcp", Some("localhost:14001"));
        base("").target(&mut request, &[]).unwrap();
        assert_eq!(request.uri, "/mcp");
    }
}
