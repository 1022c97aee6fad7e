//! Rows 1 to 4: requests that are answered, as JSON or as a stream of events.

use serde_json::{Value, json};

use super::{Stage, watch};
use crate::support::mesh::{
    Answer, Asked, Call, Era, SIDES, Side, Span, expected, is_error, legacy_call, modern_call, request,
    result,
};

const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];

fn as_json(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

fn as_events(asked: &Asked) -> Answer {
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
    Answer::events(&[progress.clone(), log, progress, result(&asked.id())])
}

fn add(era: Era, id: Value) -> Call {
    match era {
        Era::Legacy => legacy_call(id, json!({})),
        Era::Modern => modern_call(id, json!({})),
    }
}

fn attributes_of_add(era: Era, id: &str) -> Value {
    let mut all = json!({
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "add",
        "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": id,
        "mcp.protocol.version": era.version(),
    });
    if era == Era::Legacy {
        all["mcp.session.id"] = "s-1".into();
    }
    all
}

fn assert_root(span: &Span, side: Side) {
    assert_eq!(span.kind, side.kind());
    assert_eq!(span.parent, "", "{span:#?}");
    assert_eq!(span.links, []);
    assert_eq!(span.flags, 0x03, "sampled, and random as every root of ours");
    assert_eq!(span.tracestate, format!("mt={},ot=th:0", span.id));
    assert_eq!(span.service, "agent");
}

async fn both_eras(side: Side, answer: fn(&Asked) -> Answer, extra: Value) {
    let calls = vec![(side, add(Era::Legacy, 7.into())), (side, add(Era::Modern, "seven".into()))];
    let watched = watch(answer, calls).await;
    assert_eq!(watched.spans.len(), 2, "{:#?}", watched.spans);
    for (index, (era, id)) in ERAS.into_iter().zip(["7", "seven"]).enumerate() {
        let (span, reply) = (&watched.spans[index], &watched.replies[index]);
        assert_eq!(reply.status, 200);
        assert_eq!(span.name, "tools/call add");
        assert_eq!(span.error, None);
        assert_root(span, side);
        let mut message = attributes_of_add(era, id);
        crate::support::mesh::merge(&mut message, extra.clone());
        assert_eq!(span.all_attributes(), expected(side, reply, watched.server, message));
        assert_ne!(watched.spans[0].trace, watched.spans[1].trace);
    }
}

#[tokio::test]
async fn row_1_in_with_a_json_reply() {
    both_eras(Side::Server, as_json, json!({})).await;
}

#[tokio::test]
async fn row_2_in_with_an_sse_reply() {
    both_eras(Side::Server, as_events, json!({"meshtrace.progress.count": 2})).await;
}

#[tokio::test]
async fn row_3_out_with_a_json_reply() {
    both_eras(Side::Client, as_json, json!({})).await;
}

#[tokio::test]
async fn row_3_out_with_an_sse_reply() {
    both_eras(Side::Client, as_events, json!({"meshtrace.progress.count": 2})).await;
}

#[tokio::test]
async fn row_1_every_method_has_its_name_and_target() {
    let cases = [
        ("prompts/get", json!({"name": "p"}), "prompts/get p", json!({"gen_ai.prompt.name": "p"})),
        ("resources/read", json!({"uri": "a://b"}), "resources/read", json!({"mcp.resource.uri": "a://b"})),
        (
            "resources/subscribe",
            json!({"uri": "a://b"}),
            "resources/subscribe",
            json!({"mcp.resource.uri": "a://b"}),
        ),
        ("completion/complete", json!({"name": "x"}), "completion/complete", json!({})),
        ("logging/setLevel", json!({"level": "info"}), "logging/setLevel", json!({})),
        ("acme/custom", json!({"name": "x"}), "acme/custom", json!({})),
        ("tools/call", json!({}), "tools/call", json!({"gen_ai.operation.name": "execute_tool"})),
        ("tools/call", json!({"name": 5}), "tools/call", json!({"gen_ai.operation.name": "execute_tool"})),
    ];
    for side in SIDES {
        let calls = cases
            .iter()
            .map(|(method, params, ..)| (side, request(Era::Legacy, 1.into(), method, params.clone())));
        let watched = watch(as_json, calls.collect()).await;
        assert_eq!(watched.spans.len(), cases.len());
        for (index, (method, _, name, attributes)) in cases.iter().enumerate() {
            let mut message = json!({
                "mcp.method.name": method, "jsonrpc.request.id": "1",
                "mcp.protocol.version": "2025-06-18", "mcp.session.id": "s-1",
            });
            crate::support::mesh::merge(&mut message, attributes.clone());
            let wanted = expected(side, &watched.replies[index], watched.server, message);
            assert_eq!(watched.spans[index].name, *name);
            assert_eq!(watched.spans[index].all_attributes(), wanted);
        }
    }
}

#[tokio::test]
async fn row_1_ids_keep_their_text_and_answers_match_by_type() {
    let ids = [json!(0), json!(-5), json!(9007199254740993_i64), json!("7"), json!(""), json!("ü \u{1}")];
    for side in SIDES {
        // The first event has the id's text in the wrong type; only the second is the answer.
        let script = |asked: &Asked| {
            let wrong = match asked.id() {
                Value::String(text) => text.parse::<i64>().map_or(json!(4711), Value::from),
                id => json!(id.to_string()),
            };
            Answer::events(&[is_error(&wrong), result(&asked.id())])
        };
        let calls = ids.iter().map(|id| (side, legacy_call(id.clone(), json!({}))));
        let watched = watch(script, calls.collect()).await;
        for (span, id) in watched.spans.iter().zip(&ids) {
            let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            assert_eq!(span.attribute("jsonrpc.request.id"), json!(text));
            assert_eq!(span.error, None, "an answer to another request decided: {span:#?}");
        }
        assert_eq!(watched.spans.len(), ids.len());
    }
}

#[tokio::test]
async fn row_1_the_era_is_read_from_meta_first_then_from_the_header() {
    let body =
        |meta: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{meta}}}}}"#);
    let modern = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let cases = [
        // In the body, where intermediaries may have lost the header.
        (Call::post(body(modern)).header("mcp-session-id", "s"), json!("2026-07-28"), Value::Null),
        (
            Call::post(body("")).header("mcp-protocol-version", "2026-07-28").header("mcp-session-id", "s"),
            json!("2026-07-28"),
            Value::Null,
        ),
        (
            Call::post(body("")).header("mcp-protocol-version", "2025-11-25").header("mcp-session-id", "s"),
            json!("2025-11-25"),
            json!("s"),
        ),
        (Call::post(body("")).header("mcp-session-id", "s"), Value::Null, json!("s")),
        (Call::post(body("")), Value::Null, Value::Null),
    ];
    for side in SIDES {
        let watched = watch(as_json, cases.iter().map(|(call, ..)| (side, call.clone())).collect()).await;
        assert_eq!(watched.spans.len(), cases.len());
        for (span, (_, version, session)) in watched.spans.iter().zip(&cases) {
            assert_eq!(span.name, "tools/list");
            assert_eq!(span.attribute("mcp.protocol.version"), *version);
            assert_eq!(span.attribute("mcp.session.id"), *session, "{span:#?}");
        }
    }
}

#[tokio::test]
async fn row_1_another_version_of_json_rpc_is_named() {
    let call = Call::post(r#"{"jsonrpc":"3.0","id":1,"method":"tools/list"}"#);
    let watched = watch(as_json, vec![(Side::Server, call)]).await;
    assert_eq!(watched.spans[0].attribute("jsonrpc.protocol.version"), json!("3.0"));
}

/// The span of a JSON answer ends with the body's last byte, not before.
#[tokio::test]
async fn row_1_a_json_reply_ends_the_span_with_its_last_byte() {
    for side in SIDES {
        let (pieces, answer) = Answer::pieces("application/json");
        let answer = std::sync::Mutex::new(Some(answer));
        let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
        let mut open = legacy_call(1, json!({})).open(stage.sidecar.at(side)).await;
        pieces.send(Ok(r#"{"jsonrpc":"2.0","id":1,"#.into())).await.unwrap();
        open.read_until("\"id\"").await;
        let before_the_end = now();
        pieces.send(Ok(r#""result":{}}"#.into())).await.unwrap();
        drop(pieces);
        open.read().await;
        let span = stage.mesh.only_span().await;
        assert!(span.end >= before_the_end, "it ended before the answer was whole");
        assert!(span.start <= before_the_end);
        assert_eq!(span.error, None);
    }
}

/// The span of a stream ends at the answer although the stream goes on.
#[tokio::test]
async fn row_2_a_stream_ends_the_span_at_its_answer() {
    for side in SIDES {
        for era in ERAS {
            let (pieces, answer) = Answer::pieces("text/event-stream");
            let answer = std::sync::Mutex::new(Some(answer));
            let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
            let mut open = add(era, 1.into()).open(stage.sidecar.at(side)).await;
            pieces.send(Ok(": keep-alive\n\nid: 1\nretry: 5\ndata:\n\n".into())).await.unwrap();
            open.read_until("retry").await;
            let before_the_answer = now();
            // The answer in two pieces, torn within a line, once it can be told from a question.
            let event = format!("data: {}\n\n", result(&json!(1)));
            let (head, tail) = event.split_at(45);
            pieces.send(Ok(head.to_owned().into())).await.unwrap();
            open.read_until(head).await;
            pieces.send(Ok(tail.to_owned().into())).await.unwrap();
            let span = stage.mesh.wait_for(1).await.remove(0);
            assert!(span.end >= before_the_answer);
            assert_eq!((span.error.as_deref(), span.name.as_str()), (None, "tools/call add"));
            // What comes after the answer changes nothing.
            pieces.send(Ok(format!("data: {}\n\n", is_error(&json!(1))).into())).await.unwrap();
            open.read_until("isError").await;
            drop(pieces);
            open.read().await;
            assert_eq!(stage.mesh.only_span().await, span);
        }
    }
}

/// However the bytes of a stream are cut, its span is the same.
#[tokio::test]
async fn row_2_a_stream_that_comes_byte_by_byte() {
    for side in SIDES {
        let (pieces, answer) = Answer::pieces("text/event-stream");
        let answer = std::sync::Mutex::new(Some(answer));
        let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
        let mut open = add(Era::Modern, 1.into()).open(stage.sidecar.at(side)).await;
        let progress =
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}});
        let text = format!("event: message\r\ndata: {progress}\r\n\r\n:\rdata:{}\r\r", is_error(&json!(1)));
        for byte in text.bytes() {
            pieces.send(Ok(vec![byte].into())).await.unwrap();
            // Each has arrived before the next one leaves.
            open.read_until(char::from(byte).to_string().as_str()).await;
        }
        let span = stage.mesh.wait_for(1).await.remove(0);
        assert_eq!(
            (span.error_type().as_str(), span.attribute("meshtrace.progress.count")),
            ("tool_error", json!(1))
        );
        drop(pieces);
        open.read().await;
        assert_eq!(stage.mesh.stop().await.len(), 1);
    }
}

#[tokio::test]
async fn row_1_over_http_2() {
    for side in SIDES {
        let stage = Stage::set("", as_events).await;
        let reply = add(Era::Modern, 1.into()).send_http2(stage.sidecar.at(side)).await;
        assert_eq!(reply.status, 200);
        Call::get("/page").send_http2(stage.sidecar.at(side)).await;
        let spans = stage.mesh.stop().await;
        assert_eq!(spans.len(), 2);
        let mut message = attributes_of_add(Era::Modern, "1");
        message["meshtrace.progress.count"] = 2.into();
        let mut wanted = expected(side, &reply, stage.server.address, message);
        wanted["network.protocol.version"] = "2".into();
        assert_eq!(spans[0].all_attributes(), wanted);
        assert_eq!(spans[1].attribute("network.protocol.version"), json!("2"));
        let (host, url) = match side {
            Side::Server => (stage.sidecar.inbound(), Value::Null),
            Side::Client => (stage.server.address, json!(format!("http://{}/page", stage.server.address))),
        };
        assert_eq!(spans[1].attribute("server.port"), json!(host.port()));
        assert_eq!(spans[1].attribute("url.full"), url);
        // The context arrived over HTTP/2 as it does over HTTP/1.1.
        let asked = &stage.server.asked()[0];
        assert_eq!(asked.meta("traceparent").as_deref(), asked.header("traceparent"));
        assert_eq!(Asked::context(asked.header("traceparent").unwrap()).1, spans[0].id);
    }
}

/// Who the spans are from, and who recorded them.
#[tokio::test]
async fn every_span_has_the_resource() {
    let mesh = crate::support::mesh::Mesh::start().await;
    let server = crate::support::mesh::Server::answering(as_json).await;
    let list = "service.name=no,service.namespace=shop,k8s.pod.name=a%20b,telemetry.sdk.name=forged";
    let sidecar =
        mesh.sidecar().named("weather").env("OTEL_RESOURCE_ATTRIBUTES", list).around(server.address).start();
    for side in SIDES {
        add(Era::Modern, 1.into()).send(sidecar.at(side)).await;
    }
    let spans = mesh.stop().await;
    assert_eq!(spans.len(), 2);
    let mut resource = spans[0].resource.clone();
    assert_eq!(spans[1].resource, resource);
    assert_eq!(resource.remove("service.instance.id").unwrap().as_str().unwrap().len(), 36);
    let version = env!("CARGO_PKG_VERSION");
    let wanted = json!({
        "service.name": "weather", "service.namespace": "shop", "k8s.pod.name": "a b",
        "telemetry.sdk.name": "meshtrace", "telemetry.sdk.language": "rust", "telemetry.sdk.version": version,
        "telemetry.distro.name": "meshtrace", "telemetry.distro.version": version,
    });
    assert_eq!(resource.into_iter().collect::<Value>(), wanted);
    assert_eq!(spans[0].scope, ("meshtrace".to_owned(), version.to_owned()));
}

#[tokio::test]
async fn row_4_a_tool_that_failed() {
    let scripts: [fn(&Asked) -> Answer; 2] =
        [|asked| Answer::json(&is_error(&asked.id())), |asked| Answer::events(&[is_error(&asked.id())])];
    for side in SIDES {
        for script in scripts {
            let calls = vec![(side, add(Era::Legacy, 1.into())), (side, add(Era::Modern, 2.into()))];
            let watched = watch(script, calls).await;
            assert_eq!(watched.spans.len(), 2);
            for (index, era) in ERAS.into_iter().enumerate() {
                let span = &watched.spans[index];
                assert_eq!(span.error.as_deref(), Some(""));
                let mut message = attributes_of_add(era, ["1", "2"][index]);
                message["error.type"] = "tool_error".into();
                let wanted = expected(side, &watched.replies[index], watched.server, message);
                assert_eq!(span.all_attributes(), wanted);
            }
        }
    }
}

#[tokio::test]
async fn row_4_only_true_is_a_failure() {
    let values = ["false", "null", "\"true\"", "1", "[true]"];
    let script = |asked: &Asked| {
        let value = asked.header("x-value").unwrap();
        let body = format!(
            r#"{{"result":{{"isError":{value},"content":[{{"isError":true}}]}},"id":1,"jsonrpc":"2.0"}}"#
        );
        Answer::status(200, &body).header("content-type", "application/json; charset=utf-8")
    };
    let calls = values.map(|value| (Side::Client, legacy_call(1, json!({})).header("x-value", value)));
    let watched = watch(script, calls.into()).await;
    assert_eq!(watched.spans.len(), values.len());
    assert!(watched.spans.iter().all(|span| span.error.is_none()), "{:#?}", watched.spans);
}

/// A large answer is mostly not looked at, but how the call came out is.
#[tokio::test]
async fn row_4_a_large_answer_fails_wherever_it_says_so() {
    let long = r#"It is, says "Jan", no \"isError\":true. "#.repeat(1_600);
    let members = |members: &str| format!(r#"{{"id":1,"result":{{{members}}},"jsonrpc":"2.0"}}"#);
    let content = format!(r#""content":[{{"type":"text","text":{}}}]"#, json!(long));
    let answers = [
        (members(&format!(r#"{content},"structuredContent":{{"isError":true}},"isError":false"#)), false),
        (members(&format!(r#"{content},"isError":true"#)), true),
        (members(&format!(r#""isError":true,{content}"#)), true),
        (members(&format!(r#"{content},"is\u0045rror":true,"structuredContent":[{}]"#, json!(long))), true),
        (members(&content), false),
        (members(&format!(r#"{content},"structuredContent":{{"rows":[{}1]}}"#, "1,".repeat(9_000))), false),
    ];
    for (body, fails) in answers {
        let event = format!("data: {body}\n\n");
        for (media, text) in [("application/json", body.clone()), ("text/event-stream", event)] {
            let script = move |_: &Asked| Answer::status(200, &text).header("content-type", media);
            let watched = watch(script, SIDES.map(|side| (side, add(Era::Legacy, 1.into()))).into()).await;
            assert_eq!(watched.spans.len(), 2);
            for span in &watched.spans {
                assert_eq!(span.error.is_some(), fails, "{media} {}", &body[..60]);
                assert_eq!(span.attribute("error.type") == "tool_error", fails);
            }
        }
    }
}

/// Small answers of several calls over one kept connection, a span each.
#[tokio::test]
async fn row_3_requests_of_one_connection_are_told_apart() {
    let stage = Stage::set("", as_json).await;
    Call::send_in_turn((0..20).map(|id| legacy_call(id, json!({}))).collect(), stage.sidecar.outbound())
        .await;
    let spans = stage.mesh.stop().await;
    let ids: Vec<_> =
        spans.iter().map(|s| s.attribute("jsonrpc.request.id").as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..20).map(|id: i32| id.to_string()).collect::<Vec<_>>());
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}
