//! Every variable, its precedence, and what becomes of nonsense.

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<(ExportConfig, Vec<String>), ConfigError> {
    let get =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let (config, warnings) = ExportConfig::from_env(&get)?;
    Ok((config, warnings.iter().map(ToString::to_string).collect()))
}

fn quiet(variables: &[(&str, &str)]) -> ExportConfig {
    let (config, warnings) = read(variables).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    config
}

#[test]
fn without_variables_the_defaults_hold() {
    assert_eq!(quiet(&[]), ExportConfig::default());
    assert_eq!(
        quiet(&[("OTEL_TRACES_EXPORTER", " "), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]),
        ExportConfig::default()
    );
    let otlp = OtlpConfig::default();
    assert_eq!(otlp.endpoint.to_string(), "http://localhost:4318/v1/traces");
    assert_eq!(
        (otlp.protocol, otlp.compression, otlp.timeout.as_secs()),
        (Protocol::HttpProtobuf, Compression::None, 10)
    );
}

#[test]
fn endpoints_by_protocol_and_signal() {
    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    const INSECURE: &str = "OTEL_EXPORTER_OTLP_INSECURE";
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[(GENERAL, "http://c:1/base/")], "http://c:1/base/v1/traces"),
        (&[(TRACES, "http://c:1")], "http://c:1/"),
        (&[(TRACES, "https://c/x"), (GENERAL, "http://d")], "https://c/x"),
        (&[(PROTOCOL, "grpc")], "http://localhost:4317/"),
        (&[(PROTOCOL, "grpc"), (GENERAL, "http://c:1")], "http://c:1/"),
        (&[(PROTOCOL, "grpc"), (GENERAL, "c:1")], "https://c:1/"),
        (&[(PROTOCOL, "grpc"), (GENERAL, "c:1"), (INSECURE, "true")], "http://c:1/"),
        (
            &[
                (PROTOCOL, "grpc"),
                (TRACES, "c:1"),
                (INSECURE, "true"),
                ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "false"),
            ],
            "https://c:1/",
        ),
        (
            &[(PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")],
            "http://localhost:4318/v1/traces",
        ),
    ];
    for (variables, endpoint) in cases {
        assert_eq!(quiet(variables).otlp.unwrap().endpoint.to_string(), endpoint, "{variables:?}");
    }
    let error = read(&[(GENERAL, "me:secret@c:1")]).unwrap_err().to_string();
    assert_eq!(error, "OTEL_EXPORTER_OTLP_ENDPOINT needs a scheme: http://host:port or https://host:port");
    let error = read(&[(TRACES, "http://me:secret@c:x")]).unwrap_err().to_string();
    assert_eq!(error, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL of the form http://host:port/path");
}

#[test]
fn the_signal_beats_the_general_variable() {
    let config = quiet(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Bearer%20x%3D, b = 2"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces-ca"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/chain"),
    ]);
    let otlp = config.otlp.unwrap();
    assert_eq!((otlp.timeout.as_millis(), otlp.compression), (2500, Compression::None));
    let headers: Vec<_> =
        otlp.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("authorization", "Bearer x="), ("b", "2")]);
    let path = |path: &str| Some(PathBuf::from(path));
    let files = TlsFiles {
        certificate: path("/traces-ca"),
        client_key: path("/key"),
        client_certificate: path("/chain"),
    };
    assert_eq!(otlp.tls, files);
    assert!(!format!("{otlp:?}").contains("Bearer"));
}

#[test]
fn the_batch_and_the_limits() {
    let config = quiet(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "7000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "8"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "6"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "5"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "4"),
    ]);
    assert_eq!(
        (config.queue.max_queue_spans, config.queue.max_batch_spans, config.queue.schedule_delay.as_millis()),
        (100, 10, 10)
    );
    assert_eq!(config.otlp.unwrap().retry.max_total.as_secs(), 7);
    let limits = SpanLimits {
        attribute_count: 7,
        attribute_value_length: Some(9),
        link_count: 6,
        link_attribute_count: 8,
        event_count: 5,
        event_attribute_count: 4,
    };
    assert_eq!(config.span_limits, limits);
    let (config, warnings) =
        read(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "200")]).unwrap();
    assert_eq!((config.queue.max_batch_spans, warnings.len()), (100, 1));
    assert_eq!(quiet(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).queue.max_batch_spans, 100);
}

#[test]
fn nonsense_is_reported_and_ignored() {
    let bad = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier/pigeon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1s"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "1.5"),
        ("OTEL_EXPERIMENTAL_CONFIG_FILE", "/x"),
        ("OTEL_TRACES_EXPORTER", "otlp/stdout"),
        ("OTEL_SDK_DISABLED", "1"),
    ];
    for (name, value) in bad {
        let (config, warnings) = read(&[(name, value)]).unwrap();
        assert_eq!(config, ExportConfig::default(), "{name}");
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].starts_with(name) && !warnings[0].contains("secret"), "{warnings:?}");
    }
    // A bad value of the signal leaves the general one in force.
    let (config, warnings) =
        read(&[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zip"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")])
            .unwrap();
    assert_eq!((config.otlp.unwrap().compression, warnings.len()), (Compression::Gzip, 1));
}

#[test]
fn headers_of_the_transport_and_impossible_ones_are_left_out() {
    let list = "host=x,Content-Length=5,bad name=1,x=%0d%0aInjected: 1,good=1";
    let (config, warnings) = read(&[("OTEL_EXPORTER_OTLP_HEADERS", list)]).unwrap();
    let otlp = config.otlp.unwrap();
    assert_eq!(otlp.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["good"]);
    assert_eq!(warnings.len(), 4);
    assert!(!warnings.concat().contains("Injected"));
}

#[test]
fn exporters_are_chosen_by_name() {
    for (list, otlp, console, warned) in [
        ("otlp", true, false, 0),
        ("console", false, true, 0),
        ("logging", false, true, 0),
        ("none", false, false, 0),
        ("otlp, console,", true, true, 0),
        ("none,console", false, true, 1),
        ("console,otlp/stdout", false, true, 1),
        ("jaeger", true, false, 1),
    ] {
        let (config, warnings) = read(&[("OTEL_TRACES_EXPORTER", list)]).unwrap();
        assert_eq!(
            (config.otlp.is_some(), config.console, warnings.len()),
            (otlp, console, warned),
            "{list}"
        );
        assert_eq!(config.is_enabled(), otlp || console);
    }
    let config = quiet(&[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "otlp,console")]);
    assert!(!config.is_enabled());
}

#[test]
fn what_would_be_wrong_to_ignore_is_refused_by_name() {
    let error = read(&[("OTEL_TRACES_EXPORTER", "otlp,zipkin")]).unwrap_err().to_string();
    assert!(error.starts_with("OTEL_TRACES_EXPORTER: the zipkin exporter"), "{error}");
    let error = read(&[("OTEL_CONFIG_FILE", "/etc/otel.yaml")]).unwrap_err().to_string();
    assert!(error.starts_with("OTEL_CONFIG_FILE: "), "{error}");
}

#[test]
fn metrics_and_logs_go_out_where_they_are_asked_for() {
    let off = quiet(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:1"), ("OTEL_LOGS_EXPORTER", "none")]);
    assert_eq!((off.metrics, off.logs), (None, None));
    let asked = [("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_LOGS_EXPORTER", "otlp")];
    let both = quiet(&asked);
    let (metrics, logs) = (both.metrics.unwrap(), both.logs.unwrap());
    assert_eq!(metrics.otlp.endpoint.to_string(), "http://localhost:4318/v1/metrics");
    assert_eq!((metrics.interval.as_secs(), metrics.otlp.retry.max_total.as_secs()), (60, 30));
    assert!(metrics.exemplars && metrics.temporality == Temporality::Cumulative);
    assert_eq!(logs.otlp.endpoint.to_string(), "http://localhost:4318/v1/logs");
    assert_eq!((logs.delay.as_secs(), logs.max_queue, logs.max_batch), (1, 2_048, 512));
    let disabled = quiet(&[asked[0], asked[1], ("OTEL_SDK_DISABLED", "true")]);
    assert_eq!((disabled.metrics, disabled.logs), (None, None));
    let set = quiet(&[
        asked[0],
        asked[1],
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/base"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:2"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "k=v"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "7"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "1000"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "5"),
    ]);
    let (metrics, logs) = (set.metrics.unwrap(), set.logs.unwrap());
    assert_eq!(metrics.otlp.endpoint.to_string(), "http://c:1/base/v1/metrics");
    assert_eq!((metrics.otlp.protocol, metrics.otlp.headers.len()), (Protocol::HttpJson, 1));
    assert_eq!((metrics.otlp.timeout.as_millis(), metrics.otlp.retry.max_total.as_secs()), (7, 1));
    assert_eq!((metrics.interval.as_secs(), metrics.exemplars), (5, false));
    assert_eq!(metrics.temporality, Temporality::Delta);
    assert_eq!(
        (logs.otlp.endpoint.to_string().as_str(), logs.otlp.protocol),
        ("http://logs:2/", Protocol::Grpc)
    );
    assert_eq!((logs.max_queue, logs.max_batch, logs.delay.as_millis()), (100, 100, 10));
    assert_eq!(set.otlp.unwrap().endpoint.to_string(), "http://c:1/base/v1/traces");
    let (config, warnings) = read(&[
        ("OTEL_METRICS_EXPORTER", "prometheus,otlp"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "recent"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ])
    .unwrap();
    assert!(config.metrics.is_some_and(|metrics| metrics.interval.as_secs() == 60) && config.logs.is_none());
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    let refused = read(&[asked[0], ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "c:1")]).unwrap_err();
    assert!(refused.to_string().starts_with("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"), "{refused}");
}
