//! The grammar of single values: what an annotation of ours may say.

use std::net::{IpAddr, Ipv6Addr};

use crate::admission::ports::Ports;
use crate::export::endpoint::Endpoint;

/// The most characters of a wrong value that a message repeats.
const SHOWN: usize = 60;

/// The most networks in one list.
const MAX_CIDRS: usize = 64;

/// The value in quotes, on one line and shortened.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Networks with commas between them, IPv4 and IPv6.
pub(super) fn cidrs(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let list = text.split(',').map(|part| cidr(part.trim())).collect::<Option<Vec<_>>>()?;
    (list.len() <= MAX_CIDRS).then_some(list)
}

fn cidr(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = digits.then(|| length.parse().ok())??;
    (length <= most).then(|| format!("{address}/{length}"))
}

/// The most hosts in one list, which is what the sidecar goes through for each call.
const MAX_HOSTS: usize = 64;

/// Hosts with commas between them, as `--tls-originate` of the sidecar takes them, which would not start with others.
pub(super) fn hosts(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let host = |text: &str| is_host(text).then(|| text.to_owned());
    let list = text.split(',').map(|part| host(part.trim())).collect::<Option<Vec<_>>>()?;
    (list.len() <= MAX_HOSTS).then_some(list)
}

/// A name, an address or a pattern of `*` and `?`; then, but for IPv6 addresses, a port.
fn is_host(text: &str) -> bool {
    let is_name =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*?".contains(&byte));
    let (host, port) = match text.split_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => return true,
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_port =
        |text: &str| Ports::parse(text).is_some_and(|ports| ports.len() == 1 && !text.contains('-'));
    (1..=253).contains(&host.len()) && is_name(host) && port.is_none_or(is_port)
}

/// `auto` is `None`.
pub(super) fn tristate(text: &str) -> Option<Option<bool>> {
    match text {
        "auto" => Some(None),
        "true" => Some(Some(true)),
        "false" => Some(Some(false)),
        _ => None,
    }
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_control)
}

/// A collector's URL. `$(HOST_IP)` is the one variable that may stand in it, because the sidecar has it.
pub(super) fn is_endpoint(text: &str) -> bool {
    let concrete = text.replace("$(HOST_IP)", "192.0.2.1");
    let scheme = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    scheme && text.len() <= 1_024 && !concrete.contains('$') && Endpoint::http_base(&concrete).is_ok()
}

pub(super) fn is_sampler(text: &str) -> bool {
    let root = text.strip_prefix("parentbased_").unwrap_or(text);
    matches!(root, "always_on" | "always_off" | "traceidratio")
}

pub(super) fn is_ratio(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain && text.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio))
}

pub(super) fn is_propagators(text: &str) -> bool {
    let known = |name: &str| matches!(name.trim(), "tracecontext" | "baggage" | "b3" | "b3multi");
    text == "none" || text.split(',').all(known)
}

pub(super) fn is_level(text: &str) -> bool {
    matches!(text, "off" | "error" | "warn" | "info" | "debug" | "trace")
}

/// The characters of image references; the kubelet knows the whole grammar.
pub(super) fn is_image(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    (1..=512).contains(&text.len())
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_normalised() {
        assert_eq!(cidrs("10.0.0.0/8,FD00::/8").unwrap(), ["10.0.0.0/8", "fd00::/8"]);
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/8,", "a/8"]
        {
            assert_eq!(cidrs(bad), None, "{bad}");
        }
        assert!(cidrs(&vec!["10.0.0.0/8"; MAX_CIDRS].join(",")).is_some());
        assert!(cidrs(&vec!["10.0.0.0/8"; MAX_CIDRS + 1].join(",")).is_none());
    }

    #[test]
    fn hosts_are_those_that_the_sidecar_takes() {
        assert_eq!(
            hosts("a.example:8443 , *.b,10.1.2.3,fd00::1").unwrap(),
            ["a.example:8443", "*.b", "10.1.2.3", "fd00::1"]
        );
        for bad in [
            "a,",
            "http://a",
            "a:0",
            "a:70000",
            "a:1-2",
            "a:",
            ":443",
            "a/b",
            "a b",
            "$(A)",
            "[::1]:443",
            "a:b:c",
            "ä",
        ] {
            assert_eq!(hosts(bad), None, "{bad}");
        }
        assert!(hosts(&vec!["a"; MAX_HOSTS].join(",")).is_some());
        assert!(hosts(&vec!["a"; MAX_HOSTS + 1].join(",")).is_none());
    }

    #[test]
    fn no_variable_but_the_nodes_address_gets_into_a_url() {
        for (text, expect) in [
            ("http://collector:4318", true),
            ("https://$(HOST_IP):4318/otlp", true),
            ("http://$(POD_IP):4318", false),
            ("http://$$", false),
            ("ftp://collector", false),
            ("collector:4318", false),
        ] {
            assert_eq!(is_endpoint(text), expect, "{text}");
        }
    }

    #[test]
    fn quoted_values_are_short_and_on_one_line() {
        let shown = quote(&"x\n".repeat(1_000));
        assert!(shown.len() < 2 * SHOWN + 8 && !shown.contains('\n'), "{shown}");
    }
}
