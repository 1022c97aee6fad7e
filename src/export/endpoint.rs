//! Where spans are sent: the endpoint variables of the OTLP exporter specification, resolved to host, port and path.

use std::fmt::{self, Display};

use http::{HeaderValue, Uri, uri::PathAndQuery};

use crate::export::base64;
use crate::export::env::percent_decoded;
use crate::export::signal::Signal;

/// A collector's address. Shown without credentials and query, because both may be secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query of an HTTP request. gRPC has a path of its own and does not use it.
    pub path: PathAndQuery,
    /// The `Authorization` that user and password of the URL stand for.
    pub authorization: Option<HeaderValue>,
}

/// Why an endpoint cannot be used. Says nothing of its text, which may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EndpointError {
    /// There is no `http://` or `https://` in front.
    #[error("needs a scheme: http://host:port or https://host:port")]
    Scheme,
    /// It is not a URL.
    #[error("is not a URL of the form http://host:port/path")]
    Url,
}

impl Endpoint {
    /// An endpoint for all signals over HTTP, for traces: `v1/traces` is appended to its path.
    ///
    /// # Errors
    /// If it is not an absolute `http` or `https` URL.
    pub fn http_base(url: &str) -> Result<Self, EndpointError> {
        Self::http_base_of(url, Signal::Traces)
    }

    /// The same for any signal, each of which has a path of its own.
    ///
    /// # Errors
    /// If it is not an absolute `http` or `https` URL.
    pub fn http_base_of(url: &str, signal: Signal) -> Result<Self, EndpointError> {
        let mut endpoint = Self::http(url)?;
        let base = endpoint.path.path().trim_end_matches('/');
        let query = endpoint.path.query().map(|query| format!("?{query}")).unwrap_or_default();
        endpoint.path = PathAndQuery::try_from(format!("{base}/{}{query}", signal.path()))
            .map_err(|_| EndpointError::Url)?;
        Ok(endpoint)
    }

    /// An endpoint for one signal over HTTP: used as it is, with `/` if it has no path.
    ///
    /// # Errors
    /// If it is not an absolute `http` or `https` URL.
    pub fn http(url: &str) -> Result<Self, EndpointError> {
        let Some((scheme, _)) = url.split_once("://") else { return Err(EndpointError::Scheme) };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(EndpointError::Scheme),
        };
        let uri: Uri = url.parse().map_err(|_| EndpointError::Url)?;
        let authority = uri.authority().ok_or(EndpointError::Url)?;
        let (user, host_and_port) = match authority.as_str().rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, authority.as_str()),
        };
        // Read here and not by `port_u16`, which finds no port where there is one that is too large.
        let port = match host_and_port.strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':'))
        {
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().map_err(|_| EndpointError::Url)?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || port == 0 {
            return Err(EndpointError::Url);
        }
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { tls, host, port, path, authorization: user.and_then(basic_authorization) })
    }

    /// An endpoint of a gRPC receiver. Without a scheme it is TLS, unless `insecure`.
    ///
    /// # Errors
    /// If it is not a host and port with or without `http` or `https` in front.
    pub fn grpc(target: &str, insecure: bool) -> Result<Self, EndpointError> {
        if target.contains("://") {
            return Self::http(target);
        }
        let scheme = if insecure { "http" } else { "https" };
        Self::http(&format!("{scheme}://{target}"))
    }

    /// Host and port, as in a `Host` header.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        match (host.contains(':'), self.tls, port) {
            (false, false, 80) | (false, true, 443) => host.clone(),
            (false, ..) => format!("{host}:{port}"),
            (true, ..) => format!("[{host}]:{port}"),
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path.path())
    }
}

fn basic_authorization(user: &str) -> Option<HeaderValue> {
    let user = percent_decoded(user)?;
    let mut value = HeaderValue::try_from(format!("Basic {}", base64::encode(&user))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_resolve_as_specified() {
        for (url, shown) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://c.example/otlp/", "https://c.example/otlp/v1/traces"),
            ("HTTP://[::1]:4318/a", "http://[::1]:4318/a/v1/traces"),
            ("http://c:80", "http://c/v1/traces"),
        ] {
            assert_eq!(Endpoint::http_base(url).unwrap().to_string(), shown);
        }
        assert_eq!(Endpoint::http("http://c:1").unwrap().to_string(), "http://c:1/");
        assert_eq!(Endpoint::http("http://c:1/x?key=1").unwrap().path.as_str(), "/x?key=1");
        assert_eq!(Endpoint::http_base("http://c:1/x?key=1").unwrap().path.as_str(), "/x/v1/traces?key=1");
        assert_eq!(Endpoint::grpc("c:4317", false).unwrap().to_string(), "https://c:4317/");
        assert_eq!(Endpoint::grpc("c:4317", true).unwrap().to_string(), "http://c:4317/");
        assert_eq!(Endpoint::grpc("http://c:4317", false).unwrap().to_string(), "http://c:4317/");
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused() {
        for url in ["localhost:4318", "ftp://c", "c"] {
            assert_eq!(Endpoint::http(url), Err(EndpointError::Scheme), "{url}");
        }
        for url in [
            "http://",
            "http://c:99999",
            "http://c:x",
            "http://a b",
            "http:///v1",
            "http://c:0",
            "http://[::1",
        ] {
            assert_eq!(Endpoint::http(url), Err(EndpointError::Url), "{url}");
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let endpoint = Endpoint::http("http://me:p%40ss@c:1/x?key=hidden").unwrap();
        assert_eq!(endpoint.authorization.as_ref().unwrap(), "Basic bWU6cEBzcw==");
        assert_eq!(endpoint.to_string(), "http://c:1/x");
        assert_eq!(endpoint.authority(), "c:1");
    }
}
