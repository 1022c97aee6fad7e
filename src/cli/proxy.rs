//! The command line of the sidecar.

use std::path::PathBuf;

use clap::Args;

use super::capture::RuleArgs;

use crate::config::Flags;

/// Run the sidecar.
///
/// Stands in front of an agent (inbound) and behind it (outbound), passes everything on and sends a
/// span for each request to an OpenTelemetry collector. SIGTERM and Ctrl-C drain and stop it; a second
/// one ends it at once.
///
/// A flag beats its variable, a variable beats the configuration file, the file beats the default.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
pub(super) struct ProxyArgs {
    /// Accept on LISTEN what is meant for the agent, and forward it to APP.
    ///
    /// For example 0.0.0.0:8000=127.0.0.1:8080, or https://0.0.0.0:8443=127.0.0.1:8080 for clients
    /// that speak TLS (see --inbound-tls). May be repeated.
    /// [env: MESHTRACE_INBOUND, with commas between several] [default: none]
    #[arg(long, value_name = "LISTEN=APP")]
    inbound: Vec<String>,

    /// Accept on LISTEN what the agent sends, and forward it.
    ///
    /// LISTEN alone, such as 127.0.0.1:8001, is a forward proxy for clients with HTTP_PROXY set; it
    /// takes CONNECT too, and requests that are routed by their Host. LISTEN=URL sends everything to
    /// one base URL, http:// or https://. May be repeated.
    /// [env: MESHTRACE_OUTBOUND, with commas between several] [default: none]
    #[arg(long, value_name = "LISTEN[=URL]")]
    outbound: Vec<String>,

    /// Serve what the kernel redirects, with the rules of `meshtrace capture install` in place.
    ///
    /// Listens on [::]:14006 for inbound connections and on 127.0.0.1:14001 and [::1]:14001 for outbound
    /// ones; each is passed on to where it was meant to go, traced if it is HTTP and unread if not.
    /// [env: MESHTRACE_REDIRECTED] [default: off]
    #[arg(long)]
    redirected: bool,

    /// Install those rules first, then serve as --redirected does.
    ///
    /// For starting as root with the capabilities NET_ADMIN, SETUID and SETGID; it becomes the user of --uid,
    /// without any capability, before it serves. The rules stay when it ends, so that nothing slips by while
    /// it restarts; `meshtrace capture remove` takes them away.
    /// [env: MESHTRACE_CAPTURE] [default: off]
    #[arg(long)]
    capture: bool,

    /// Pass redirected connections to these ports on unread: 5432,6000-6010.
    ///
    /// [env: MESHTRACE_OPAQUE_PORTS] [file: opaque_ports] [default: none]
    #[arg(long, value_name = "PORTS")]
    opaque_ports: Option<String>,
    /// The certificate chain and key (PEM) of the inbound listeners that are written https://LISTEN.
    ///
    /// With CLIENT_CA, clients need a certificate of that authority. A change of the files is taken
    /// up without a restart.
    /// [env: MESHTRACE_INBOUND_TLS] [default: none]
    #[arg(long, value_name = "CERTIFICATE,KEY[,CLIENT_CA]")]
    inbound_tls: Option<String>,

    /// Speak TLS to HOST where the agent says http://HOST, on port 443 or PORT.
    ///
    /// For example api.example.com or *.example.com:8443. May be repeated.
    /// [env: MESHTRACE_TLS_ORIGINATE, with commas between several] [default: none]
    #[arg(long, value_name = "HOST[:PORT]")]
    tls_originate: Vec<String>,

    /// Trust the authorities in FILE (PEM) too, beside those of the system.
    ///
    /// For the servers that the agent calls; the collector has OTEL_EXPORTER_OTLP_CERTIFICATE.
    /// [env: MESHTRACE_TLS_CA] [default: none]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<String>,

    /// The certificate chain and key (PEM) to show to servers that ask for one.
    ///
    /// [env: MESHTRACE_TLS_CLIENT] [default: none]
    #[arg(long, value_name = "CERTIFICATE,KEY")]
    tls_client: Option<String>,

    /// Write the files of `meshtrace shim install` into DIR before being ready.
    ///
    /// For an agent that starts when the sidecar is ready and shares the directory with it.
    /// [env: MESHTRACE_INSTALL_SHIM] [default: none]
    #[arg(long, value_name = "DIR")]
    install_shim: Option<String>,

    /// After SIGTERM serve on, new connections too, until nobody accepts on this port of the pod.
    ///
    /// For a sidecar that is told to stop at the same time as the application. PORT is one at the
    /// pod's address (POD_IP) or at loopback; an address such as 127.0.0.1:8080 is taken too. May
    /// be repeated.
    /// [env: MESHTRACE_STOP_AFTER, with commas between several] [default: none]
    #[arg(long, value_name = "PORT")]
    stop_after: Vec<String>,

    /// The longest time, after SIGTERM, for the application to go and for what is in flight.
    ///
    /// [env: MESHTRACE_DRAIN_TIMEOUT] [default: 20s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<String>,

    /// The longest time after that for the last spans to leave.
    ///
    /// [env: MESHTRACE_FLUSH_TIMEOUT] [default: 5s]
    #[arg(long, value_name = "TIME")]
    flush_timeout: Option<String>,

    /// Serve /live, /ready and /metrics on LISTEN, or nowhere: off.
    ///
    /// /app-probe/CONTAINER/PROBE is there too, for the probes that the injector took over
    /// (MESHTRACE_APP_PROBES). Everything else there answers loopback peers only.
    /// [env: MESHTRACE_ADMIN] [default: [::]:14020]
    #[arg(long, value_name = "LISTEN")]
    admin: Option<String>,

    /// Read the configuration file (YAML): spans, propagation, tls, attributes, sampling, limits.
    ///
    /// Changes of spans and sampling take over while it runs, within two seconds or at once on SIGHUP.
    /// [env: MESHTRACE_CONFIG] [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Worker threads, each with its own sockets and event loop, 1 to 64.
    ///
    /// [env: MESHTRACE_WORKERS] [default: the CPUs that are granted, at most 4]
    #[arg(long, value_name = "N")]
    workers: Option<String>,

    #[command(flatten)]
    rules: RuleArgs,
    /// Write one JSON line for each request to stdout: off or json.
    ///
    /// [env: MESHTRACE_ACCESS_LOG] [default: off]
    #[arg(long, value_name = "FORMAT")]
    access_log: Option<String>,

    /// Write our own diagnostics on stderr as text or as JSON lines: text or json.
    ///
    /// [env: MESHTRACE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

pub(super) const ENVIRONMENT: &str = "\
OpenTelemetry variables (the specification says what they mean):
  OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES  who the spans are from
  OTEL_EXPORTER_OTLP_ENDPOINT and the rest of OTEL_EXPORTER_OTLP_*
                                               where they go [default: http://localhost:4318]
  OTEL_TRACES_EXPORTER                         otlp, console or none [default: otlp]
  OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG which traces are recorded
                                               [default: parentbased_always_on]
  OTEL_PROPAGATORS                             tracecontext, baggage, b3, b3multi, or none
                                               [default: tracecontext,baggage]
  OTEL_BSP_*                                   the queue and the batches
  OTEL_LOG_LEVEL                               off, error, warn, info, debug or trace
                                               [default: info]
  OTEL_SDK_DISABLED                            true: no spans, context still passes
Variables that the injector writes:
  MESHTRACE_APP_PROBES                         JSON: the TCP probes that /app-probe carries out
  POD_IP                                       where they and --stop-after find the pod
Refused: OTEL_CONFIG_FILE, the jaeger, ottrace and xray propagators, the zipkin exporter.";

impl ProxyArgs {
    pub(super) fn flags(self) -> Flags {
        let ProxyArgs {
            inbound,
            outbound,
            redirected,
            capture,
            opaque_ports,
            inbound_tls,
            tls_originate,
            tls_ca,
            tls_client,
            install_shim,
            stop_after,
            drain_timeout,
            flush_timeout,
            admin,
            config,
            workers,
            rules,
            access_log,
            log_format,
        } = self;
        let rules = rules.flags();
        Flags {
            inbound,
            outbound,
            redirected,
            capture,
            opaque_ports,
            inbound_tls,
            tls_originate,
            tls_ca,
            tls_client,
            install_shim,
            stop_after,
            drain_timeout,
            flush_timeout,
            admin,
            config,
            workers,
            rules,
            access_log,
            log_format,
        }
    }
}
