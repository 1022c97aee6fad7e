//! Files that can be used, and how a changed one is taken over.

use super::*;
use crate::config::reload::Change;
use crate::net::tls::{Identity, ServerFiles};
use crate::proxy::settings::{Destinations, IgnoreRule, Originate, Preference};
use crate::trace::glob::Glob;
use crate::trace::links::Inference;

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

/// A file on disk, and what a look at it brings after each change.
#[test]
fn a_file_that_changes_is_taken_over_or_refused_once() {
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
