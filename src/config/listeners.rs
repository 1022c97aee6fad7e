//! Where the proxy listens: flags and variables become listeners, and the
//! combinations that cannot work are refused before anything is bound.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::capture::{self, OfProxy};
use super::error::{Error, Expected, Origin, quote};
use super::{Environment, Flags, value};
use crate::proxy::settings::{Authority, Inbound, Outbound, Redirected};

/// Where the admin port listens when nobody says otherwise: on every address
/// of both families.
pub const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 14020);

/// The listeners of one process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listeners {
    pub(crate) inbound: Vec<Inbound>,
    pub(crate) outbound: Vec<Outbound>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) capture: OfProxy,
}

/// Reads the listeners and checks them against each other.
pub(crate) fn load(flags: &Flags, env: Environment<'_>) -> Result<Listeners, Error> {
    let inbound = list("--inbound", &flags.inbound, "MESHTRACE_INBOUND", env, inbound)?;
    let outbound = list("--outbound", &flags.outbound, "MESHTRACE_OUTBOUND", env, outbound)?;
    let admin = admin(flags.admin.as_deref(), env)?;
    let capture = capture::of_proxy(flags, admin.map(|admin| admin.port()), env)?;
    if inbound.is_empty() && outbound.is_empty() && capture.redirected.is_none() {
        return Err(Error::new(
            Origin::Whole,
            "nothing to listen for: give --inbound LISTEN=APP (or MESHTRACE_INBOUND), \
             --outbound LISTEN[=URL] (or MESHTRACE_OUTBOUND), or both; or --redirected where \
             `meshtrace capture install` steers traffic here",
        ));
    }
    let listeners = Listeners { inbound, outbound, admin, capture };
    refuse_shared_addresses(&listeners)?;
    refuse_loops(&listeners)?;
    Ok(listeners)
}

/// The admin address by flag, variable or default; `off` is none.
pub(crate) fn admin(flag: Option<&str>, env: Environment<'_>) -> Result<Option<SocketAddr>, Error> {
    let variable = env("MESHTRACE_ADMIN").filter(|text| !text.trim().is_empty());
    let (origin, text) = match (flag, &variable) {
        (Some(text), _) => (Origin::Flag("--admin"), text),
        (None, Some(text)) => (Origin::Variable("MESHTRACE_ADMIN"), text.as_str()),
        (None, None) => return Ok(Some(DEFAULT_ADMIN)),
    };
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    value::listen(text)
        .map(Some)
        .map_err(|expected| Error::value(origin, text, &format!("{expected}, or off").into()))
}

/// A repeatable flag, or else its variable with commas between the values.
pub(super) fn list<T>(
    flag: &'static str,
    values: &[String],
    variable: &'static str,
    env: Environment<'_>,
    parse: fn(&str) -> Result<T, Expected>,
) -> Result<Vec<T>, Error> {
    let parse =
        |origin: Origin, text: &str| parse(text).map_err(|expected| Error::value(origin, text, &expected));
    if !values.is_empty() {
        return values.iter().map(|text| parse(Origin::Flag(flag), text.trim())).collect();
    }
    let text = env(variable).unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| parse(Origin::Variable(variable), text))
        .collect()
}

/// Whom to outlive: ports of this pod, which may be at the pod's address or at
/// loopback, or addresses.
pub(crate) fn stop_after(flags: &Flags, env: Environment<'_>) -> Result<Vec<SocketAddr>, Error> {
    let given = list("--stop-after", &flags.stop_after, "MESHTRACE_STOP_AFTER", env, port_or_address)?;
    let pod = env("POD_IP").and_then(|ip| ip.trim().parse::<IpAddr>().ok());
    let hosts = || [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), pod].into_iter().flatten();
    let all = given.into_iter().flat_map(|one| match one {
        PortOrAddress::Port(port) => hosts().map(|ip| SocketAddr::new(ip, port)).collect(),
        PortOrAddress::Address(address) => vec![address],
    });
    Ok(all.collect())
}

enum PortOrAddress {
    Port(u16),
    Address(SocketAddr),
}

fn port_or_address(text: &str) -> Result<PortOrAddress, Expected> {
    let port = text.parse::<u16>().ok().filter(|port| *port != 0).map(PortOrAddress::Port);
    let address = text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0).map(PortOrAddress::Address);
    let expected = "a port of this pod, or an address with its port, such as 8080 or 127.0.0.1:8080";
    port.or(address).ok_or_else(|| expected.into())
}

/// `LISTEN=APP` or `https://LISTEN=APP`
fn inbound(text: &str) -> Result<Inbound, Expected> {
    let (listen, app) = text.split_once('=').ok_or("LISTEN=APP, such as 0.0.0.0:8000=127.0.0.1:8080")?;
    let (listen, secure) = match listen.split_once("://") {
        Some((scheme, listen)) if scheme.eq_ignore_ascii_case("https") => (listen, true),
        Some(_) => return Err("nothing or https:// before the address to listen on".into()),
        None => (listen, false),
    };
    // Kubernetes writes `$(POD_IP):8080` without brackets for IPv6 too.
    let bare = app.rsplit_once(':').filter(|(host, _)| host.parse::<std::net::Ipv6Addr>().is_ok());
    let app = bare.map_or(Cow::Borrowed(app), |(host, port)| format!("[{host}]:{port}").into());
    let app = value::authority(&app).map_err(|expected| format!("{expected}, after the ="))?;
    Ok(Inbound { listen: value::listen(listen)?, secure, app })
}

/// `LISTEN` or `LISTEN=URL`
fn outbound(text: &str) -> Result<Outbound, Expected> {
    let (listen, target) = match text.split_once('=') {
        Some((listen, target)) => {
            let target = value::base_url(target).map_err(|expected| format!("{expected}, after the ="))?;
            (listen, Some(target))
        }
        None => (text, None),
    };
    Ok(Outbound { listen: value::listen(listen)?, target })
}

/// Listener sockets are opened with `SO_REUSEPORT`, one for each worker, so the
/// kernel would not refuse two listeners on one address: it would deal their
/// connections out at random.
fn refuse_shared_addresses(listeners: &Listeners) -> Result<(), Error> {
    let inbound = listeners.inbound.iter().map(|l| ("--inbound", l.listen));
    let outbound = listeners.outbound.iter().map(|l| ("--outbound", l.listen));
    let admin = listeners.admin.iter().map(|listen| ("--admin", *listen));
    let redirected = listeners.capture.redirected.iter().flat_map(Redirected::addresses);
    let admin = admin.chain(redirected.map(|listen| ("--redirected", listen)));
    let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
    for (flag, listen) in inbound.chain(outbound).chain(admin) {
        // Port 0 asks for a free port, a different one each time.
        if let Some((other, _)) = seen.iter().find(|(_, s)| *s == listen && listen.port() != 0) {
            return Err(Error::new(
                Origin::Whole,
                format!("{listen} is given twice, by {other} and {flag}: each needs its own port"),
            ));
        }
        seen.push((flag, listen));
    }
    Ok(())
}

/// A listener that forwards to itself would go round for ever.
fn refuse_loops(listeners: &Listeners) -> Result<(), Error> {
    let inbound = listeners.inbound.iter().map(|l| ("--inbound", l.listen, Some(&l.app)));
    let outbound =
        listeners.outbound.iter().map(|l| ("--outbound", l.listen, l.target.as_ref().map(|t| &t.authority)));
    for (flag, listen, target) in inbound.chain(outbound) {
        if let Some(target) = target.filter(|target| reaches(target, listen)) {
            let text = quote(&format!("{listen}={target}"));
            return Err(Error::new(
                Origin::Whole,
                format!("{flag} {text}: it would forward to itself; the target needs another port"),
            ));
        }
    }
    Ok(())
}

/// Whether connecting to the target certainly ends at this listener.
fn reaches(target: &Authority, listen: SocketAddr) -> bool {
    let loopback = target.host.eq_ignore_ascii_case("localhost")
        || target.ip().is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let same_family = target.ip().is_none_or(|ip| ip.is_ipv4() == listen.is_ipv4());
    let on_loopback = match listen.ip() {
        // A listener on `[::]` takes IPv4 connections too.
        ip if ip.is_unspecified() => listen.is_ipv6() || same_family,
        ip => ip.is_loopback() && target.ip().is_none_or(|target| target == ip),
    };
    target.port == listen.port() && (target.ip() == Some(listen.ip()) || (loopback && on_loopback))
}
