//! Whole configurations: precedence, and every wrong value in one table.

use super::*;
use crate::net::tls::{Identity, ServerFiles};
use crate::proxy::settings::{Authority, Destinations, IgnoreRule, Originate, Preference};
use crate::trace::glob::Glob;
use crate::trace::ids::Ids;
use crate::trace::links::Inference;
use std::time::Duration;

/// Loads from flags in `--name=value` form, variables and the text of a file.
fn load(flags: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> Result<Config, Error> {
    let mut set = Flags::default();
    for flag in flags {
        let (name, value) = flag.split_once('=').unwrap();
        match name {
            "--inbound" => set.inbound.push(value.to_owned()),
            "--outbound" => set.outbound.push(value.to_owned()),
            "--admin" => set.admin = Some(value.to_owned()),
            "--access-log" => set.access_log = Some(value.to_owned()),
            "--log-format" => set.log_format = Some(value.to_owned()),
            "--workers" => set.workers = Some(value.to_owned()),
            "--drain-timeout" => set.drain_timeout = Some(value.to_owned()),
            "--flush-timeout" => set.flush_timeout = Some(value.to_owned()),
            _ => unreachable!("{name}"),
        }
    }
    let config = Config::load(&set, &|name: &str| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })?;
    let Some(text) = file else { return Ok(config) };
    let service = config.resource.service_name();
    let Settings { spans, attributes, sampling, propagation, tls, limits, .. } =
        file::parse(Path::new("m.yaml"), text, service)?;
    let sampling = sampling.under(config.sampling.fallback);
    Ok(Config { spans, attributes, sampling, propagation, tls, limits, ..config })
}

const INBOUND: &str = "--inbound=0.0.0.0:8000=127.0.0.1:8080";

fn from_file(text: &str) -> Result<Config, Error> {
    load(&[INBOUND], &[("OTEL_SERVICE_NAME", "weather")], Some(text))
}

#[test]
fn an_application_may_be_an_ipv6_address_as_kubernetes_writes_it() {
    for app in ["fd00::7:8080", "[fd00::7]:8080"] {
        let flag = format!("--inbound=[::]:14030={app}");
        let config = load(&[&flag], &[], None).unwrap();
        assert_eq!(config.inbound[0].app.to_string(), "[fd00::7]:8080");
    }
}

#[test]
fn nothing_but_a_listener_gives_the_defaults() {
    let config = load(&[INBOUND], &[], None).unwrap();
    let app = Authority { host: "127.0.0.1".to_owned(), port: 8080 };
    assert_eq!(config.inbound, [Inbound { listen: "0.0.0.0:8000".parse().unwrap(), secure: false, app }]);
    assert_eq!(config.outbound, []);
    assert_eq!(config.admin, Some("[::]:14020".parse().unwrap()));
    assert!((1..=4).contains(&config.workers));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.propagation, Propagation::for_service("unknown_service:meshtrace"));
    assert_eq!(config.spans, SpanRules::default());
    assert_eq!(config.sampling, SamplingConfig::default());
    assert_eq!(config.log_level, LevelFilter::INFO);
    assert_eq!(config.warnings.len(), 1, "only the missing service name: {:?}", config.warnings);
    assert!(config.warnings[0].starts_with("OTEL_SERVICE_NAME"));
}

#[test]
fn capture_is_asked_for_by_flag_variable_and_file() {
    let config = load(&[INBOUND], &[], None).unwrap();
    assert_eq!((config.redirected, config.capture, config.uid), (None, None, 14100));
    let variables = [
        ("MESHTRACE_REDIRECTED", "True"),
        ("MESHTRACE_REDIRECTED_INBOUND", "15"),
        ("MESHTRACE_OPAQUE_PORTS", "5432, 6000-6010"),
        ("MESHTRACE_UID", "7"),
    ];
    let config = load(&[], &variables, None).unwrap();
    let expected = Redirected { inbound: 15, outbound: 14001, opaque_ports: vec![5432..=5432, 6000..=6010] };
    assert_eq!((config.redirected, config.capture, config.uid), (Some(expected), None, 7));
    let variables =
        [("MESHTRACE_CAPTURE", "true"), ("MESHTRACE_INBOUND_PORTS", "8080"), ("POD_IP", "10.0.0.1")];
    let config = load(&["--admin=off"], &variables, None).unwrap();
    let rules = Rules { inbound_ports: Some(vec![8080..=8080]), admin: None, ..Rules::default() };
    assert_eq!((config.redirected.is_some(), config.capture), (true, Some(rules)));
    let text = Settings::for_service("a");
    assert_eq!(
        file::parse(Path::new("m.yaml"), "opaque_ports: 25,110\n", "a").unwrap().opaque_ports.len(),
        2
    );
    assert_eq!(text.opaque_ports, []);
}

#[test]
fn a_flag_beats_its_variable_and_an_empty_variable_is_none() {
    let variables = [
        ("MESHTRACE_INBOUND", "0.0.0.0:1=a:1, 0.0.0.0:2=b:2,"),
        ("MESHTRACE_OUTBOUND", "127.0.0.1:3,127.0.0.1:4=http://up/base/"),
        ("MESHTRACE_ADMIN", "OFF"),
        ("MESHTRACE_WORKERS", "3"),
    ];
    let config = load(&[], &variables, None).unwrap();
    assert_eq!(config.inbound.len(), 2);
    assert_eq!(config.outbound[0].target, None);
    let target = config.outbound[1].target.as_ref().unwrap();
    assert_eq!(target.to_string(), "http://up:80/base");
    assert_eq!((config.admin, config.workers), (None, 3));

    let flags = [INBOUND, "--admin=127.0.0.1:1", "--workers=2"];
    let config = load(&flags, &variables, None).unwrap();
    assert_eq!(config.inbound[0].listen.port(), 8000);
    assert_eq!(config.inbound.len(), 1);
    assert_eq!(config.admin, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(config.workers, 2);

    let empty = [("MESHTRACE_INBOUND", " "), ("MESHTRACE_ADMIN", ""), ("MESHTRACE_WORKERS", "")];
    let config = load(&["--outbound=127.0.0.1:9"], &empty, None).unwrap();
    assert_eq!((config.inbound.len(), config.outbound.len()), (0, 1));
    assert_eq!(config.admin, Some(DEFAULT_ADMIN));
}

#[test]
fn a_full_file_is_read() {
    let config = from_file(
        r#"
spans:
  http: false
  notifications: true
  ignore: [{ path: /healthz }, { user_agent: "kube-probe/*", host: "*.local" }]
propagation:
  parent: header
  trust_inbound: false
  write_meta: false
  inference: links
  to: [api.example.com, "10.*"]
  baggage: { set: { mcp.mesh.agent: "${service.name}/1", team: blue } }
tls:
  inbound: { certificate: /a/tls.crt, key: /a/tls.key, client_ca: /a/ca.crt }
  originate: [api.example.com, "*.corp.example:8443"]
  ca: /b/ca.crt
  client: { certificate: /c/tls.crt, key: /c/tls.key }
attributes:
  from_header: { X-Customer-Tier: customer.tier }
  from_baggage: { customer.id: customer.id }
  from_argument: { "a.b.location": weather.location }
  capture_arguments: true
sampling:
  keep: { errors: true, slower_than: 500ms }
  max_traces_per_second: 1000
  rules:
    - { name: critical, agent: [payment-agent, auth-agent], sample: 100% }
    - { name: weather, peer: "10.*", traces_per_second: 100 }
    - tool: ["create_*", "delete_*"]
      prompt: p
      resource: file:///*
      method: tools/*
      host: "*.svc"
      path: /mcp
      header: { X-Tier: gold }
      baggage: { customer.id: ["7", "8"] }
      sample: 50%
      traces_per_second: 2.5
      root: true
limits:
  body_bytes: 2MiB
  held_bytes: 3MiB
  event_bytes: 65536
  head_bytes: 16KiB
  headers: 64
  connections: 100
  concurrent_streams: 10
  handshake_timeout: 8s
  head_timeout: 1s
  body_wait: 2s
  body_gap: 3ms
  connect_timeout: 4s
  response_timeout: 5m
  drain_timeout: 6s
  flush_timeout: 9s
  expect_timeout: 7ms
  pending: 99
  pending_timeout: 800ms
  stream_spans: 12
"#,
    )
    .unwrap();
    let rule = IgnoreRule { path: Some(Glob::new("/healthz")), ..IgnoreRule::default() };
    assert!(!config.spans.http && config.spans.notifications);
    assert_eq!((config.spans.ignore.len(), &config.spans.ignore[0]), (2, &rule));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expect = Propagation {
        parent: Preference::Header,
        trust_inbound: false,
        write_meta: false,
        inference: Inference::Links,
        to: Destinations::Hosts(vec![Glob::new("api.example.com"), Glob::new("10.*")]),
        baggage_set: vec![pair("mcp.mesh.agent", "weather/1"), pair("team", "blue")],
        ..Propagation::default()
    };
    assert_eq!(config.propagation, expect);
    let pair = |folder: &str| Identity {
        certificate: format!("/{folder}/tls.crt").into(),
        key: format!("/{folder}/tls.key").into(),
    };
    let expect = Tls {
        inbound: Some(ServerFiles { identity: pair("a"), client_ca: Some("/a/ca.crt".into()) }),
        originate: vec![
            Originate { host: Glob::new("api.example.com"), port: None },
            Originate { host: Glob::new("*.corp.example"), port: Some(8443) },
        ],
        ca: Some("/b/ca.crt".into()),
        client: Some(pair("c")),
    };
    assert_eq!(config.tls, expect);
    let text: Vec<String> = config.sampling.rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "100 % (rule critical)",
            "at most 100 a second where peer is 10.* (rule weather)",
            "50 %, at most 2.5 a second, where tool is create_* or delete_* and prompt is p and resource is file:///* \
             and method is tools/* and host is *.svc and path is /mcp and header x-tier is gold \
             and baggage customer.id is 7 or 8 whatever the parent decided",
        ]
    );
    assert_eq!(config.sampling.rules[0].agent, [Glob::new("payment-agent"), Glob::new("auth-agent")]);
    assert_eq!(config.sampling.max_per_second, Some(1_000.0));
    let keep =
        crate::trace::sampler_config::Keep { errors: true, slower_than: Some(Duration::from_millis(500)) };
    assert_eq!(config.sampling.keep, Some(keep));
    let attributes = &config.attributes;
    assert_eq!(attributes.from_header, [("x-customer-tier".parse().unwrap(), "customer.tier".to_owned())]);
    assert_eq!(attributes.from_baggage, [("customer.id".to_owned(), "customer.id".to_owned())]);
    let argument = &attributes.from_argument[0];
    assert_eq!(
        (argument.0.tool.as_str(), &*argument.0.name, &*argument.1),
        ("a.b", "location", "weather.location")
    );
    assert!(attributes.capture_arguments);
    let expect = Limits {
        max_body_bytes: 2 << 20,
        held_bytes: 3 << 20,
        max_event_bytes: 65_536,
        max_head_bytes: 16_384,
        max_headers: 64,
        max_connections: 100,
        max_concurrent_streams: 10,
        handshake_timeout: Duration::from_secs(8),
        head_timeout: Duration::from_secs(1),
        body_wait: Duration::from_secs(2),
        body_gap: Duration::from_millis(3),
        connect_timeout: Duration::from_secs(4),
        response_timeout: Duration::from_secs(300),
        drain_timeout: Duration::from_secs(6),
        flush_timeout: Duration::from_secs(9),
        expect_timeout: Duration::from_millis(7),
        pending: 99,
        pending_timeout: Duration::from_millis(800),
        stream_spans: 12,
    };
    assert_eq!(config.limits, expect);
}

#[test]
fn what_a_file_leaves_out_stays_at_its_default() {
    for text in
        ["", "# nothing\n", "spans:\nlimits:\n", "limits: {}\n", "---\n", "{}", "limits: { headers: }"]
    {
        let config = from_file(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(config.limits, Limits::default(), "{text:?}");
        assert_eq!(config.propagation, Propagation::for_service("weather"), "{text:?}");
    }
    let config = from_file("spans: { ignore: [] }\npropagation: { baggage: { set: {} } }").unwrap();
    assert_eq!(config.spans.ignore, []);
    assert_eq!(config.propagation.baggage_set, []);
}

/// Settings that cannot be used, and the whole line that says so.
#[test]
fn every_wrong_flag_and_variable_is_one_clear_line() {
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        (
            &[],
            &[],
            "nothing to listen for: give --inbound LISTEN=APP (or MESHTRACE_INBOUND), --outbound LISTEN[=URL] (or MESHTRACE_OUTBOUND), or both; or --redirected where `meshtrace capture install` steers traffic here",
        ),
        (
            &["--inbound=0.0.0.0:8000"],
            &[],
            "--inbound \"0.0.0.0:8000\": expected LISTEN=APP, such as 0.0.0.0:8000=127.0.0.1:8080",
        ),
        (
            &["--inbound=8000=127.0.0.1:1"],
            &[],
            "--inbound \"8000=127.0.0.1:1\": expected an address to listen on, such as 0.0.0.0:8000 or [::]:8000",
        ),
        (
            &["--inbound=0.0.0.0:8000=http://a:1"],
            &[],
            "--inbound \"0.0.0.0:8000=http://a:1\": expected a host with its port, such as 127.0.0.1:8080, after the =",
        ),
        (
            &[],
            &[("MESHTRACE_INBOUND", "0.0.0.0:1=a:1,x")],
            "MESHTRACE_INBOUND \"x\": expected LISTEN=APP, such as 0.0.0.0:8000=127.0.0.1:8080",
        ),
        (
            &["--outbound=x"],
            &[],
            "--outbound \"x\": expected an address to listen on, such as 0.0.0.0:8000 or [::]:8000",
        ),
        (
            &["--outbound=127.0.0.1:1=ftp://api"],
            &[],
            "--outbound \"127.0.0.1:1=ftp://api\": expected an http:// or https:// URL with a host, and no user, query or fragment, after the =",
        ),
        (
            &["--outbound=127.0.0.1:1=http://u:secret@api"],
            &[],
            "--outbound \"127.0.0.1:1=http://REDACTED@api\": expected an http:// or https:// URL with a host, and no user, query or fragment, after the =",
        ),
        (
            &["--inbound=http://0.0.0.0:1=a:1"],
            &[],
            "--inbound \"http://0.0.0.0:1=a:1\": expected nothing or https:// before the address to listen on",
        ),
        (
            &["--inbound=https://0.0.0.0:1=a:1"],
            &[],
            "--inbound https://0.0.0.0:1: it needs a certificate: give --inbound-tls CERTIFICATE,KEY (or MESHTRACE_INBOUND_TLS, or tls.inbound in the file)",
        ),
        (
            &[INBOUND],
            &[("MESHTRACE_INBOUND_TLS", "a,b")],
            "a certificate for inbound TLS is given and no listener uses it: write --inbound https://LISTEN=APP",
        ),
        (
            &["--inbound=https://0.0.0.0:1=a:1"],
            &[("MESHTRACE_INBOUND_TLS", "a")],
            "MESHTRACE_INBOUND_TLS \"a\": expected CERTIFICATE,KEY or CERTIFICATE,KEY,CLIENT_CA: PEM files with commas between them",
        ),
        (
            &[INBOUND],
            &[("MESHTRACE_TLS_ORIGINATE", "a, https://b")],
            "MESHTRACE_TLS_ORIGINATE \"https://b\": expected a host, with the port where it speaks TLS if that is not 443",
        ),
        (
            &[INBOUND],
            &[("MESHTRACE_TLS_CLIENT", "a,")],
            "MESHTRACE_TLS_CLIENT \"a,\": expected CERTIFICATE,KEY: two PEM files with a comma between them",
        ),
        (
            &[INBOUND],
            &[("MESHTRACE_STOP_AFTER", "8080, app:1")],
            "MESHTRACE_STOP_AFTER \"app:1\": expected a port of this pod, or an address with its port, such as 8080 or 127.0.0.1:8080",
        ),
        (
            &[INBOUND],
            &[("MESHTRACE_DRAIN_TIMEOUT", "5")],
            "MESHTRACE_DRAIN_TIMEOUT \"5\": expected a time from 0s to 1h with its unit, such as 500ms, 5s or 1h",
        ),
        (
            &[],
            &[("MESHTRACE_OUTBOUND", "127.0.0.1")],
            "MESHTRACE_OUTBOUND \"127.0.0.1\": expected an address to listen on, such as 0.0.0.0:8000 or [::]:8000",
        ),
        (
            &[INBOUND, "--admin=14020"],
            &[],
            "--admin \"14020\": expected an address to listen on, such as 0.0.0.0:8000 or [::]:8000, or off",
        ),
        (
            &[INBOUND],
            &[("MESHTRACE_ADMIN", "on")],
            "MESHTRACE_ADMIN \"on\": expected an address to listen on, such as 0.0.0.0:8000 or [::]:8000, or off",
        ),
        (&[INBOUND, "--workers=0"], &[], "--workers \"0\": expected a whole number from 1 to 64"),
        (
            &[INBOUND],
            &[("MESHTRACE_WORKERS", "two")],
            "MESHTRACE_WORKERS \"two\": expected a whole number from 1 to 64",
        ),
        (&[INBOUND, "--access-log=on"], &[], "--access-log \"on\": expected off or json"),
        (
            &[INBOUND],
            &[("MESHTRACE_ACCESS_LOG", "xml")],
            "MESHTRACE_ACCESS_LOG \"xml\": expected off or json",
        ),
        (&[INBOUND, "--log-format=xml"], &[], "--log-format \"xml\": expected text or json"),
        (
            &[INBOUND],
            &[("MESHTRACE_LOG_FORMAT", "pretty")],
            "MESHTRACE_LOG_FORMAT \"pretty\": expected text or json",
        ),
        (
            &[INBOUND, "--admin=0.0.0.0:8000"],
            &[],
            "0.0.0.0:8000 is given twice, by --inbound and --admin: each needs its own port",
        ),
        (
            &[INBOUND, "--outbound=0.0.0.0:8000"],
            &[],
            "0.0.0.0:8000 is given twice, by --inbound and --outbound: each needs its own port",
        ),
        (
            &["--inbound=0.0.0.0:8000=localhost:8000"],
            &[],
            "--inbound \"0.0.0.0:8000=localhost:8000\": it would forward to itself; the target needs another port",
        ),
        (
            &["--outbound=127.0.0.1:80=http://127.0.0.1"],
            &[],
            "--outbound \"127.0.0.1:80=127.0.0.1:80\": it would forward to itself; the target needs another port",
        ),
        (
            &[INBOUND],
            &[("OTEL_CONFIG_FILE", "x")],
            "OTEL_CONFIG_FILE is set: meshtrace does not read OpenTelemetry configuration files; use OTEL_* variables, or --config for a file of meshtrace's own",
        ),
        (
            &[INBOUND],
            &[("OTEL_EXPERIMENTAL_CONFIG_FILE", "x")],
            "OTEL_EXPERIMENTAL_CONFIG_FILE is set: meshtrace does not read OpenTelemetry configuration files; use OTEL_* variables, or --config for a file of meshtrace's own",
        ),
        (
            &[INBOUND],
            &[("OTEL_TRACES_EXPORTER", "zipkin")],
            "OTEL_TRACES_EXPORTER: the zipkin exporter is not supported; send OTLP to a collector that speaks Zipkin",
        ),
        (
            &[INBOUND],
            &[("OTEL_PROPAGATORS", "xray")],
            "OTEL_PROPAGATORS \"xray\": expected a list of tracecontext, baggage, b3 and b3multi, or none; there is no xray propagator",
        ),
    ];
    for (flags, variables, line) in cases {
        let error = load(flags, variables, None).unwrap_err().to_string();
        assert_eq!(error, *line);
    }
}

#[test]
fn every_wrong_line_of_the_file_is_named_with_its_place() {
    let host = "expected a host without a port, such as *.example.com or 10.1.2.3";
    let rule = "expected one of path, user_agent, method, host, task_status";
    let root = "expected one of spans, propagation, tls, attributes, sampling, limits, opaque_ports";
    let rate = "expected a number of traces each second from 0.001 to 1000000";
    let cases = [
        ("limit: {}\n", format!("1:1: unknown key \"limit\": {root}")),
        ("spans: {}\n\nsample: {}\n", format!("3:1: unknown key \"sample\": {root}")),
        ("sampling: { rule: [] }\n", "1:13: unknown key \"rule\": expected one of max_traces_per_second, rules, keep".into()),
        ("sampling: { keep: { errors: perhaps } }\n", "1:29: sampling.keep errors \"perhaps\": expected true or false".into()),
        ("sampling: { keep: { slower_than: 5 } }\n", "1:34: sampling.keep slower_than \"5\": expected a time from 1ms to 1h with its unit, such as 500ms, 5s or 1h".into()),
        ("attributes: { from_headers: {} }\n", "1:15: unknown key \"from_headers\": expected one of from_header, from_baggage, from_argument, capture_arguments".into()),
        ("attributes: { from_header: { cookie: a } }\n", "1:38: attributes.from_header \"cookie\": expected a header field that holds no credentials".into()),
        ("attributes: { from_header: { x: 'a b' } }\n", "1:33: attributes.from_header \"a b\": expected the name of an attribute: 1 to 128 letters, digits and ._-".into()),
        ("attributes: { from_baggage: { 'a b': c } }\n", "1:38: attributes.from_baggage \"a b\": expected a baggage name of letters, digits and -._~!#$%&'*+^`|".into()),
        ("attributes: { from_argument: { location: c } }\n", "1:42: attributes.from_argument \"location\": expected TOOL.ARGUMENT, such as weather_forecast.location".into()),
        ("attributes: { capture_arguments: some }\n", "1:34: attributes.capture_arguments \"some\": expected true or false".into()),
        ("sampling: { max_traces_per_second: none }\n", format!("1:36: sampling.max_traces_per_second \"none\": {rate}")),
        ("sampling:\n  rules:\n    - { tool: a }\n", "3:7: sampling.rules: expected sample or traces_per_second in each rule".into()),
        ("sampling: { rules: [{ sample: 5 }] }\n", "1:31: sampling.rules sample \"5\": expected a share from 0% to 100%, such as 100%, 0.5% or 0.005".into()),
        ("sampling: { rules: [{ traces_per_second: 0 }] }\n", format!("1:42: sampling.rules traces_per_second \"0\": {rate}")),
        ("sampling: { rules: [{ sample: 1%, tool: [] }] }\n", "1:41: sampling.rules tool: expected 1 to 256 patterns".into()),
        ("sampling: { rules: [{ sample: 1%, tool: [a, ''] }] }\n", "1:45: sampling.rules tool \"\": expected a pattern, in which * stands for any text and ? for one character".into()),
        ("sampling: { rules: [{ sample: 1%, tool: { a: b } }] }\n", "1:41: map: expected a pattern in quotes, or a list of them in brackets".into()),
        ("sampling: { rules: [{ sample: 1%, host: 'a:80' }] }\n", format!("1:41: sampling.rules host \"a:80\": {host}")),
        ("sampling: { rules: [{ sample: 1%, header: { 'a b': c } }] }\n", "1:52: sampling.rules \"a b\": expected the name of a header field".into()),
        ("sampling: { rules: [{ sample: 1%, header: { Authorization: c } }] }\n", "1:60: sampling.rules \"Authorization\": expected a header field that holds no credentials".into()),
        ("sampling: { rules: [{ sample: 1%, baggage: { 'a b': c } }] }\n", "1:53: sampling.rules \"a b\": expected a baggage name of letters, digits and -._~!#$%&'*+^`|".into()),
        ("sampling: { rules: [{ sample: 1%, name: 'é' }] }\n", "1:41: sampling.rules name \"é\": expected a name of 1 to 64 plain ASCII characters".into()),
        ("sampling: { rules: [{ sample: 1%, root: maybe }] }\n", "1:41: sampling.rules root \"maybe\": expected true or false".into()),
        ("spans:\n  htp: true\n", "2:3: unknown key \"htp\": expected one of http, notifications, tls, ignore".into()),
        ("spans: { ignore: [{ paths: /a }] }\n", format!("1:21: unknown key \"paths\": {rule}")),
        ("spans: { ignore: [{}] }\n", "1:19: spans.ignore: expected at least one of path, user_agent, method, host, task_status".into()),
        ("spans:\n  ignore:\n    - path: health\n", "3:13: spans.ignore path \"health\": expected a path that starts with /, in which * stands for any text".into()),
        ("spans: { ignore: [{ method: '' }] }\n", "1:29: spans.ignore method \"\": expected a pattern, in which * stands for any text and ? for one character".into()),
        ("spans: { ignore: [{ host: 'a:80' }] }\n", format!("1:27: spans.ignore host \"a:80\": {host}")),
        ("spans: { http: yes }\n", "1:16: spans.http \"yes\": expected true or false".into()),
        ("spans: { tls: 1 }\n", "1:15: spans.tls \"1\": expected true or false".into()),
        ("propagation: { parent: both }\n", "1:24: propagation.parent \"both\": expected meta or header".into()),
        ("propagation: { inference: on }\n", "1:27: propagation.inference \"on\": expected guarded, links or off".into()),
        ("propagation: { to: public }\n", "1:20: propagation.to \"public\": expected private, all, or a list of hosts in brackets".into()),
        ("propagation: { to: 7 }\n", "1:16: integer `7`: expected private, all, or a list of hosts in brackets".into()),
        ("propagation:\n  to:\n  - a\n  - http://b\n", format!("4:5: propagation.to \"http://b\": {host}")),
        ("propagation: { baggage: { set: { 'a b': c } } }\n", "1:41: propagation.baggage.set \"a b\": expected a baggage name of letters, digits and -._~!#$%&'*+^`|".into()),
        ("propagation: { baggage: { set: { a: '${pod}' } } }\n", "1:37: propagation.baggage.set \"${pod}\": expected ${service.name}, the only thing that ${…} can stand for".into()),
        ("propagation: { inferenec: off }\n", "1:16: unknown key \"inferenec\": expected one of parent, trust_inbound, write_meta, inference, to, baggage".into()),
        ("tls: { originate: [a, 'b:0'] }\n", "1:23: tls.originate \"b:0\": expected a host, with the port where it speaks TLS if that is not 443".into()),
        ("tls:\n  inbound: { certificate: a }\n", "2:12: tls.inbound: expected certificate and key, both".into()),
        ("tls:\n  client: { key: a }\n", "2:11: tls.client: expected certificate and key, both".into()),
        ("tls: { ca: '' }\n", "1:12: tls.ca \"\": expected the path of a file".into()),
        ("limits: { body_bytes: 1XB }\n", "1:23: limits.body_bytes \"1XB\": expected a size from 0B to 64MiB, such as 64KiB, 1MiB or 1MB".into()),
        ("limits: { head_bytes: 1KiB }\n", "1:23: limits.head_bytes \"1KiB\": expected a size from 8KiB to 1MiB, such as 64KiB, 1MiB or 1MB".into()),
        ("limits: { headers: -1 }\n", "1:20: limits.headers \"-1\": expected a whole number from 16 to 4096".into()),
        ("limits: { connect_timeout: 5 }\n", "1:28: limits.connect_timeout \"5\": expected a time from 1ms to 10m with its unit, such as 500ms, 5s or 1h".into()),
        ("limits:\n  headers: 20\n  headers: 30\n", "3:3: key \"headers\" is given twice".into()),
        ("limits: 3\n", "1:9: expected keys with values, as in key: value".into()),
        ("spans: { ignore: /healthz }\n", "1:18: expected a list, as in [a, b]".into()),
        ("spans: { http: [true] }\n", "1:16: expected string scalar".into()),
    ];
    for (text, line) in cases {
        let error = from_file(text).unwrap_err().to_string();
        assert_eq!(error, format!("m.yaml:{line}"), "{text}");
    }
}

/// Broken YAML is reported in the words of the YAML library: only the place
/// and the single line are ours to promise.
#[test]
fn broken_yaml_is_one_line_with_its_place() {
    let deep = "[".repeat(10_000);
    let many = "a: &a [x,x]\n".to_owned() + &"b: [*a,*a]\n".repeat(50);
    let texts =
        ["limits: [", "a: b: c", "\t- x", "limits: 3", "- a", "x", "--- {}\n--- {}", "*a", "a: !!binary x"];
    for text in texts.into_iter().chain([deep.as_str(), many.as_str()]) {
        let error = from_file(text).unwrap_err();
        let line = error.to_string();
        assert!(matches!(error.origin(), Origin::File(_, Some(_))), "{line}");
        assert!(line.starts_with("m.yaml:") && !line.contains('\n'), "{line}");
        println!("{line}");
    }
}

#[test]
fn the_file_is_found_by_flag_and_by_variable() {
    let missing = Flags {
        inbound: vec!["0.0.0.0:1=a:1".to_owned()],
        config: Some("/nonexistent/meshtrace.yaml".into()),
        ..Flags::default()
    };
    let error = Config::load(&missing, &|_| None).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/meshtrace.yaml: cannot be opened"), "{error}");
    let variables = [("MESHTRACE_CONFIG", "/nonexistent/other.yaml")];
    let error = load(&[INBOUND], &variables, None).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/other.yaml: cannot be opened"), "{error}");
}

#[test]
fn a_file_has_a_limit_and_must_be_text() {
    let path = std::env::temp_dir().join(format!("meshtrace-config-{}.yaml", std::process::id()));
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        file::read(&path).map_err(|error| error.to_string())
    };
    assert_eq!(read(b"limits: {}").as_deref(), Ok("limits: {}"));
    assert!(read(&vec![b'#'; MAX_FILE_BYTES as usize]).is_ok());
    assert!(read(&vec![b'#'; MAX_FILE_BYTES as usize + 1]).is_err_and(|e| e.contains("is longer than")));
    assert!(read(b"a: \xff").is_err_and(|e| e.contains("is not UTF-8")));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn wrong_standard_variables_are_warned_about_and_ignored() {
    let variables = [
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_LOG_LEVEL", "loud"),
        ("OTEL_PROPAGATORS", "pigeon,tracecontext"),
        ("OTEL_SDK_DISABLED", "1"),
    ];
    let named = [("OTEL_SERVICE_NAME", "weather")];
    let config = load(&[INBOUND], &[&named[..], &variables].concat(), None).unwrap();
    assert_eq!(config.warnings.len(), variables.len(), "{:?}", config.warnings);
    for (name, _) in variables {
        assert!(config.warnings.iter().any(|line| line.starts_with(name)), "{name}");
    }
    assert_eq!(config.sampling, SamplingConfig::default());
    assert!(!config.sdk_disabled && !config.propagation.formats.baggage);
}

#[test]
fn the_summary_names_what_is_in_force() {
    let flags = [INBOUND, "--outbound=127.0.0.1:1", "--outbound=127.0.0.1:2=http://up", "--workers=2"];
    let variables = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.01")];
    let config = load(&flags, &variables, None).unwrap();
    let expect = "\
inbound 0.0.0.0:8000 to 127.0.0.1:8080
outbound 127.0.0.1:1 as a forward proxy
outbound 127.0.0.1:2 to http://up:80
admin [::]:14020, 2 worker(s)
service unknown_service:meshtrace
records 1 % of traces, chosen by trace id, whatever the parent decided
propagates tracecontext, baggage to private destinations; _meta wins over headers
limits body_bytes=1MiB held_bytes=64MiB event_bytes=1MiB head_bytes=64KiB headers=100 connections=16384 concurrent_streams=256 pending=16384 stream_spans=1000 handshake_timeout=10s head_timeout=30s body_wait=5s body_gap=5ms connect_timeout=5s response_timeout=1h drain_timeout=20s flush_timeout=5s expect_timeout=1s pending_timeout=1h";
    assert_eq!(config.summary().join("\n"), expect);
}

/// A file on disk, and what a look at it brings after each change.
#[test]
fn a_file_that_changes_is_taken_over_or_refused_once() {
    use super::reload::Change;
    let path = std::env::temp_dir().join(format!("meshtrace-reload-{:032x}.yaml", Ids::new().random()));
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("sampling: { rules: [{ sample: 1% }] }");
    let flags =
        Flags { config: Some(path.clone()), inbound: vec!["0.0.0.0:1=a:1".into()], ..Flags::default() };
    let config = Config::load(&flags, &|_| None).unwrap();
    let mut file = config.file.clone().unwrap();
    let mut look = || file.look(&config.sampling);
    assert_eq!(look(), Change::Nothing);
    write("sampling: { rules: [{ sample: 2% }] }");
    match look() {
        Change::New { sampling, restart, .. } => {
            assert_eq!((sampling.rules[0].share, restart), (Some(0.02), vec![]));
            assert_eq!(sampling.fallback, config.sampling.fallback);
        }
        other => panic!("{other:?}"),
    }
    write("sampling: { rules: [{ sample: 2 }] }");
    match look() {
        Change::Refused(error) => assert!(error.to_string().contains(":1:31: "), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(look(), Change::Nothing, "said once");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(look(), Change::Refused(_)), "gone is another way of being bad");
    assert_eq!(look(), Change::Nothing);
    write("limits: { headers: 50 }\npropagation: { to: all }\nspans: { http: false }");
    match look() {
        Change::New { spans, sampling, restart, .. } => {
            assert!(!spans.http && sampling.rules.is_empty());
            assert_eq!(restart, ["propagation", "limits"]);
        }
        other => panic!("{other:?}"),
    }
    write("spans: { http: false }");
    assert!(
        matches!(look(), Change::New { restart, .. } if restart.is_empty()),
        "back at what it began with"
    );
    std::fs::remove_file(&path).unwrap();
}

/// Seeded mutations of a valid file: whatever stands in it, the answer is
/// settings or one line.
#[test]
fn hostile_files_never_panic() {
    let seed = "spans: { http: true, ignore: [{ path: /h }] }\nsampling: { rules: [{ tool: [a], header: { x: y }, sample: 1% }] }\npropagation:\n  to: [a]\n  baggage: { set: { a: b } }\nlimits: { body_bytes: 1MiB, body_wait: 5s }\n";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..3_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = b"\n\t {}[]:,-&*!|>'\"%@`#?\\\0a0"[random(26)],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random(128) as u8),
            }
        }
        if let Ok(text) = String::from_utf8(bytes)
            && let Err(error) = file::parse(Path::new("m.yaml"), &text, "s")
        {
            assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn the_stop_is_bounded_by_flag_variable_and_file() {
    let second = Duration::from_secs;
    let config = from_file("limits: { drain_timeout: 1s, flush_timeout: 2s }").unwrap();
    assert_eq!((config.limits.drain_timeout, config.limits.flush_timeout), (second(1), second(2)));
    let file = Scratch::new("limits: { drain_timeout: 1s, flush_timeout: 2s }");
    let variables = [("MESHTRACE_DRAIN_TIMEOUT", "3s"), ("MESHTRACE_CONFIG", file.0.to_str().unwrap())];
    let config = load(&[INBOUND], &variables, None).unwrap();
    assert_eq!((config.limits.drain_timeout, config.limits.flush_timeout), (second(3), second(2)));
    let config = load(&[INBOUND, "--drain-timeout=4s", "--flush-timeout=5s"], &variables, None).unwrap();
    assert_eq!((config.limits.drain_timeout, config.limits.flush_timeout), (second(4), second(5)));
    let whole = Limits::default().drain_timeout + Limits::default().flush_timeout;
    assert!(whole <= second(25), "it has to fit in the 30 s that Kubernetes gives");
}

#[test]
fn a_port_to_stop_after_is_one_of_the_pod() {
    let after = |variables: &[(&str, &str)]| {
        let config = load(&[INBOUND], variables, None).unwrap();
        config.stop_after.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(after(&[]).is_empty());
    let pod = ("POD_IP", "fd00::7");
    assert_eq!(after(&[("MESHTRACE_STOP_AFTER", "8080")]), ["127.0.0.1:8080"]);
    assert_eq!(after(&[("MESHTRACE_STOP_AFTER", "8080"), pod]), ["127.0.0.1:8080", "[fd00::7]:8080"]);
    let both = after(&[("MESHTRACE_STOP_AFTER", "10.0.0.1:1, [::1]:2"), pod]);
    assert_eq!(both, ["10.0.0.1:1", "[::1]:2"]);
}

/// A file that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("meshtrace-config-{:032x}.yaml", Ids::new().random()));
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
