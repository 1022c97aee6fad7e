//! The configuration file: YAML, in which an unknown key is an error.
//!
//! The shapes below hold every value as the text that stands in the file, with
//! its place, so that one parser per kind of value serves flags, variables and
//! the file alike and every refusal can point at line and column. `serde` and
//! `serde_saphyr` are known to this file only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::error::{Error, Expected, Origin};
use super::file_shape::{BaggageShape, FileShape, IdentityShape, InboundTlsShape, LimitsShape};
use super::file_shape::{PropagationShape, RuleShape};
use super::file_shape::{SpansShape, Text, TlsShape, ToShape};
use super::tls::Tls;
use super::value;
use super::{attributes, sampling};
use crate::capture::Ports;
use crate::net::tls::{Identity, ServerFiles};
use crate::proxy::settings::{Attributes, Destinations, IgnoreRule, Limits, Preference};
use crate::proxy::settings::{Propagation, SpanRules};
use crate::trace::links::Inference;
use crate::trace::rules::RuleConfig;
use crate::trace::sampler_config::{Keep, SamplerConfig, SamplingConfig};

/// The longest configuration file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The most baggage entries that can be set, and the most bytes of one name
/// and value together, so that ours alone never reach the limits of W3C
/// Baggage (64 entries, 8192 bytes).
const MAX_BAGGAGE: (usize, usize) = (32, 1024);

/// What the file decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) spans: SpanRules,
    pub(crate) attributes: Attributes,
    pub(crate) sampling: Sampling,
    pub(crate) propagation: Propagation,
    pub(crate) tls: Tls,
    pub(crate) limits: Limits,
    pub(crate) opaque_ports: Ports,
}

/// What the file says of sampling.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) rules: Vec<RuleConfig>,
    pub(crate) max_per_second: Option<f64>,
    pub(crate) keep: Option<Keep>,
}

impl Sampling {
    /// With what decides where no rule matches.
    pub(crate) fn under(self, fallback: SamplerConfig) -> SamplingConfig {
        let Sampling { rules, max_per_second, keep } = self;
        SamplingConfig { fallback, rules, max_per_second, keep }
    }
}

impl Settings {
    /// What holds without a file, for the agent of this name.
    pub(crate) fn for_service(service: &str) -> Self {
        Settings {
            spans: SpanRules::default(),
            attributes: Attributes::default(),
            sampling: Sampling::default(),
            propagation: Propagation::for_service(service),
            tls: Tls::default(),
            limits: Limits::default(),
            opaque_ports: Vec::new(),
        }
    }
}

/// Reads a whole file, up to [`MAX_FILE_BYTES`].
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let problem = |text: String| Error::new(Origin::file(path, None), text);
    let file = File::open(path).map_err(|error| problem(format!("cannot be opened: {error}")))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(problem(format!("is longer than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| problem("is not UTF-8 text".to_owned()))
}

/// Turns the text of a file into settings; what it does not say stays at its
/// default. `path` is named in errors and `service` stands for
/// `${service.name}`.
pub(crate) fn parse(path: &Path, text: &str, service: &str) -> Result<Settings, Error> {
    let reader = Reader { path, service };
    let mut settings = Settings::for_service(service);
    let shape = reader.shape(text)?;
    if let Some(spans) = &shape.spans {
        reader.spans(spans, &mut settings.spans)?;
    }
    if let Some(propagation) = &shape.propagation {
        reader.propagation(propagation, &mut settings.propagation)?;
    }
    if let Some(tls) = &shape.tls {
        reader.tls(tls, &mut settings.tls)?;
    }
    if let Some(attributes) = &shape.attributes {
        settings.attributes = attributes::read(&reader, attributes)?;
    }
    if let Some(sampling) = &shape.sampling {
        settings.sampling = sampling::read(&reader, sampling)?;
    }
    if let Some(limits) = &shape.limits {
        reader.limits(limits, &mut settings.limits)?;
    }
    reader.set("opaque_ports", &shape.opaque_ports, value::ports, &mut settings.opaque_ports)?;
    Ok(settings)
}

pub(super) struct Reader<'a> {
    path: &'a Path,
    service: &'a str,
}

impl Reader<'_> {
    fn spans(&self, shape: &SpansShape, spans: &mut SpanRules) -> Result<(), Error> {
        self.set("spans.http", &shape.http, value::boolean, &mut spans.http)?;
        let notifications = &mut spans.notifications;
        self.set("spans.notifications", &shape.notifications, value::boolean, notifications)?;
        self.set("spans.tls", &shape.tls, value::boolean, &mut spans.tls)?;
        if let Some(rules) = &shape.ignore {
            spans.ignore = rules.iter().map(|rule| self.rule(rule)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn rule(&self, shape: &Spanned<RuleShape>) -> Result<IgnoreRule, Error> {
        let RuleShape { path, user_agent, method, host, task_status } = &shape.value;
        let rule = IgnoreRule {
            path: self.optional("spans.ignore path", path, value::path_glob)?,
            user_agent: self.optional("spans.ignore user_agent", user_agent, value::glob)?,
            method: self.optional("spans.ignore method", method, value::glob)?,
            host: self.optional("spans.ignore host", host, value::host_glob)?,
            task_status: self.optional("spans.ignore task_status", task_status, value::glob)?,
        };
        if rule == IgnoreRule::default() {
            let problem =
                "spans.ignore: expected at least one of path, user_agent, method, host, task_status";
            return Err(Error::new(self.at(shape), problem));
        }
        Ok(rule)
    }

    fn propagation(&self, shape: &PropagationShape, to: &mut Propagation) -> Result<(), Error> {
        self.set("propagation.parent", &shape.parent, preference, &mut to.parent)?;
        let trust = &mut to.trust_inbound;
        self.set("propagation.trust_inbound", &shape.trust_inbound, value::boolean, trust)?;
        self.set("propagation.write_meta", &shape.write_meta, value::boolean, &mut to.write_meta)?;
        self.set("propagation.inference", &shape.inference, inference, &mut to.inference)?;
        if let Some(shape) = &shape.to {
            to.to = self.destinations(shape)?;
        }
        if let Some(BaggageShape { set: Some(entries) }) = &shape.baggage {
            to.baggage_set = self.baggage(entries)?;
        }
        Ok(())
    }

    fn tls(&self, shape: &TlsShape, tls: &mut Tls) -> Result<(), Error> {
        if let Some(inbound) = &shape.inbound {
            let InboundTlsShape { certificate, key, client_ca } = &inbound.value;
            let identity = self.identity("tls.inbound", inbound, certificate, key)?;
            let client_ca = self.optional("tls.inbound.client_ca", client_ca, value::path)?;
            tls.inbound = Some(ServerFiles { identity, client_ca });
        }
        for host in shape.originate.iter().flatten() {
            tls.originate.push(self.parse("tls.originate", host, value::originate)?);
        }
        tls.ca = self.optional("tls.ca", &shape.ca, value::path)?;
        if let Some(client) = &shape.client {
            let IdentityShape { certificate, key } = &client.value;
            tls.client = Some(self.identity("tls.client", client, certificate, key)?);
        }
        Ok(())
    }

    fn identity<T>(
        &self,
        name: &str,
        at: &Spanned<T>,
        certificate: &Text,
        key: &Text,
    ) -> Result<Identity, Error> {
        let certificate = self.optional(&format!("{name}.certificate"), certificate, value::path)?;
        let key = self.optional(&format!("{name}.key"), key, value::path)?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Identity { certificate, key }),
            _ => Err(Error::new(self.at(at), format!("{name}: expected certificate and key, both"))),
        }
    }

    fn destinations(&self, shape: &Spanned<ToShape>) -> Result<Destinations, Error> {
        match &shape.value {
            ToShape::Word(word) if word == "private" => Ok(Destinations::Private),
            ToShape::Word(word) if word == "all" => Ok(Destinations::All),
            ToShape::Word(word) => {
                let expected = "private, all, or a list of hosts in brackets".into();
                Err(self.wrong("propagation.to", shape, word, &expected))
            }
            ToShape::Hosts(hosts) => hosts
                .iter()
                .map(|host| self.parse("propagation.to", host, value::host_glob))
                .collect::<Result<_, _>>()
                .map(Destinations::Hosts),
        }
    }

    fn baggage(&self, entries: &BTreeMap<String, Spanned<String>>) -> Result<Vec<(String, String)>, Error> {
        let (max_entries, max_bytes) = MAX_BAGGAGE;
        let key = "propagation.baggage.set";
        let mut set = Vec::with_capacity(entries.len());
        for (name, text) in entries {
            if !is_token(name) {
                let expected = "a baggage name of letters, digits and -._~!#$%&'*+^`|".into();
                return Err(self.wrong(key, text, name, &expected));
            }
            let value = self.parse(key, text, |text| self.substitute(text))?;
            if set.len() == max_entries || name.len() + value.len() > max_bytes {
                let expected = format!(
                    "at most {max_entries} entries, each with at most {max_bytes} bytes of name and value"
                );
                return Err(self.wrong(key, text, name, &expected.into()));
            }
            set.push((name.clone(), value));
        }
        Ok(set)
    }

    /// Puts the service name where `${service.name}` stands.
    fn substitute(&self, text: &str) -> Result<String, Expected> {
        let known = "${service.name}";
        if text.replace(known, "").contains("${") {
            return Err(format!("{known}, the only thing that ${{…}} can stand for").into());
        }
        Ok(text.replace(known, self.service))
    }

    fn limits(&self, shape: &LimitsShape, limits: &mut Limits) -> Result<(), Error> {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        const ZERO: Duration = Duration::ZERO;
        const MS: Duration = Duration::from_millis(1);
        const S: Duration = Duration::from_secs(1);
        const HOUR: Duration = Duration::from_secs(3_600);
        let l = limits;
        self.size("body_bytes", &shape.body_bytes, 0..=64 * MIB, &mut l.max_body_bytes)?;
        self.size("held_bytes", &shape.held_bytes, 0..=16 * 1024 * MIB, &mut l.held_bytes)?;
        self.size("event_bytes", &shape.event_bytes, 0..=64 * MIB, &mut l.max_event_bytes)?;
        // Below 8 KiB hyper refuses to build a connection.
        self.size("head_bytes", &shape.head_bytes, 8 * KIB..=MIB, &mut l.max_head_bytes)?;
        self.count("headers", &shape.headers, 16..=4_096, &mut l.max_headers)?;
        self.count("connections", &shape.connections, 1..=1_000_000, &mut l.max_connections)?;
        let mut streams = l.max_concurrent_streams as usize;
        self.count("concurrent_streams", &shape.concurrent_streams, 1..=65_535, &mut streams)?;
        l.max_concurrent_streams = u32::try_from(streams).unwrap_or(u32::MAX);
        let handshake = &mut l.handshake_timeout;
        self.time("handshake_timeout", &shape.handshake_timeout, 100 * MS..=HOUR, handshake)?;
        self.time("head_timeout", &shape.head_timeout, 100 * MS..=HOUR, &mut l.head_timeout)?;
        self.time("body_wait", &shape.body_wait, ZERO..=60 * S, &mut l.body_wait)?;
        self.time("body_gap", &shape.body_gap, ZERO..=S, &mut l.body_gap)?;
        self.time("connect_timeout", &shape.connect_timeout, MS..=600 * S, &mut l.connect_timeout)?;
        let week = 168 * HOUR;
        self.time("response_timeout", &shape.response_timeout, MS..=week, &mut l.response_timeout)?;
        self.time("drain_timeout", &shape.drain_timeout, ZERO..=HOUR, &mut l.drain_timeout)?;
        self.time("flush_timeout", &shape.flush_timeout, ZERO..=HOUR, &mut l.flush_timeout)?;
        self.time("expect_timeout", &shape.expect_timeout, ZERO..=60 * S, &mut l.expect_timeout)?;
        self.count("pending", &shape.pending, 1..=1_000_000, &mut l.pending)?;
        self.time("pending_timeout", &shape.pending_timeout, 100 * MS..=week, &mut l.pending_timeout)?;
        self.count("stream_spans", &shape.stream_spans, 1..=1_000_000, &mut l.stream_spans)
    }

    fn size(
        &self,
        name: &str,
        text: &Text,
        range: RangeInclusive<usize>,
        into: &mut usize,
    ) -> Result<(), Error> {
        self.set(&format!("limits.{name}"), text, |text| value::size(text, range.clone()), into)
    }

    fn count(
        &self,
        name: &str,
        text: &Text,
        range: RangeInclusive<usize>,
        into: &mut usize,
    ) -> Result<(), Error> {
        self.set(&format!("limits.{name}"), text, |text| value::count(text, range.clone()), into)
    }

    fn time(
        &self,
        name: &str,
        text: &Text,
        range: RangeInclusive<Duration>,
        into: &mut Duration,
    ) -> Result<(), Error> {
        self.set(&format!("limits.{name}"), text, |text| value::duration(text, range.clone()), into)
    }

    /// Parses the value if the file has it, and keeps the default if not.
    pub(super) fn set<T>(
        &self,
        key: &str,
        text: &Text,
        parse: impl Fn(&str) -> Result<T, Expected>,
        into: &mut T,
    ) -> Result<(), Error> {
        if let Some(value) = self.optional(key, text, parse)? {
            *into = value;
        }
        Ok(())
    }

    pub(super) fn optional<T>(
        &self,
        key: &str,
        text: &Text,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> Result<Option<T>, Error> {
        text.as_ref().map(|text| self.parse(key, text, parse)).transpose()
    }

    pub(super) fn parse<T>(
        &self,
        key: &str,
        text: &Spanned<String>,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> Result<T, Error> {
        parse(&text.value).map_err(|expected| self.wrong(key, text, &text.value, &expected))
    }

    pub(super) fn wrong<T>(&self, key: &str, at: &Spanned<T>, value: &str, expected: &Expected) -> Error {
        let value = super::error::quote(value);
        Error::new(self.at(at), format!("{key} {value}: expected {expected}"))
    }

    pub(super) fn at<T>(&self, spanned: &Spanned<T>) -> Origin {
        let place = spanned.referenced;
        Origin::file(self.path, Some((place.line(), place.column())))
    }

    /// The document, or what is wrong with its structure.
    fn shape(&self, text: &str) -> Result<FileShape, Error> {
        let options = serde_saphyr::options! { with_snippet: false };
        let shape: Result<Option<FileShape>, _> = serde_saphyr::from_str_with_options(text, options);
        // A file that holds only comments is a file without settings.
        shape.map(Option::unwrap_or_default).map_err(|error| self.structure(&error))
    }

    fn structure(&self, error: &serde_saphyr::Error) -> Error {
        use serde_saphyr::Error as Yaml;
        let place = error.location().map(|place| (place.line(), place.column()));
        let problem = match error.without_snippet() {
            Yaml::SerdeUnknownField { field, expected, .. } => {
                let field = super::error::quote(field);
                format!("unknown key {field}: expected one of {}", expected.join(", "))
            }
            Yaml::SerdeInvalidType { unexpected, expected, .. } => {
                format!("{unexpected}: expected {expected}")
            }
            Yaml::DuplicateMappingKey { key: Some(key), .. } => {
                format!("key {} is given twice", super::error::quote(key))
            }
            Yaml::Unexpected { expected, .. } => match *expected {
                "mapping start" => "expected keys with values, as in key: value".to_owned(),
                "sequence start" => "expected a list, as in [a, b]".to_owned(),
                expected => format!("expected {expected}"),
            },
            other => UserMessageFormatter.format_message(other).into_owned(),
        };
        Error::new(Origin::file(self.path, place), problem)
    }
}

fn preference(text: &str) -> Result<Preference, Expected> {
    match text {
        "meta" => Ok(Preference::Meta),
        "header" => Ok(Preference::Header),
        _ => Err("meta or header".into()),
    }
}

fn inference(text: &str) -> Result<Inference, Expected> {
    match text {
        "guarded" => Ok(Inference::Guarded),
        "links" => Ok(Inference::Links),
        "off" => Ok(Inference::Off),
        _ => Err("guarded, links or off".into()),
    }
}

/// A `token` of RFC 9110 section 5.6.2, which is what a baggage key is.
pub(super) fn is_token(text: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || special.contains(&b))
}
