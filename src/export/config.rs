//! What the export pipeline is told: one plain struct, and its reading from the standard environment variables.
//!
//! Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter". A
//! variable of the traces signal beats the general one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::export::endpoint::{Endpoint, EndpointError};
use crate::export::env::{Env, Warning, key_value_list, shown};
use crate::export::queue::QueueConfig;
use crate::export::retry::RetryConfig;
use crate::net::tls::{ClientFiles, Identity, Roots, TlsError};
use crate::trace::span::SpanLimits;

/// Where finished spans go, and within which bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// The collector, if spans are sent to one.
    pub otlp: Option<OtlpConfig>,
    /// Whether finished traces are printed.
    pub console: bool,
    /// The bounds of the queue and of a batch.
    pub queue: QueueConfig,
    /// The bounds of one span.
    pub span_limits: SpanLimits,
}

/// How the collector is spoken to.
#[derive(Clone, PartialEq)]
pub struct OtlpConfig {
    /// Its address.
    pub endpoint: Endpoint,
    /// The encoding and transport.
    pub protocol: Protocol,
    /// Headers, or gRPC metadata, of every request. Their values are not shown.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one attempt may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// Whether requests are compressed.
    pub compression: Compression,
    /// The PEM files for TLS.
    pub tls: TlsFiles,
    /// When a batch is tried again.
    pub retry: RetryConfig,
}

/// The three protocols of OTLP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf over HTTP/1.1.
    HttpProtobuf,
    /// JSON over HTTP/1.1.
    HttpJson,
}

/// The compressions of OTLP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip at its quickest level.
    Gzip,
}

/// PEM files of `OTEL_EXPORTER_OTLP_CERTIFICATE`, `…_CLIENT_KEY` and `…_CLIENT_CERTIFICATE`. They are read once, at start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// The authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
    /// Our private key.
    pub client_key: Option<PathBuf>,
    /// Our certificate chain.
    pub client_certificate: Option<PathBuf>,
}

impl TlsFiles {
    /// Whom to trust and who we are.
    ///
    /// # Errors
    /// If there is a key without a certificate, or the reverse.
    pub fn client(&self) -> Result<ClientFiles, TlsError> {
        let identity = match (&self.client_certificate, &self.client_key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some(Identity { certificate: chain.clone(), key: key.clone() }),
            _ => return Err(TlsError::Pair),
        };
        let roots = self.certificate.clone().map_or(Roots::System, Roots::Only);
        Ok(ClientFiles { roots, identity })
    }
}

/// A setting that stops the start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A variable or value that this program does not carry out.
    #[error("{variable}: {message}")]
    Unsupported {
        /// The name of the variable.
        variable: &'static str,
        /// What is not supported and what to use.
        message: String,
    },
    /// An endpoint that cannot be used. Sending to the default instead would send private data to another place than asked.
    #[error("{variable} {error}")]
    Endpoint {
        /// The name of the variable.
        variable: &'static str,
        /// What is wrong with it.
        error: EndpointError,
    },
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            otlp: Some(OtlpConfig::default()),
            console: false,
            queue: QueueConfig::default(),
            span_limits: SpanLimits::default(),
        }
    }
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: default_endpoint(Protocol::HttpProtobuf),
            protocol: Protocol::HttpProtobuf,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            compression: Compression::None,
            tls: TlsFiles::default(),
            retry: RetryConfig::default(),
        }
    }
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("OtlpConfig")
            .field("endpoint", &self.endpoint.to_string())
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .field("retry", &self.retry)
            .finish()
    }
}

impl ExportConfig {
    /// Reads the standard variables through `get`. What could not be understood is in the warnings and was ignored.
    ///
    /// # Errors
    /// If a variable asks for something that would be wrong to ignore: a configuration file, the Zipkin exporter, an
    /// endpoint that is no URL.
    pub fn from_env(get: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut env = Env::new(get);
        refuse_configuration_file(&mut env)?;
        let exporters = exporters(&mut env)?;
        let disabled = env.flag("OTEL_SDK_DISABLED").unwrap_or(false);
        let otlp = match exporters.otlp && !disabled {
            true => Some(otlp(&mut env)?),
            false => None,
        };
        let config = Self {
            otlp,
            console: exporters.console && !disabled,
            queue: queue(&mut env),
            span_limits: span_limits(&mut env),
        };
        Ok((config, env.warnings))
    }

    /// Where spans go, in words and without secrets.
    pub fn describe(&self) -> String {
        let mut text = match &self.otlp {
            Some(otlp) => {
                let protocol = match otlp.protocol {
                    Protocol::Grpc => "grpc",
                    Protocol::HttpProtobuf => "http/protobuf",
                    Protocol::HttpJson => "http/json",
                };
                let mut text = format!("OTLP over {protocol} to {}", otlp.endpoint);
                if !otlp.headers.is_empty() {
                    let names: Vec<_> = otlp.headers.iter().map(|(name, _)| name.as_str()).collect();
                    text.push_str(&format!(" with {}", names.join(", ")));
                }
                text
            }
            None if self.console => return "the console".to_owned(),
            None => return "nowhere".to_owned(),
        };
        if self.console {
            text.push_str(" and the console");
        }
        text
    }

    /// Whether spans go anywhere.
    pub fn is_enabled(&self) -> bool {
        self.console || self.otlp.is_some()
    }
}

#[derive(Default)]
struct Exporters {
    otlp: bool,
    console: bool,
}

fn refuse_configuration_file(env: &mut Env<'_>) -> Result<(), ConfigError> {
    if env.text("OTEL_CONFIG_FILE").is_some() {
        let message =
            "declarative configuration is not supported; unset it and use the other OTEL_* variables"
                .to_owned();
        return Err(ConfigError::Unsupported { variable: "OTEL_CONFIG_FILE", message });
    }
    if env.text("OTEL_EXPERIMENTAL_CONFIG_FILE").is_some() {
        env.warn("OTEL_EXPERIMENTAL_CONFIG_FILE", "declarative configuration is not supported; ignored");
    }
    Ok(())
}

fn exporters(env: &mut Env<'_>) -> Result<Exporters, ConfigError> {
    const NAME: &str = "OTEL_TRACES_EXPORTER";
    let Some(list) = env.text(NAME) else { return Ok(Exporters { otlp: true, console: false }) };
    let (mut chosen, mut none, mut understood) = (Exporters::default(), false, false);
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "otlp" => chosen.otlp = true,
            "console" | "logging" => chosen.console = true,
            "none" => none = true,
            "zipkin" => {
                let message =
                    "the zipkin exporter is not supported; send OTLP to a collector that speaks Zipkin"
                        .to_owned();
                return Err(ConfigError::Unsupported { variable: NAME, message });
            }
            other => {
                env.warn(NAME, format!("`{}` is not one of otlp, console, none; ignored", shown(other)));
                continue;
            }
        }
        understood = true;
    }
    if none && (chosen.otlp || chosen.console) {
        env.warn(NAME, "`none` beside another exporter has no meaning; ignored");
    }
    if !understood {
        chosen.otlp = true;
    }
    Ok(chosen)
}

fn otlp(env: &mut Env<'_>) -> Result<OtlpConfig, ConfigError> {
    const PROTOCOLS: [(&str, Protocol); 3] = [
        ("grpc", Protocol::Grpc),
        ("http/protobuf", Protocol::HttpProtobuf),
        ("http/json", Protocol::HttpJson),
    ];
    const COMPRESSIONS: [(&str, Compression); 2] = [("gzip", Compression::Gzip), ("none", Compression::None)];
    let defaults = OtlpConfig::default();
    let protocol =
        signal(env, "PROTOCOL", |env, name| env.word(name, &PROTOCOLS)).unwrap_or(defaults.protocol);
    let text = |env: &mut Env<'_>, suffix| signal(env, suffix, |env, name| env.text(name));
    let tls = TlsFiles {
        certificate: text(env, "CERTIFICATE").map(PathBuf::from),
        client_key: text(env, "CLIENT_KEY").map(PathBuf::from),
        client_certificate: text(env, "CLIENT_CERTIFICATE").map(PathBuf::from),
    };
    let mut retry = defaults.retry;
    retry.max_total = env.timeout("OTEL_BSP_EXPORT_TIMEOUT").unwrap_or(retry.max_total);
    Ok(OtlpConfig {
        endpoint: endpoint(env, protocol)?,
        protocol,
        headers: signal(env, "HEADERS", headers).unwrap_or_default(),
        timeout: signal(env, "TIMEOUT", |env, name| env.timeout(name)).unwrap_or(defaults.timeout),
        connect_timeout: defaults.connect_timeout,
        compression: signal(env, "COMPRESSION", |env, name| env.word(name, &COMPRESSIONS))
            .unwrap_or(defaults.compression),
        tls,
        retry,
    })
}

/// The value of the traces variable, else that of the general one.
fn signal<T>(
    env: &mut Env<'_>,
    suffix: &str,
    mut read: impl FnMut(&mut Env<'_>, &str) -> Option<T>,
) -> Option<T> {
    read(env, &format!("OTEL_EXPORTER_OTLP_TRACES_{suffix}"))
        .or_else(|| read(env, &format!("OTEL_EXPORTER_OTLP_{suffix}")))
}

fn endpoint(env: &mut Env<'_>, protocol: Protocol) -> Result<Endpoint, ConfigError> {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let insecure = signal(env, "INSECURE", |env, name| env.flag(name)).unwrap_or(false);
    let (variable, url, general) = match (env.text(TRACES), env.text(GENERAL)) {
        (Some(url), _) => (TRACES, url, false),
        (None, Some(url)) => (GENERAL, url, true),
        (None, None) => return Ok(default_endpoint(protocol)),
    };
    let endpoint = match (protocol, general) {
        (Protocol::Grpc, _) => Endpoint::grpc(&url, insecure),
        (_, true) => Endpoint::http_base(&url),
        (_, false) => Endpoint::http(&url),
    };
    endpoint.map_err(|error| ConfigError::Endpoint { variable, error })
}

/// The specification's `localhost`, at the port of the protocol.
fn default_endpoint(protocol: Protocol) -> Endpoint {
    let (port, path) = match protocol {
        Protocol::Grpc => (4317, "/"),
        Protocol::HttpProtobuf | Protocol::HttpJson => (4318, "/v1/traces"),
    };
    let path = http::uri::PathAndQuery::from_static(path);
    Endpoint { tls: false, host: "localhost".to_owned(), port, path, authorization: None }
}

/// Headers that belong to the transport. One of the user's would break the request.
const RESERVED_HEADERS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
];

fn headers(env: &mut Env<'_>, name: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let list = env.text(name)?;
    let pairs = match key_value_list(&list) {
        Ok(pairs) => pairs,
        Err(reason) => {
            env.warn(name, format!("{reason}; the whole list is ignored"));
            return None;
        }
    };
    let mut headers = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let (Ok(key), Ok(mut value)) = (HeaderName::try_from(&key), HeaderValue::try_from(value)) else {
            env.warn(name, "a member is not a valid header; ignored");
            continue;
        };
        if RESERVED_HEADERS.contains(&key.as_str()) {
            env.warn(name, format!("`{key}` is set by the exporter itself; ignored"));
            continue;
        }
        value.set_sensitive(true);
        headers.push((key, value));
    }
    Some(headers)
}

fn queue(env: &mut Env<'_>) -> QueueConfig {
    const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
    const SHORTEST_DELAY: Duration = Duration::from_millis(10);
    let mut config = QueueConfig::default();
    config.schedule_delay = env
        .number::<u64>("OTEL_BSP_SCHEDULE_DELAY", 0)
        .map_or(config.schedule_delay, |millis| Duration::from_millis(millis).max(SHORTEST_DELAY));
    config.max_queue_spans = env.number("OTEL_BSP_MAX_QUEUE_SIZE", 1).unwrap_or(config.max_queue_spans);
    config.max_batch_spans = env.number(BATCH, 1).unwrap_or(config.max_batch_spans);
    if config.max_batch_spans > config.max_queue_spans {
        if env.text(BATCH).is_some() {
            env.warn(BATCH, format!("is larger than the queue; {} is used", config.max_queue_spans));
        }
        config.max_batch_spans = config.max_queue_spans;
    }
    config
}

fn span_limits(env: &mut Env<'_>) -> SpanLimits {
    let defaults = SpanLimits::default();
    let general_count = env.number("OTEL_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(defaults.attribute_count);
    let general_length = env.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0);
    SpanLimits {
        attribute_count: env.number("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(general_count),
        attribute_value_length: env.number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0).or(general_length),
        link_count: env.number("OTEL_SPAN_LINK_COUNT_LIMIT", 0).unwrap_or(defaults.link_count),
        link_attribute_count: env.number("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(general_count),
        event_count: env.number("OTEL_SPAN_EVENT_COUNT_LIMIT", 0).unwrap_or(defaults.event_count),
        event_attribute_count: env.number("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(general_count),
    }
}

#[cfg(test)]
mod tests;
