//! Help, and everything that ends the program before it serves.

use std::net::{Ipv4Addr, TcpListener};

use super::process::run;
use crate::support::mesh::Scratch;

const INBOUND: [&str; 2] = ["--inbound", "127.0.0.1:0=127.0.0.1:9"];

const CAPTURE_WORDS: [&str; 22] = [
    "--inbound-ports",
    "--skip-inbound-ports",
    "--skip-outbound-ports",
    "--outbound-cidrs",
    "--skip-outbound-cidrs",
    "--capture-loopback-ports",
    "--mesh-uid",
    "--uid",
    "--redirected-inbound",
    "--redirected-outbound",
    "--admin",
    "MESHTRACE_INBOUND_PORTS",
    "MESHTRACE_SKIP_INBOUND_PORTS",
    "MESHTRACE_SKIP_OUTBOUND_PORTS",
    "MESHTRACE_OUTBOUND_CIDRS",
    "MESHTRACE_SKIP_OUTBOUND_CIDRS",
    "MESHTRACE_CAPTURE_LOOPBACK_PORTS",
    "MESHTRACE_MESH_UID",
    "MESHTRACE_UID",
    "14006",
    "14001",
    "14100",
];

#[tokio::test]
async fn pause_waits_for_a_signal() {
    for signal in ["TERM", "INT"] {
        let pause = super::process::Process::start(&["pause"], &[]);
        pause.says("holding").await;
        pause.signal(signal);
        let done = pause.exit().await;
        assert_eq!((done.code, done.out.as_str()), (Some(0), ""));
    }
}

#[tokio::test]
async fn what_cannot_be_captured_exits_2_and_says_what_is_allowed() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 10] = [
        (&["capture", "print", "--inbound-ports", "http"], &[], "such as 8080,9000-9010, or none, or *"),
        (&["capture", "print", "--skip-outbound-ports", "0"], &[], "--skip-outbound-ports \"0\": expected"),
        (
            &["capture", "print"],
            &[("MESHTRACE_SKIP_OUTBOUND_CIDRS", "10.0.0.0/40")],
            "MESHTRACE_SKIP_OUTBOUND_CIDRS",
        ),
        (&["capture", "print", "--uid", "0"], &[], "the number of a user, from 1"),
        (&["capture", "print", "--uid", "1337", "--mesh-uid", "1337"], &[], "a user of its own"),
        (&["capture", "print", "--redirected-inbound", "14001"], &[], "each needs its own port"),
        (
            &["capture", "print", "--admin", "[::]:14006"],
            &[],
            "--admin has the port of a redirected listener",
        ),
        (&["proxy", "--redirected", "--inbound-ports", "80"], &[], "needs --capture"),
        (&["proxy"], &[("MESHTRACE_REDIRECTED", "perhaps")], "true or false"),
        (&["proxy", "--redirected", "--opaque-ports", "x"], &[], "--opaque-ports \"x\": expected"),
    ];
    for (args, env, says) in cases {
        let done = run(args, env).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}: {}", done.err);
        assert!(done.err.contains(says) && done.err.lines().count() == 1, "{args:?}: {}", done.err);
    }
}

#[tokio::test]
async fn help_of_each_command() {
    let commands: [(&[&str], &[&str]); 12] = [
        (&["--help"], &["proxy", "demo", "wait", "inject", "Exit codes"]),
        (&["-h"], &["proxy", "demo", "wait"]),
        (
            &["proxy", "--help"],
            &[
                "--inbound",
                "--outbound",
                "--admin",
                "--inbound-tls",
                "--tls-originate",
                "--tls-ca",
                "--tls-client",
                "--stop-after",
                "--drain-timeout",
                "--flush-timeout",
                "MESHTRACE_APP_PROBES",
                "--config",
                "--workers",
                "--access-log",
                "--log-format",
                "MESHTRACE_INBOUND",
                "MESHTRACE_OUTBOUND",
                "MESHTRACE_ADMIN",
                "MESHTRACE_CONFIG",
                "MESHTRACE_WORKERS",
                "OTEL_SERVICE_NAME",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "OTEL_TRACES_SAMPLER",
                "OTEL_PROPAGATORS",
                "SIGTERM",
                "14020",
            ],
        ),
        (&["demo", "--help"], &["--once"]),
        (&["capture", "--help"], &["install", "print", "remove", "NET_ADMIN", "nftables"]),
        (&["capture", "install", "--help"], &CAPTURE_WORDS),
        (&["capture", "print", "--help"], &CAPTURE_WORDS),
        (&["pause", "--help"], &["SIGTERM", "namespace"]),
        (
            &["inject", "--help"],
            &["--filename", "--undo", "--set", "--image", "--kubernetes-version", "--uid"],
        ),
        (
            &["injector", "--help"],
            &["--listen", "--admin", "--certificate", "--key", "--name", "--namespace", "--set"],
        ),
        (&["install", "--help"], &["--mode", "cert-manager", "policy", "--namespace", "--set", "--image"]),
        (&["wait", "--help"], &["--admin", "--timeout", "MESHTRACE_ADMIN", "60s"]),
    ];
    for (args, words) in commands {
        let done = run(args, &[]).await;
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}");
        for word in words {
            assert!(done.out.contains(word), "{word} is not in the help of {args:?}:\n{}", done.out);
        }
    }
}

#[tokio::test]
async fn version() {
    let done = run(&["--version"], &[]).await;
    assert_eq!(done.code, Some(0));
    assert_eq!(done.out, format!("meshtrace {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn wrong_command_lines_exit_2() {
    let lines: [&[&str]; 6] = [
        &[],
        &["proxi"],
        &["proxy", "--imbound", "x"],
        &["proxy", "--inbound"],
        &["demo", "twice"],
        &["wait", "--timeout"],
    ];
    for args in lines {
        let done = run(args, &[]).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?} {done:?}");
        assert!(done.err.contains("Usage") || done.err.contains("--help"), "{}", done.err);
    }
}

#[tokio::test]
async fn nothing_to_listen_for_exits_2_and_names_the_flags() {
    for env in [vec![], vec![("MESHTRACE_INBOUND", " , ")]] {
        let done = run(&["proxy"], &env).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
        for flag in ["--inbound", "--outbound"] {
            assert!(done.err.contains(flag), "{}", done.err);
        }
        assert_eq!(done.err.trim_end().lines().count(), 1, "{}", done.err);
    }
}

/// Exit 2 with one line that says where the value stands and quotes it.
async fn refused(args: &[&str], env: &[(&str, &str)], says: &[&str]) {
    let args: Vec<&str> = [&["proxy", "--admin", "off"], args].concat();
    let done = run(&args, env).await;
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?} {env:?} {done:?}");
    assert_eq!(done.err.trim_end().lines().count(), 1, "{}", done.err);
    for text in says {
        assert!(done.err.contains(text), "{text} is not in: {}", done.err);
    }
}

#[tokio::test]
async fn values_that_cannot_be_used_exit_2() {
    refused(&["--inbound", "8000"], &[], &["--inbound", "8000"]).await;
    refused(&["--inbound", "127.0.0.1:8000=nowhere"], &[], &["--inbound", "nowhere"]).await;
    refused(&["--outbound", "127.0.0.1:1=ftp://a"], &[], &["--outbound", "ftp://a"]).await;
    refused(&["--inbound", "127.0.0.1:8000=127.0.0.1:8000"], &[], &["--inbound", "itself"]).await;
    let twice = ["--inbound", "127.0.0.1:8000=a:1", "--outbound", "127.0.0.1:8000"];
    refused(&twice, &[], &["127.0.0.1:8000", "--inbound", "--outbound"]).await;
    refused(&[INBOUND[0], INBOUND[1], "--workers", "0"], &[], &["--workers", "1"]).await;
    refused(&[], &[("MESHTRACE_INBOUND", "x")], &["MESHTRACE_INBOUND", "x"]).await;
    refused(&INBOUND, &[("MESHTRACE_WORKERS", "many")], &["MESHTRACE_WORKERS", "many"]).await;
}

#[tokio::test]
async fn variables_that_are_not_carried_out_exit_2_and_are_named() {
    for (name, value, says) in [
        ("OTEL_CONFIG_FILE", "/etc/otel.yaml", "OTEL_CONFIG_FILE"),
        ("OTEL_PROPAGATORS", "tracecontext,xray", "xray"),
        ("OTEL_PROPAGATORS", "jaeger", "jaeger"),
        ("OTEL_PROPAGATORS", "ottrace", "ottrace"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "zipkin"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    ] {
        refused(&INBOUND, &[(name, value)], &[name, says]).await;
    }
}

#[tokio::test]
async fn a_wrong_file_exits_2_with_line_and_column() {
    for (text, place, says) in [
        ("spans:\n  http: true\n  htpp: no\n", ":3:3:", "htpp"),
        ("propagation:\n  parent: both\n", ":2:11:", "meta or header"),
        ("limits: { body_bytes: 1TiB }", ":1:23:", "1TiB"),
        ("spans: [\n", ":", "meshtrace-it-"),
        ("propagation:\n  to: [a, 'b c']\n", ":2:11:", "b c"),
    ] {
        let file = Scratch::new(text);
        let path = file.0.to_str().unwrap();
        refused(&[INBOUND[0], INBOUND[1], "--config", path], &[], &[&format!("{path}{place}"), says]).await;
        refused(&INBOUND, &[("MESHTRACE_CONFIG", path)], &[&format!("{path}{place}"), says]).await;
    }
    refused(&[INBOUND[0], INBOUND[1], "--config", "/does/not/exist.yaml"], &[], &["/does/not/exist.yaml"])
        .await;
}

#[tokio::test]
async fn an_address_in_use_exits_1_and_names_address_and_flag() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let inbound = format!("{address}=127.0.0.1:9");
    let lines: [(&str, Vec<&str>); 3] = [
        ("--inbound", vec!["--inbound", &inbound, "--admin", "off"]),
        ("--outbound", vec!["--outbound", &address, "--admin", "off"]),
        ("--admin", vec!["--inbound", INBOUND[1], "--admin", &address]),
    ];
    for workers in ["1", "2"] {
        for (flag, args) in &lines {
            let args = [&["proxy", "--workers", workers], &args[..]].concat();
            let done = run(&args, &[("OTEL_LOG_LEVEL", "error"), ("OTEL_TRACES_EXPORTER", "none")]).await;
            assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{args:?} {done:?}");
            let last = done.err.trim_end().lines().last().unwrap();
            assert!(last.contains(flag) && last.contains(&address), "{}", done.err);
        }
    }
}

#[tokio::test]
async fn tls_files_that_are_not_there_are_named() {
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/does/not/exist.pem"),
        ("OTEL_LOG_LEVEL", "error"),
    ];
    let done = run(&["proxy", "--admin", "off", INBOUND[0], INBOUND[1]], &env).await;
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.err.contains("/does/not/exist.pem"), "{}", done.err);
}
