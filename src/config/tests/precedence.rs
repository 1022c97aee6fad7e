//! Which of flag, variable and default counts, and how it is said.

use super::*;
use crate::proxy::settings::Authority;

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
