//! What cannot be used: every wrong value in one table, and hostile files.

use super::*;

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
