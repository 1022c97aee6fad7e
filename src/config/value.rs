//! One parser for each kind of value, the same for flags, variables and the
//! file. A parser that refuses a text says what it would have taken.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Expected;
use crate::capture::rules::{MAX_LIST, Network, Ports};
use crate::net::tls::Identity;
use crate::proxy::settings::{Authority, BaseUrl, Originate};
use crate::trace::glob::Glob;

const SIZES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

const MILLISECOND: u64 = 1_000_000;
const TIMES: [(&str, u64); 6] = [
    ("ms", MILLISECOND),
    ("us", 1_000),
    ("ns", 1),
    ("s", 1_000 * MILLISECOND),
    ("m", 60_000 * MILLISECOND),
    ("h", 3_600_000 * MILLISECOND),
];

/// `true` or `false`, in any case.
pub(crate) fn boolean(text: &str) -> Result<bool, Expected> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("true or false".into()),
    }
}

/// A whole number within the range.
pub(crate) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, Expected> {
    digits(text)
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()).into())
}

/// A share: `50%`, `0.5 %`, `0.25`.
pub(crate) fn share(text: &str) -> Result<f64, Expected> {
    let share = match text.strip_suffix('%') {
        Some(percent) => decimal(percent.trim_end()).map(|percent| percent / 100.0),
        None => decimal(text),
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share from 0% to 100%, such as 100%, 0.5% or 0.005".into())
}

/// A number of traces each second, more than none.
pub(crate) fn rate(text: &str) -> Result<f64, Expected> {
    decimal(text)
        .filter(|rate| (0.001..=1_000_000.0).contains(rate))
        .ok_or_else(|| "a number of traces each second from 0.001 to 1000000".into())
}

/// Digits with at most one point: no sign, no exponent.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok())?
}

/// A number of bytes: `1MiB`, `64KiB`, `1MB`, or a plain number.
pub(crate) fn size(text: &str, range: RangeInclusive<usize>) -> Result<usize, Expected> {
    let bytes = match SIZES.iter().find(|(unit, _)| text.ends_with(unit)) {
        Some((unit, scale)) => scaled(text, unit, *scale),
        None => digits(text),
    };
    bytes.and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n)).ok_or_else(|| {
        let (least, most) = (show_size(*range.start()), show_size(*range.end()));
        format!("a size from {least} to {most}, such as 64KiB, 1MiB or 1MB").into()
    })
}

/// A time with its unit: `500ms`, `5s`, `1h`.
pub(crate) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Expected> {
    TIMES
        .iter()
        .find(|(unit, _)| text.ends_with(unit))
        .and_then(|(unit, scale)| scaled(text, unit, *scale))
        .map(Duration::from_nanos)
        .filter(|time| range.contains(time))
        .ok_or_else(|| {
            let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
            format!("a time from {least} to {most} with its unit, such as 500ms, 5s or 1h").into()
        })
}

/// The number before the unit, times what the unit stands for.
fn scaled(text: &str, unit: &str, scale: u64) -> Option<u64> {
    digits(text.strip_suffix(unit)?.trim_end())?.checked_mul(scale)
}

/// Only digits: no sign, no point, no `_`, nothing empty.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A size in the largest unit that divides it.
pub(crate) fn show_size(bytes: usize) -> String {
    let bytes = bytes as u64;
    match SIZES[..3].iter().find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale)) {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

/// A time in the largest unit that divides it.
pub(crate) fn show_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let mut units = TIMES;
    units.sort_by_key(|(_, scale)| std::cmp::Reverse(*scale));
    match units.iter().find(|(_, scale)| nanos != 0 && nanos.is_multiple_of(u128::from(*scale))) {
        Some((unit, scale)) => format!("{}{unit}", nanos / u128::from(*scale)),
        None => "0s".to_owned(),
    }
}

/// An address to bind: `0.0.0.0:8000`, `[::]:8000`.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Expected> {
    text.parse().map_err(|_| "an address to listen on, such as 0.0.0.0:8000 or [::]:8000".into())
}

/// A host and its port: `127.0.0.1:8080`, `[::1]:8080`, `app:8080`.
pub(crate) fn authority(text: &str) -> Result<Authority, Expected> {
    host_port(text, None).ok_or_else(|| "a host with its port, such as 127.0.0.1:8080".into())
}

/// A TCP port.
pub(crate) fn port(text: &str) -> Result<u16, Expected> {
    digits(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| "a port from 1 to 65535".into())
}

/// The number of a user other than root.
pub(crate) fn uid(text: &str) -> Result<u32, Expected> {
    // The largest number means "no change" to the kernel.
    digits(text)
        .and_then(|uid| u32::try_from(uid).ok())
        .filter(|uid| (1..u32::MAX).contains(uid))
        .ok_or_else(|| "the number of a user, from 1 to 4294967294".into())
}

/// Ports and ranges of ports: `8080,9000-9010`; `none` is no port.
pub(crate) fn ports(text: &str) -> Result<Ports, Expected> {
    let one = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (port(from.trim()).ok()?, port(to.trim()).ok()?);
        (from <= to).then_some(from..=to)
    };
    list(text, one)
        .ok_or_else(|| format!("at most {MAX_LIST} ports and ranges, such as 8080,9000-9010, or none").into())
}

/// Networks and single addresses: `10.0.0.0/8,fd00::/8`; `none` is nowhere.
pub(crate) fn networks(text: &str) -> Result<Vec<Network>, Expected> {
    let one = |text: &str| {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix =
            prefix.map_or(Some(whole), |prefix| digits(prefix).and_then(|p| u8::try_from(p).ok()))?;
        Network::new(address, prefix)
    };
    list(text, one)
        .ok_or_else(|| format!("at most {MAX_LIST} networks, such as 10.0.0.0/8,fd00::/8, or none").into())
}

fn list<T>(text: &str, one: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if text.eq_ignore_ascii_case("none") {
        return Some(Vec::new());
    }
    let items: Vec<T> = text.split(',').map(|item| one(item.trim())).collect::<Option<_>>()?;
    (items.len() <= MAX_LIST).then_some(items)
}

/// The base of a URL: `http://host`, `https://host:8443/prefix`.
pub(crate) fn base_url(text: &str) -> Result<BaseUrl, Expected> {
    let expected = || "an http:// or https:// URL with a host, and no user, query or fragment".into();
    let Some((scheme, rest)) = text.split_once("://") else { return Err(expected()) };
    let secure = scheme.eq_ignore_ascii_case("https");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_path = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'<' | b'>');
    if !(secure || scheme.eq_ignore_ascii_case("http")) || !path.bytes().all(is_path) {
        return Err(expected());
    }
    let authority = host_port(host, Some(if secure { 443 } else { 80 })).ok_or_else(expected)?;
    Ok(BaseUrl { secure, authority, prefix: path.trim_end_matches('/').to_owned() })
}

/// The syntax of RFC 3986 section 3.2 without user information. Names are
/// restricted to what can be looked up.
fn host_port(text: &str, default_port: Option<u16>) -> Option<Authority> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("?") }))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => digits(port).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)?,
        None => default_port?,
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let valid = host.parse::<IpAddr>().is_ok()
        || (!host.is_empty() && host.len() <= 253 && host.bytes().all(is_name));
    valid.then(|| Authority { host: host.to_owned(), port })
}

/// A pattern for text that is not a host.
pub(crate) fn glob(text: &str) -> Result<Glob, Expected> {
    if text.is_empty() {
        return Err("a pattern, in which * stands for any text and ? for one character".into());
    }
    Ok(Glob::new(text))
}

/// A pattern for the path of a URL.
pub(crate) fn path_glob(text: &str) -> Result<Glob, Expected> {
    if !text.starts_with(['/', '*', '?']) || text.contains('#') {
        return Err("a path that starts with /, in which * stands for any text".into());
    }
    Ok(Glob::new(text))
}

/// Hosts to speak TLS to, with the port where they do: `api.example.com`,
/// `*.example.com:8443`.
pub(crate) fn originate(text: &str) -> Result<Originate, Expected> {
    let expected = || Expected::from("a host, with the port where it speaks TLS if that is not 443");
    let (host, port) = match text.rsplit_once(':') {
        // More colons are an IPv6 address, which has no port here.
        Some((host, port)) if !host.contains(':') => {
            let port = digits(port).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            (host, Some(port.ok_or_else(expected)?))
        }
        _ => (text, None),
    };
    Ok(Originate { host: host_glob(host).map_err(|_| expected())?, port })
}

/// The path of a file.
pub(crate) fn path(text: &str) -> Result<PathBuf, Expected> {
    if text.is_empty() { Err("the path of a file".into()) } else { Ok(PathBuf::from(text)) }
}

/// The files of a certificate and its key, with a comma between them.
pub(crate) fn identity(text: &str) -> Result<Identity, Expected> {
    let expected = || Expected::from("CERTIFICATE,KEY: two PEM files with a comma between them");
    let (certificate, key) = text.split_once(',').ok_or_else(expected)?;
    match (certificate.trim(), key.trim()) {
        ("", _) | (_, "") => Err(expected()),
        (certificate, key) => Ok(Identity { certificate: certificate.into(), key: key.into() }),
    }
}

/// A pattern for a host: a name or an address, without port and brackets.
pub(crate) fn host_glob(text: &str) -> Result<Glob, Expected> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._*?".contains(&b);
    let is_ipv6 = |b: u8| b.is_ascii_hexdigit() || b":.*?".contains(&b);
    // One colon alone would be a port, unless a pattern goes on after it.
    let colons = text.bytes().filter(|b| *b == b':').count();
    let open = text.ends_with(":*") && !text.contains('.');
    let ipv6 = (colons >= 2 || open) && text.bytes().all(is_ipv6);
    if text.is_empty() || !(ipv6 || text.bytes().all(is_name)) {
        return Err("a host without a port, such as *.example.com or 10.1.2.3".into());
    }
    Ok(Glob::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let size = |text| size(text, 1..=1 << 31).ok();
        assert_eq!(size("1MiB"), Some(1 << 20));
        assert_eq!(size("64 KiB"), Some(65_536));
        assert_eq!(size("1MB"), Some(1_000_000));
        assert_eq!(size("3kB"), Some(3_000));
        assert_eq!(size("2GiB"), Some(1 << 31));
        assert_eq!(size("17B"), Some(17));
        assert_eq!(size("17"), Some(17));
        let wrong = ["", "B", "-1", "+1", "1.5MiB", "1Mib", "MiB", "0", "3GiB", "1TiB"];
        for text in wrong.into_iter().chain(["99999999999999999999", "18446744073709551615GiB"]) {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn shares_and_rates_are_plain_numbers() {
        for (text, expect) in [("100%", 1.0), ("0%", 0.0), ("12.5 %", 0.125), ("0.25", 0.25), ("1", 1.0)] {
            assert_eq!(share(text).ok(), Some(expect), "{text}");
        }
        for text in ["", "%", "101%", "50", "-1%", "+1%", "1e-3", "NaN", "inf", "0.1.2", ".5", "1_0%", "ten"]
        {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!((rate("100").ok(), rate("0.5").ok()), (Some(100.0), Some(0.5)));
        for text in ["", "0", "-1", "1/s", "1000001", "1e3", "NaN"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        let day = Duration::from_secs(86_400);
        let duration = |text| duration(text, Duration::ZERO..=day).ok();
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3_600)));
        assert_eq!(duration("7 us"), Some(Duration::from_micros(7)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        for text in ["", "5", "s", "1.5s", "-1s", "25h", "1d", "1m30s", "99999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        let shown = [1, 1_000, 1_024, 65_536, 3 << 20, 0].map(show_size);
        assert_eq!(shown, ["1B", "1000B", "1KiB", "64KiB", "3MiB", "0B"]);
        let shown = [0, 5, 1_500, 60_000, 7_200_000].map(|ms| show_duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["0s", "5ms", "1500ms", "1m", "2h"]);
    }

    #[test]
    fn authorities_are_hosts_with_ports() {
        let show = |text| authority(text).ok().map(|a| a.to_string());
        for text in ["127.0.0.1:8080", "[::1]:80", "my_app.svc:1", "localhost:65535"] {
            assert_eq!(show(text).as_deref(), Some(text));
        }
        let wrong = ["", ":1", "a", "a:", "a:0", "a:65536", "::1:80", "[::1]", "[::1]80", "[a]:1"];
        for text in wrong.into_iter().chain(["a b:1", "u@h:1", "a:1:2", "[::1", "é:1", "a:+1"]) {
            assert_eq!(show(text), None, "{text}");
        }
    }

    #[test]
    fn ports_are_lists_with_ranges() {
        assert_eq!(ports("8080, 9000-9010").ok(), Some(vec![8080..=8080, 9000..=9010]));
        assert_eq!(ports("none").ok(), Some(vec![]));
        let many = |count: usize| vec!["1"; count].join(",");
        assert!(ports(&many(MAX_LIST)).is_ok());
        for text in ["", ",", "1,", "0", "65536", "2-1", "1-2-3", "-1", "a", "*", &many(MAX_LIST + 1)] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_addresses_with_prefixes() {
        let show =
            |text| networks(text).ok().map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(show("10.1.2.3/8, ::1").unwrap(), ["10.0.0.0/8", "::1"]);
        assert_eq!(show("none").unwrap(), [""; 0]);
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "example.com"] {
            assert_eq!(show(text), None, "{text}");
        }
    }

    #[test]
    fn users_are_numbers_and_not_root() {
        assert_eq!(uid("14100").ok(), Some(14100));
        for text in ["0", "root", "-1", "4294967295"] {
            assert!(uid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn base_urls_are_http_or_https() {
        let show = |text| base_url(text).ok().map(|u| u.to_string());
        assert_eq!(show("http://h").as_deref(), Some("http://h:80"));
        assert_eq!(show("HTTP://[::1]:90/").as_deref(), Some("http://[::1]:90"));
        assert_eq!(show("http://h:1/a/b/").as_deref(), Some("http://h:1/a/b"));
        let wrong = ["h:1", "http://", "http:///a", "http://u:p@h", "http://h?q", "ftp://h"];
        for text in wrong.into_iter().chain(["http://h/a?b", "http://h/#a", "http://h/a b", "//h"]) {
            assert_eq!(show(text), None, "{text}");
        }
        assert_eq!(show("https://h").as_deref(), Some("https://h:443"));
        assert_eq!(show("HTTPS://h:8443/v1").as_deref(), Some("https://h:8443/v1"));
    }

    #[test]
    fn hosts_to_originate_tls_to_may_name_a_port() {
        let show = |text| originate(text).ok().map(|o| o.to_string());
        for text in ["api.example.com", "*.example.com:8443", "10.1.2.3:443", "fd00::1", "*"] {
            assert_eq!(show(text).as_deref(), Some(text));
        }
        for text in ["", ":443", "a:0", "a:65536", "a:", "https://a", "a/b", "a b"] {
            assert_eq!(show(text), None, "{text}");
        }
    }

    #[test]
    fn an_identity_is_two_files() {
        let pair = identity("/a/tls.crt, /a/tls.key").unwrap();
        assert_eq!((pair.certificate, pair.key), ("/a/tls.crt".into(), "/a/tls.key".into()));
        for text in ["", "a", "a,", ",b", ","] {
            assert!(identity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_patterns_have_no_port() {
        for text in ["*", "*.example.com", "10.*", "fd00:*", "::1", "api-?.svc"] {
            assert!(host_glob(text).is_ok(), "{text}");
        }
        for text in ["", "a:80", "http://a", "10.0.0.0/8", "[::1]", "a b", "10.1.2.3:*"] {
            assert!(host_glob(text).is_err(), "{text}");
        }
    }
}
