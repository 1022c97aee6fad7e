//! The agents over real sockets, asked by the demo's caller and by hand-written requests of both eras.

use super::*;
use crate::{demo::calls, store::web::send};

async fn start(agent: Agent) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Endpoint::start(listener, agent).unwrap()
}

/// A recorder in the place of `weather-agent`: it answers with what it was sent.
async fn mirror() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Server::start(listener, |request| async move {
        let has_header = request.headers().contains_key("traceparent");
        let body = read_body(request.into_body(), MAX_BODY).await.unwrap();
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let text = json!({"meta": sent["params"]["_meta"], "header": has_header}).to_string();
        let result = json!({"content": [{"type": "text", "text": text}], "isError": false});
        let message = json!({"jsonrpc": "2.0", "id": sent["id"], "result": result});
        response(StatusCode::OK, "application/json", message.to_string())
    })
    .unwrap()
}

async fn post(endpoint: &Endpoint, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = Request::post(PATH)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_owned())).unwrap();
    let answer = send(endpoint.address(), request).await.unwrap();
    let body = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
    (answer.status().as_u16(), body)
}

#[tokio::test]
async fn research_asks_weather() {
    let weather = start(Agent::Weather).await;
    let forecasts = weather.address();
    let research = start(Agent::Research { forecasts }).await;
    for (city, is_error, text) in
        [("Oslo", false, "Oslo: "), ("Atlantis", true, "Atlantis: no forecast: no station there")]
    {
        let request = calls::tool_call("research", city);
        let result = calls::send(research.address(), &request).await.unwrap();
        let answer = calls::tool_answer(&result);
        assert_eq!(answer.is_error, is_error);
        assert!(answer.text.starts_with(text), "{}", answer.text);
    }
    let list = calls::send(research.address(), &calls::tool_list()).await.unwrap();
    assert_eq!(list["tools"][0]["name"], "research");
}

#[tokio::test]
async fn the_trace_context_of_meta_is_passed_on_and_nothing_else() {
    let mirror = mirror().await;
    let forecasts = mirror.address();
    let research = start(Agent::Research { forecasts }).await;
    let mut request = calls::tool_call("research", "Oslo");
    let sent = json!({"traceparent": "00-a-b-01", "tracestate": "x=1", "baggage": "k=v", "own": 1});
    let meta = request["params"]["_meta"].as_object_mut().unwrap();
    meta.extend(sent.as_object().unwrap().clone());
    let result = calls::send(research.address(), &request).await.unwrap();
    let text = calls::tool_answer(&result).text;
    let seen: Value = serde_json::from_str(text.strip_prefix("Oslo: ").unwrap()).unwrap();
    assert_eq!(seen["meta"]["traceparent"], "00-a-b-01");
    assert_eq!(seen["meta"]["tracestate"], "x=1");
    assert_eq!(seen["meta"]["baggage"], Value::Null);
    assert_eq!(seen["meta"]["own"], Value::Null);
    assert_eq!(seen["header"], false);
}

#[tokio::test]
async fn no_context_in_means_no_context_out() {
    let mirror = mirror().await;
    let forecasts = mirror.address();
    let research = start(Agent::Research { forecasts }).await;
    let mut request = calls::tool_call("research", "Oslo");
    request["params"]["_meta"]["traceparent"] = json!(["not", "a", "string"]);
    let result = calls::send(research.address(), &request).await.unwrap();
    let text = calls::tool_answer(&result).text;
    assert!(!text.contains("traceparent"), "{text}");
}

#[tokio::test]
async fn a_client_of_the_handshake_era_is_served() {
    let weather = start(Agent::Weather).await;
    let version = [("mcp-protocol-version", "2025-11-25")];
    for (asked, negotiated) in [("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")] {
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let (status, answer) = post(&weather, &[], &initialize.to_string()).await;
        assert_eq!((status, &answer["result"]["protocolVersion"]), (200, &json!(negotiated)));
    }
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(post(&weather, &version, initialized).await, (202, Value::Null));
    let call = json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call",
        "params": {"name": "forecast", "arguments": {"city": "Oslo"}}});
    let (status, answer) = post(&weather, &version, &call.to_string()).await;
    assert_eq!((status, &answer["id"], &answer["result"]["isError"]), (200, &json!("x"), &json!(false)));
    assert_eq!(answer["result"].get("resultType"), None);
    let unknown = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/list"}"#;
    let (status, answer) = post(&weather, &version, unknown).await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(METHOD_NOT_FOUND)));
}

#[tokio::test]
async fn a_modern_request_must_be_complete() {
    let weather = start(Agent::Weather).await;
    let call = calls::tool_call("forecast", "Oslo");
    let body = call.to_string();
    let without = |key: &str| {
        let mut call = call.clone();
        call["params"]["_meta"].as_object_mut().unwrap().remove(key);
        call.to_string()
    };
    let good = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "forecast")];
    assert_eq!(post(&weather, &good, &body).await.0, 200);
    let twice = [good[0], good[1], good[2], good[1]];
    let lying = [good[0], good[1], ("mcp-name", "research")];
    let future = [("mcp-protocol-version", "2099-01-01"), good[1], good[2]];
    let cases = [
        (&good[..2], body.clone(), HEADER_MISMATCH),
        (&good[1..], body.clone(), HEADER_MISMATCH),
        (&twice[..], body.clone(), HEADER_MISMATCH),
        (&lying[..], body.clone(), HEADER_MISMATCH),
        (&future[..], without(META_VERSION), UNSUPPORTED_VERSION),
        (&good[..], without(META_VERSION), INVALID_PARAMS),
        (&good[..], without(META_CAPABILITIES), INVALID_PARAMS),
    ];
    for (headers, body, code) in cases {
        let (status, answer) = post(&weather, headers, &body).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)), "{headers:?} {body}");
        assert_eq!(answer["id"], 1);
    }
    let unknown = body.replace("tools/call", "tools/sing");
    let headers = [good[0], ("mcp-method", "tools/sing")];
    assert_eq!(post(&weather, &headers, &unknown).await.0, 404);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let weather = start(Agent::Weather).await;
    for (body, code) in [("{", PARSE_ERROR), ("[]", INVALID_REQUEST), (r#"{"id":1}"#, INVALID_REQUEST)] {
        let (_, answer) = post(&weather, &[], body).await;
        assert_eq!(answer["error"]["code"], code, "{body}");
    }
    let get = Request::get(PATH).body(Full::default()).unwrap();
    assert_eq!(send(weather.address(), get).await.unwrap().status(), 405);
    let picky = Request::post(PATH).header("accept", "application/json");
    let picky = picky.body(Full::default()).unwrap();
    assert_eq!(send(weather.address(), picky).await.unwrap().status(), 406);
    assert_eq!(post(&weather, &[], &" ".repeat(MAX_BODY + 1)).await.0, 413);
}

#[tokio::test]
async fn damaged_messages_get_an_answer() {
    let text = calls::tool_list().to_string();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..5_000 {
        let mut body = text.clone().into_bytes();
        for _ in 0..2 {
            // xorshift64: a fixed seed, so that a failure can be seen again.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed >> 16) as usize % body.len();
            body[at] = seed as u8;
        }
        let answer = answer(Agent::Weather, &headers, &body).await;
        assert!(answer.status().as_u16() < 500);
    }
}
