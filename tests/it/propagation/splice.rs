//! What writing into `_meta` does to a body: the members of the context
//! change, and not one byte besides.

use serde_json::{Value, json};

use super::{A, assert_written, pass};
use crate::support::mesh::{Asked, Call, SIDES, Side, Span};

fn legacy(body: &str) -> Call {
    Call::post(body.to_owned()).header("mcp-protocol-version", "2025-06-18")
}

/// Takes exactly what the sidecar is expected to have put in out of a body.
fn without(asked: &Asked, span: &Span, put: &str) -> String {
    let put = put.replace("{P}", asked.header("traceparent").unwrap()).replace("{S}", &span.tracestate);
    let body = String::from_utf8(asked.body.to_vec()).unwrap();
    assert_eq!(body.matches(&put).count(), 1, "{put}\nin {body}");
    body.replace(&put, "")
}

const KEYS: &str = r#""traceparent":"{P}","tracestate":"{S}","#;

/// Baggage comes with outbound calls, so these tests set none.
const PLAIN: &str = "propagation: { baggage: { set: {} } }";

#[tokio::test]
async fn missing_meta_and_missing_params_are_made() {
    let (params, meta) = (
        &format!(r#","params":{{"_meta":{{{}}}}}"#, KEYS.trim_end_matches(',')),
        &format!(r#""_meta":{{{}}}"#, KEYS.trim_end_matches(',')),
    );
    let with_comma = &format!("{meta},");
    let cases = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, params),
        ("{ \"id\" : 1 , \"method\":\"tools/list\",\"jsonrpc\":\"2.0\"\n}\n", params),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#, meta),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{ \n }}", meta),
        (
            r#"{"params":{"name":"add","arguments":{"a":1.0e+2}},"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            with_comma,
        ),
    ];
    for side in SIDES {
        for (body, put) in cases {
            let (span, asked) = pass(PLAIN, &[], side, legacy(body)).await;
            assert_written(&asked, &span, "03");
            assert_eq!(without(&asked, &span, put), body);
            assert_eq!(asked.header("content-length"), Some(asked.body.len().to_string().as_str()));
        }
    }
}

/// Spellings that a parse and a print would not survive.
#[tokio::test]
async fn every_other_byte_stays() {
    let bodies = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"add","arguments":{"big":12345678901234567890123,"f":1.50,"e":1E5,"u":"\u00e9\/","dup":1,"dup":2}}}"#,
        "{\t\"jsonrpc\":\"2.0\",\r\n\"id\":\"\\u0061\", \"method\":\"tools\\/call\",\"params\":{\"name\":\"add\",\"_meta\" : { \"x\" : [ 1 , 2 ] } } , \"extra\":null}  ",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","\u005fmeta":{"traceparents":"no"}}}"#,
    ];
    for side in SIDES {
        for body in bodies {
            let (span, asked) = pass(PLAIN, &[], side, legacy(body)).await;
            assert_written(&asked, &span, "03");
            assert_eq!(without(&asked, &span, KEYS), body);
        }
    }
}

/// An empty `_meta` gets the keys without a comma too many.
#[tokio::test]
async fn an_empty_meta_is_filled() {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{ }}}"#;
    let (span, asked) = pass(PLAIN, &[], Side::Server, legacy(body)).await;
    assert_written(&asked, &span, "03");
    assert_eq!(without(&asked, &span, KEYS.trim_end_matches(',')), body);
}

/// Keys that are there are replaced where they are.
#[tokio::test]
async fn keys_that_are_there_are_replaced_in_place() {
    let body = |parent: &str, state: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"a":1, "traceparent" : "{parent}" ,"b":2,"tracestate":"{state}" }}}}}}"#
        )
    };
    for side in SIDES {
        let (span, asked) = pass(PLAIN, &[], side, legacy(&body(A, "x=1"))).await;
        let arrived = String::from_utf8(asked.body.to_vec()).unwrap();
        assert_eq!(arrived, body(asked.header("traceparent").unwrap(), &span.tracestate));
    }
}

/// A stale or empty value never stays beside the new parent.
#[tokio::test]
async fn invalid_values_are_replaced() {
    for side in SIDES {
        for meta in
            [json!({"traceparent": "", "tracestate": ""}), json!({"traceparent": "x", "tracestate": 5})]
        {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
            let (span, asked) = pass(PLAIN, &[], side, legacy(&body.to_string())).await;
            assert_written(&asked, &span, "03");
        }
    }
}

/// Where `params` or `_meta` is no object there is no place to write to.
#[tokio::test]
async fn foreign_shapes_are_left_alone() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[1]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":null}}"#,
    ] {
        for side in SIDES {
            let (span, asked) = pass("", &[], side, legacy(body)).await;
            assert_eq!(asked.body, body);
            assert_eq!(asked.header("traceparent"), Some(super::traceparent(&span, "03").as_str()));
            assert_eq!(span.attribute("jsonrpc.request.id"), json!("1"));
        }
    }
}

#[tokio::test]
async fn meta_is_not_written_where_that_is_switched_off() {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"traceparent":"{A}"}}}}}}"#
    );
    for side in SIDES {
        let (span, asked) = pass("propagation: { write_meta: false }", &[], side, legacy(&body)).await;
        assert_eq!(asked.body, body);
        assert_eq!(span.parent, super::SPAN_A, "it is still read");
        assert_eq!(asked.header("traceparent"), Some(super::traceparent(&span, "01").as_str()));
    }
}

/// Answers are never touched.
#[tokio::test]
async fn answers_pass_as_they_are() {
    let (mesh, server, sidecar) = super::around("", &[]).await;
    let reply = legacy(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).send(sidecar.inbound()).await;
    let direct = legacy(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).send(server.address).await;
    assert_eq!(reply.body, direct.body);
    let names =
        |headers: &http::HeaderMap| headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&reply.headers), names(&direct.headers));
    assert_eq!(mesh.stop().await.len(), 1);
    assert_ne!(server.last().json(), Value::Null);
}
