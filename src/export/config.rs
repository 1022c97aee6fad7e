//! What the export pipeline is told: one plain struct, and its reading from the standard environment variables.
//!
//! Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter". A
//! variable of a signal beats the general one.

mod bounds;
mod signals;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub use self::signals::{LogsConfig, MetricsConfig, Temporality};
use crate::export::endpoint::{Endpoint, EndpointError};
use crate::export::env::{Env, Warning, key_value_list, shown};
use crate::export::queue::QueueConfig;
use crate::export::retry::RetryConfig;
use crate::export::signal::Signal;
use crate::net::tls::{ClientFiles, Identity, Roots, TlsError};
use crate::trace::span::SpanLimits;

/// Where finished spans go, and within which bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// The collector, if spans are sent to one.
    pub otlp: Option<OtlpConfig>,
    /// Where metrics go, if anywhere.
    pub metrics: Option<MetricsConfig>,
    /// Where the access log and our own diagnostics go as log records, if anywhere.
    pub logs: Option<LogsConfig>,
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
    /// What it is sent.
    pub signal: Signal,
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
            metrics: None,
            logs: None,
            console: false,
            queue: QueueConfig::default(),
            span_limits: SpanLimits::default(),
        }
    }
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            signal: Signal::Traces,
            endpoint: default_endpoint(Signal::Traces, Protocol::HttpProtobuf),
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

impl OtlpConfig {
    /// The collector in words and without secrets.
    pub fn describe(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http/protobuf",
            Protocol::HttpJson => "http/json",
        };
        let mut text = format!("OTLP over {protocol} to {}", self.endpoint);
        if !self.headers.is_empty() {
            let names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
            text.push_str(&format!(" with {}", names.join(", ")));
        }
        text
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
            true => Some(otlp(&mut env, Signal::Traces)?),
            false => None,
        };
        let metrics = signals::metrics(&mut env, disabled)?;
        let logs = signals::logs(&mut env, disabled)?;
        let config = Self {
            otlp,
            metrics,
            logs,
            console: exporters.console && !disabled,
            queue: bounds::queue(&mut env),
            span_limits: bounds::span_limits(&mut env),
        };
        Ok((config, env.warnings))
    }

    /// Where spans go, in words and without secrets.
    pub fn describe(&self) -> String {
        let mut text = match &self.otlp {
            Some(otlp) => otlp.describe(),
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

fn otlp(env: &mut Env<'_>, about: Signal) -> Result<OtlpConfig, ConfigError> {
    const PROTOCOLS: [(&str, Protocol); 3] = [
        ("grpc", Protocol::Grpc),
        ("http/protobuf", Protocol::HttpProtobuf),
        ("http/json", Protocol::HttpJson),
    ];
    const COMPRESSIONS: [(&str, Compression); 2] = [("gzip", Compression::Gzip), ("none", Compression::None)];
    let defaults = OtlpConfig::default();
    let protocol =
        signal(env, about, "PROTOCOL", |env, name| env.word(name, &PROTOCOLS)).unwrap_or(defaults.protocol);
    let text = |env: &mut Env<'_>, suffix| signal(env, about, suffix, |env, name| env.text(name));
    let tls = TlsFiles {
        certificate: text(env, "CERTIFICATE").map(PathBuf::from),
        client_key: text(env, "CLIENT_KEY").map(PathBuf::from),
        client_certificate: text(env, "CLIENT_CERTIFICATE").map(PathBuf::from),
    };
    let mut retry = defaults.retry;
    if about == Signal::Traces {
        retry.max_total = env.timeout("OTEL_BSP_EXPORT_TIMEOUT").unwrap_or(retry.max_total);
    }
    Ok(OtlpConfig {
        signal: about,
        endpoint: endpoint(env, about, protocol)?,
        protocol,
        headers: signal(env, about, "HEADERS", headers).unwrap_or_default(),
        timeout: signal(env, about, "TIMEOUT", |env, name| env.timeout(name)).unwrap_or(defaults.timeout),
        connect_timeout: defaults.connect_timeout,
        compression: signal(env, about, "COMPRESSION", |env, name| env.word(name, &COMPRESSIONS))
            .unwrap_or(defaults.compression),
        tls,
        retry,
    })
}

/// The value of the signal's variable, else that of the general one.
fn signal<T>(
    env: &mut Env<'_>,
    about: Signal,
    suffix: &str,
    mut read: impl FnMut(&mut Env<'_>, &str) -> Option<T>,
) -> Option<T> {
    read(env, &format!("OTEL_EXPORTER_OTLP_{}_{suffix}", about.variable()))
        .or_else(|| read(env, &format!("OTEL_EXPORTER_OTLP_{suffix}")))
}

fn endpoint(env: &mut Env<'_>, about: Signal, protocol: Protocol) -> Result<Endpoint, ConfigError> {
    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let own = match about {
        Signal::Traces => "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        Signal::Metrics => "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        Signal::Logs => "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    };
    let insecure = signal(env, about, "INSECURE", |env, name| env.flag(name)).unwrap_or(false);
    let (variable, url, general) = match (env.text(own), env.text(GENERAL)) {
        (Some(url), _) => (own, url, false),
        (None, Some(url)) => (GENERAL, url, true),
        (None, None) => return Ok(default_endpoint(about, protocol)),
    };
    let endpoint = match (protocol, general) {
        (Protocol::Grpc, _) => Endpoint::grpc(&url, insecure),
        (_, true) => Endpoint::http_base_of(&url, about),
        (_, false) => Endpoint::http(&url),
    };
    endpoint.map_err(|error| ConfigError::Endpoint { variable, error })
}

/// The specification's `localhost`, at the port of the protocol.
fn default_endpoint(about: Signal, protocol: Protocol) -> Endpoint {
    let (port, path) = match (protocol, about) {
        (Protocol::Grpc, _) => (4317, "/"),
        (_, Signal::Traces) => (4318, "/v1/traces"),
        (_, Signal::Metrics) => (4318, "/v1/metrics"),
        (_, Signal::Logs) => (4318, "/v1/logs"),
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

#[cfg(test)]
mod tests;
