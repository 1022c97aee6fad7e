//! `meshtrace check` of a configuration and its collector, and the pages of the admin port.

use meshtrace::store::{Limits, Receiver};
use serde_json::Value;

use super::process::{Process, free_address, run};
use crate::support::mesh::{Call, Scratch};

#[tokio::test]
async fn a_test_span_arrives_and_can_be_found() {
    let collector = Receiver::start(Limits::default()).await.unwrap();
    let file = Scratch::new("sampling: { rules: [{ name: few, tool: 'get_*', sample: 1% }] }\n");
    let endpoint = collector.endpoint();
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_SERVICE_NAME", "weather")];
    let args = ["check", "--config", file.0.to_str().unwrap(), "--store", "http://jaeger:16686/"];
    let done = run(&args, &env).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    for text in
        ["can be used", "1 % where tool is get_* (rule few)", "taken within", "service weather", &endpoint]
    {
        assert!(done.out.contains(text), "{text} is not in:\n{}", done.out);
    }
    let link = done.out.lines().last().unwrap();
    let trace = link.strip_prefix("http://jaeger:16686/trace/").unwrap();
    assert!(done.out.contains(&format!("find it: trace {trace}")));
    let traces = collector.store().traces();
    assert_eq!(traces.len(), 1);
    assert!(format!("{traces:?}").contains("meshtrace check"));
}

#[tokio::test]
async fn what_cannot_be_used_or_reached_is_said() {
    let file = Scratch::new("sampling:\n  rules:\n    - { sample: lots }\n");
    let path = file.0.to_str().unwrap();
    for env in [vec![], vec![("MESHTRACE_CONFIG", path)]] {
        let mut args = vec!["check"];
        if env.is_empty() {
            args.extend(["--config", path]);
        }
        let done = run(&args, &env).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.err.contains(&format!("{path}:3:17: sampling.rules sample \"lots\"")), "{}", done.err);
    }
    let nobody = format!("http://{}", free_address());
    let done = run(&["check", "--timeout", "300ms"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &nobody)]).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.out.contains("was not taken within 300ms: it could not be reached"), "{}", done.out);
    let done = run(&["check"], &[("OTEL_TRACES_EXPORTER", "none")]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("nothing was sent"), "{}", done.out);
    let done = run(&["check", "--timeout", "soon"], &[]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{done:?}");
}

/// The pages for loopback peers, and what a reload changes on them.
#[tokio::test]
async fn pages_show_what_is_in_force() {
    let file = Scratch::new("sampling: { rules: [{ sample: 1% }] }\n");
    let (admin, listen) = (free_address(), free_address());
    let (inbound, admin_text) = (format!("{listen}=127.0.0.1:9"), admin.to_string());
    let args = ["proxy", "--inbound", &inbound, "--admin", &admin_text, "--config", file.0.to_str().unwrap()];
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hush@127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hush"),
    ];
    let process = Process::ready(&args, &env).await;
    let page = async |path: &str| -> Value {
        let reply = Call::get(path).send(admin).await;
        assert_eq!(reply.status, 200, "{path}");
        serde_json::from_slice(&reply.body).unwrap()
    };
    let config = page("/config").await;
    let text = config.to_string();
    assert!(text.contains("records 1 %") && text.contains("x-key") && !text.contains("hush"), "{text}");
    assert_eq!(config["spans"]["ignore"][0]["method"], "ping");
    assert_eq!(page("/debug/pending").await, serde_json::json!({"in_flight": 0, "pending": []}));
    file.rewrite("sampling: { rules: [{ sample: 2% }] }\nattributes: { from_header: { x-a: a } }\n");
    process.signal("HUP");
    process.says("reloaded").await;
    let changed = async {
        while !page("/config").await.to_string().contains("records 2 %") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::mesh::PATIENCE, changed).await.unwrap();
    assert_eq!(page("/config").await["attributes"]["from_header"]["x-a"], "a");
    let quiet = Call::method("PUT", "/log-level?level=error").send(admin).await;
    assert_eq!((quiet.status, &quiet.body[..]), (200, &b"error\n"[..]));
    process.signal("TERM");
    let done = process.exit().await;
    assert!(!done.err.contains("stopping"), "it was to be quiet: {}", done.err);
}
