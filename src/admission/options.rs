//! What can be said about one injection. A pod says it by annotation, the installation sets its defaults in the same
//! words, and both are read here: strictly, because a guess would change what a pod does.

use crate::admission::ports::Ports;
use crate::admission::quantity::Quantity;
use crate::admission::value;

/// The prefix of every annotation and label of ours.
pub const PREFIX: &str = "meshtrace.io/";

/// Ports that are not captured outbound when nobody names others: the collector's, protocols in which the server
/// speaks first, and TLS, which passes unread anyway.
pub const SKIP_OUTBOUND: &str = "25,443,587,3306,4317,4318,4444,5432,6379,6443,9300,11211";

/// How traffic reaches the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// `explicit` where the namespace enforces a Pod Security level that forbids capabilities, else `redirect`.
    Auto,
    /// Kernel rules, installed by an init container with `NET_ADMIN`.
    Redirect,
    /// The named ports move to the sidecar, and `HTTP_PROXY` names it. Needs no privilege.
    Explicit,
    /// The sidecar is added, and nothing leads to it by itself.
    None,
}

impl Capture {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Capture::Auto => "auto",
            Capture::Redirect => "redirect",
            Capture::Explicit => "explicit",
            Capture::None => "none",
        }
    }
}

/// What becomes of `tcpSocket` probes of captured ports, which would succeed with nobody listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMode {
    /// They ask the sidecar, which connects to the port itself.
    RewriteTcp,
    /// They stay as they are.
    None,
}

/// Which user the sidecar runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// This one.
    Fixed(u32),
    /// The one that the cluster gives to containers that name none, as OpenShift does.
    Cluster,
}

/// CPU and memory of the sidecar; what is `None` is left out of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The CPU that is reserved.
    pub cpu_request: Option<Quantity>,
    /// The CPU that it is throttled to.
    pub cpu_limit: Option<Quantity>,
    /// The memory that is reserved.
    pub memory_request: Option<Quantity>,
    /// The memory that it is ended at.
    pub memory_limit: Option<Quantity>,
}

/// Everything that can be said, with a value for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How traffic reaches the sidecar.
    pub capture: Capture,
    /// Ports that are captured inbound; `None` is the declared ones.
    pub inbound_ports: Option<InboundPorts>,
    /// Ports that are not captured inbound.
    pub skip_inbound_ports: Ports,
    /// Ports that are not captured outbound.
    pub skip_outbound_ports: Ports,
    /// Networks that are not captured outbound.
    pub skip_outbound_cidrs: Vec<String>,
    /// Ports that are captured when they are called over loopback inside the pod.
    pub capture_loopback_ports: Ports,
    /// Ports that are captured and passed on unread.
    pub opaque_ports: Ports,
    /// Hosts that the sidecar speaks TLS to although the application says `http`.
    pub egress_tls_origination: Vec<String>,
    /// `service.name`; `None` is the workload's name.
    pub service_name: Option<String>,
    /// The collector; `None` leaves it to the sidecar's default.
    pub otlp_endpoint: Option<String>,
    /// `OTEL_TRACES_SAMPLER`.
    pub sampler: Option<String>,
    /// `OTEL_TRACES_SAMPLER_ARG`.
    pub sampler_arg: Option<String>,
    /// `OTEL_PROPAGATORS`.
    pub propagators: Option<String>,
    /// `OTEL_LOG_LEVEL`.
    pub log_level: Option<String>,
    /// The image of every container of ours.
    pub proxy_image: String,
    /// Which user the sidecar runs as; `None` is the installation's.
    pub proxy_uid: Option<User>,
    /// What the sidecar may use.
    pub resources: Resources,
    /// Whether the sidecar is an init container that stays; `None` decides by the version of Kubernetes.
    pub native_sidecar: Option<bool>,
    /// What becomes of `tcpSocket` probes.
    pub probe_mode: ProbeMode,
    /// Whether agents get the files by which they hand context on.
    pub propagation: bool,
}

/// Which ports are captured inbound, if not the declared ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundPorts {
    /// All of them.
    All,
    /// These.
    Only(Ports),
}

/// A value that cannot be used, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PREFIX}{key} {value}: expected {expected}")]
pub struct Invalid {
    /// The name, without the prefix.
    pub key: String,
    /// The value, quoted and shortened.
    pub value: String,
    /// What is allowed.
    pub expected: &'static str,
}

impl Options {
    /// The defaults for an image.
    pub fn new(proxy_image: impl Into<String>) -> Self {
        Options {
            capture: Capture::Auto,
            inbound_ports: None,
            skip_inbound_ports: Ports::default(),
            skip_outbound_ports: Ports::parse(SKIP_OUTBOUND).unwrap_or_default(),
            skip_outbound_cidrs: Vec::new(),
            capture_loopback_ports: Ports::default(),
            opaque_ports: Ports::default(),
            egress_tls_origination: Vec::new(),
            service_name: None,
            otlp_endpoint: None,
            sampler: None,
            sampler_arg: None,
            propagators: None,
            log_level: None,
            proxy_image: proxy_image.into(),
            proxy_uid: None,
            resources: Resources {
                cpu_request: Quantity::cpu("10m"),
                cpu_limit: None,
                memory_request: Quantity::memory("32Mi"),
                memory_limit: Quantity::memory("256Mi"),
            },
            native_sidecar: None,
            probe_mode: ProbeMode::RewriteTcp,
            propagation: true,
        }
    }

    /// Sets one option by the name of its annotation, without the prefix. Returns whether there is such an option.
    ///
    /// # Errors
    /// When the value is not one that the option takes. Nothing has changed then.
    pub fn set(&mut self, key: &str, text: &str) -> Result<bool, Invalid> {
        let text = text.trim();
        let invalid = |expected| Invalid { key: key.to_owned(), value: value::quote(text), expected };
        let ports = || Ports::parse(text).ok_or_else(|| invalid(PORTS));
        let cpu = || optional(text, Quantity::cpu).ok_or_else(|| invalid(CPU));
        let memory = || optional(text, Quantity::memory).ok_or_else(|| invalid(MEMORY));
        let word = |taken: fn(&str) -> bool, expected| {
            if taken(text) { Ok(Some(text.to_owned())) } else { Err(invalid(expected)) }
        };
        match key {
            "capture" => self.capture = capture(text).ok_or_else(|| invalid(CAPTURE))?,
            "inbound-ports" => self.inbound_ports = Some(inbound(text).ok_or_else(|| invalid(INBOUND))?),
            "skip-inbound-ports" => self.skip_inbound_ports = ports()?,
            "skip-outbound-ports" => self.skip_outbound_ports = ports()?,
            "skip-outbound-cidrs" => {
                self.skip_outbound_cidrs = value::cidrs(text).ok_or_else(|| invalid(CIDRS))?;
            }
            "capture-loopback-ports" => self.capture_loopback_ports = ports()?,
            "opaque-ports" => self.opaque_ports = ports()?,
            "egress-tls-origination" => {
                self.egress_tls_origination = value::hosts(text).ok_or_else(|| invalid(HOSTS))?;
            }
            "service-name" => self.service_name = word(value::is_name, NAME)?,
            "otlp-endpoint" => self.otlp_endpoint = word(value::is_endpoint, ENDPOINT)?,
            "sampler" => self.sampler = word(value::is_sampler, SAMPLER)?,
            "sampler-arg" => self.sampler_arg = word(value::is_ratio, "a number from 0 to 1")?,
            "propagators" => self.propagators = word(value::is_propagators, PROPAGATORS)?,
            "log-level" => self.log_level = word(value::is_level, LEVEL)?,
            "proxy-image" => {
                self.proxy_image = word(value::is_image, "an image reference")?.unwrap_or_default();
            }
            "proxy-uid" => self.proxy_uid = Some(user(text).ok_or_else(|| invalid(USER))?),
            "proxy-cpu-request" => self.resources.cpu_request = cpu()?,
            "proxy-cpu-limit" => self.resources.cpu_limit = cpu()?,
            "proxy-memory-request" => self.resources.memory_request = memory()?,
            "proxy-memory-limit" => self.resources.memory_limit = memory()?,
            "native-sidecar" => {
                self.native_sidecar = value::tristate(text).ok_or_else(|| invalid("auto, true or false"))?;
            }
            "probe-mode" => self.probe_mode = probe_mode(text).ok_or_else(|| invalid(PROBES))?,
            "propagation" => self.propagation = switch(text).ok_or_else(|| invalid("on or off"))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// When a request is above its limit, which the API server would refuse the whole pod for.
    pub fn check(&self) -> Result<(), Invalid> {
        let Resources { cpu_request, cpu_limit, memory_request, memory_limit } = &self.resources;
        let pairs = [
            ("proxy-cpu-limit", cpu_request, cpu_limit),
            ("proxy-memory-limit", memory_request, memory_limit),
        ];
        for (key, request, limit) in pairs {
            if let (Some(request), Some(limit)) = (request, limit)
                && request > limit
            {
                let value = value::quote(&limit.to_string());
                return Err(Invalid { key: key.to_owned(), value, expected: "no less than the request" });
            }
        }
        Ok(())
    }
}

const PORTS: &str = "ports and ranges from 1 to 65535 with commas between, such as 8080,9000-9010";
const INBOUND: &str = "ports and ranges with commas between, such as 8080,9000-9010, or *";
const CIDRS: &str = "networks with commas between, such as 10.0.0.0/8,fd00::/8";
const CAPTURE: &str = "auto, redirect, explicit or none";
const PROBES: &str = "rewrite-tcp or none";
const CPU: &str = "an amount of CPU such as 100m or 0.5, or nothing";
const MEMORY: &str = "an amount of memory such as 64Mi, or nothing";
const USER: &str = "the number of a user from 1 to 4294967294, or cluster";
const HOSTS: &str = "hosts with commas between, such as api.example.com,*.example.org:8443";
const NAME: &str = "1 to 255 characters, none of them a control character";
const ENDPOINT: &str = "an http:// or https:// URL; $(HOST_IP) may stand for the node's address";
const SAMPLER: &str = "always_on, always_off, traceidratio, or one of these after parentbased_";
const PROPAGATORS: &str = "a list of tracecontext, baggage, b3 and b3multi, or none";
const LEVEL: &str = "off, error, warn, info, debug or trace";

/// An empty text says that there shall be no value.
fn optional<T>(text: &str, parse: fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).map(Some) }
}

fn capture(text: &str) -> Option<Capture> {
    [Capture::Auto, Capture::Redirect, Capture::Explicit, Capture::None]
        .into_iter()
        .find(|c| c.as_str() == text)
}

fn inbound(text: &str) -> Option<InboundPorts> {
    match text {
        "*" => Some(InboundPorts::All),
        "" => None,
        _ => Ports::parse(text).map(InboundPorts::Only),
    }
}

/// Neither root nor the largest number, which means no change.
fn user(text: &str) -> Option<User> {
    if text == "cluster" {
        return Some(User::Cluster);
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|uid| (1..u32::MAX).contains(uid)).map(User::Fixed)
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn probe_mode(text: &str) -> Option<ProbeMode> {
    match text {
        "rewrite-tcp" => Some(ProbeMode::RewriteTcp),
        "none" => Some(ProbeMode::None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, text: &str) -> Result<Options, Invalid> {
        let mut options = Options::new("meshtrace:1");
        assert!(options.set(key, text)?, "{key} is not known");
        Ok(options)
    }

    #[test]
    fn every_option_takes_its_values_and_nothing_else() {
        let cases = [
            ("capture", "redirect", "Redirect"),
            ("inbound-ports", "*", ""),
            ("inbound-ports", "80,90-99", "80;90"),
            ("skip-inbound-ports", "", "http"),
            ("skip-outbound-ports", "5432", "5432 6379"),
            ("skip-outbound-cidrs", "10.0.0.0/8, fd00::/8", "10.0.0.0/33"),
            ("capture-loopback-ports", "8080", "*"),
            ("opaque-ports", "9000-9010", "9010-9000"),
            ("egress-tls-origination", "api.example.com, *.example.org:8443", "https://api.example.com"),
            ("egress-tls-origination", "", "$(SECRET)"),
            ("service-name", "Wetter & Co", "a\nb"),
            ("otlp-endpoint", "http://$(HOST_IP):4318", "http://$(SECRET):4318"),
            ("otlp-endpoint", "https://collector.example", "collector:4317"),
            ("sampler", "parentbased_traceidratio", "jaeger_remote"),
            ("sampler-arg", "0.25", "25%"),
            ("propagators", "tracecontext,b3", "xray"),
            ("log-level", "debug", "verbose"),
            ("proxy-image", "registry:5000/meshtrace@sha256:0a", "meshtrace; rm -rf"),
            ("proxy-uid", "1000659999", "0"),
            ("proxy-uid", "cluster", "4294967295"),
            ("proxy-cpu-request", "10m", "10 m"),
            ("proxy-cpu-limit", "", "none"),
            ("proxy-memory-request", "64Mi", "64MB"),
            ("proxy-memory-limit", "1Gi", "-1"),
            ("native-sidecar", "auto", "yes"),
            ("probe-mode", "none", "off"),
            ("propagation", "off", "false"),
        ];
        for (key, good, bad) in cases {
            assert!(set(key, good).is_ok(), "{key} {good}");
            let error = set(key, bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("meshtrace.io/{key} ")), "{error}");
            assert!(error.contains(": expected "), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_apart_from_a_bad_value() {
        let mut options = Options::new("meshtrace:1");
        assert_eq!(options.set("skip-outbound-port", "80"), Ok(false));
        assert_eq!(options, Options::new("meshtrace:1"));
    }

    #[test]
    fn a_request_above_its_limit_is_refused_here_and_not_by_the_api_server() {
        let options = set("proxy-memory-request", "1Gi").unwrap();
        let error = options.check().unwrap_err().to_string();
        assert_eq!(error, "meshtrace.io/proxy-memory-limit \"256Mi\": expected no less than the request");
        assert!(Options::new("meshtrace:1").check().is_ok());
    }
}
