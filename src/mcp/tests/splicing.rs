//! What a splice writes, byte for byte.

use super::super::message::parse;
use super::super::meta::{Carrier, splice};
use super::super::samples::{ANSWERS, CALLS};

const T: Carrier<'static> = Carrier { traceparent: Some("T"), tracestate: None, baggage: None };
const ALL: Carrier<'static> = Carrier { traceparent: Some("T"), tracestate: Some("S"), baggage: Some("B") };
const NONE: Carrier<'static> = Carrier { traceparent: None, tracestate: None, baggage: None };
const SB: Carrier<'static> = Carrier { traceparent: Some(""), tracestate: Some("S"), baggage: Some("B") };

fn spliced(body: &str, context: &Carrier<'_>) -> Option<String> {
    let message = parse(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    let done = splice(body.as_bytes(), &message, context, &mut out);
    assert!(done || out.is_empty());
    done.then(|| String::from_utf8(out).unwrap())
}

#[test]
fn context_is_written_where_it_belongs_and_nothing_else_moves() {
    for (params, context, expected) in [
        // Nothing there yet.
        (r#""params":{}"#, T, r#""params":{"_meta":{"traceparent":"T"}}"#),
        (r#""params":{ }"#, T, r#""params":{"_meta":{"traceparent":"T"} }"#),
        (r#""params":{"a":1}"#, T, r#""params":{"_meta":{"traceparent":"T"},"a":1}"#),
        (r#""params":{"a":1}"#, NONE, r#""params":{"a":1}"#),
        (
            r#""params":{ "a":1 }"#,
            ALL,
            r#""params":{"_meta":{"traceparent":"T","tracestate":"S","baggage":"B"}, "a":1 }"#,
        ),
        (r#""params":{"_meta":{}}"#, SB, r#""params":{"_meta":{"tracestate":"S","baggage":"B"}}"#),
        (r#""params":{"_meta":{"k":1}}"#, T, r#""params":{"_meta":{"traceparent":"T","k":1}}"#),
        (r#""params":{"_meta":{ "k":1 }}"#, NONE, r#""params":{"_meta":{ "k":1 }}"#),
        // Replaced, whatever it was.
        (r#""params":{"_meta":{"traceparent":"old"}}"#, T, r#""params":{"_meta":{"traceparent":"T"}}"#),
        (
            r#""params":{"_meta":{"traceparent" : [1,{}] }}"#,
            T,
            r#""params":{"_meta":{"traceparent" : "T" }}"#,
        ),
        (
            r#""params":{"_meta":{"trac\u0065parent":"x"}}"#,
            T,
            r#""params":{"_meta":{"trac\u0065parent":"T"}}"#,
        ),
        // Another key by its case.
        (
            r#""params":{"_meta":{"Traceparent":"x"}}"#,
            T,
            r#""params":{"_meta":{"traceparent":"T","Traceparent":"x"}}"#,
        ),
        // Removed with its comma, at every position.
        (r#""params":{"_meta":{"baggage":"x"}}"#, NONE, r#""params":{"_meta":{}}"#),
        (r#""params":{"_meta":{ "baggage" : 1 }}"#, NONE, r#""params":{"_meta":{  }}"#),
        (r#""params":{"_meta":{"baggage":"x","k":1}}"#, NONE, r#""params":{"_meta":{"k":1}}"#),
        (r#""params":{"_meta":{"k":1,"baggage":"x"}}"#, NONE, r#""params":{"_meta":{"k":1}}"#),
        (r#""params":{"_meta":{"k":1,"baggage":"x","l":2}}"#, NONE, r#""params":{"_meta":{"k":1,"l":2}}"#),
        (
            r#""params":{"_meta":{"k":1 , "baggage":"x" , "l":2}}"#,
            NONE,
            r#""params":{"_meta":{"k":1  , "l":2}}"#,
        ),
        (
            r#""params":{"_meta":{"tracestate":1,"k":1,"baggage":"x","traceparent":1}}"#,
            NONE,
            r#""params":{"_meta":{"k":1}}"#,
        ),
        (
            r#""params":{"_meta":{"tracestate":1,"baggage":"x","traceparent":1}}"#,
            NONE,
            r#""params":{"_meta":{}}"#,
        ),
        (
            r#""params":{"_meta":{"tracestate":1,"baggage":"x","k":[],"traceparent":1}}"#,
            NONE,
            r#""params":{"_meta":{"k":[]}}"#,
        ),
        // Removed, replaced and inserted together.
        (
            r#""params":{"_meta":{"baggage":"b","traceparent":"t","tracestate":"s"}}"#,
            T,
            r#""params":{"_meta":{"traceparent":"T"}}"#,
        ),
        (
            r#""params":{"_meta":{"traceparent":"t","k":1}}"#,
            SB,
            r#""params":{"_meta":{"tracestate":"S","baggage":"B","k":1}}"#,
        ),
        (
            r#""params":{"_meta":{"traceparent":"t"}}"#,
            SB,
            r#""params":{"_meta":{"tracestate":"S","baggage":"B"}}"#,
        ),
        (
            r#""params":{"_meta":{"k":1,"traceparent":"t"},"name":"n"}"#,
            SB,
            r#""params":{"_meta":{"tracestate":"S","baggage":"B","k":1},"name":"n"}"#,
        ),
        // Deeper and elsewhere, the same names mean nothing.
        (
            r#""params":{"traceparent":"x","arguments":{"_meta":{"baggage":"b"}}}"#,
            T,
            r#""params":{"_meta":{"traceparent":"T"},"traceparent":"x","arguments":{"_meta":{"baggage":"b"}}}"#,
        ),
        (
            r#""_meta":{"traceparent":"x"},"params":{}"#,
            T,
            r#""_meta":{"traceparent":"x"},"params":{"_meta":{"traceparent":"T"}}"#,
        ),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,{params},"method":"m"}} "#);
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":1,{expected},"method":"m"}} "#);
        assert_eq!(spliced(&body, &context).as_deref(), Some(wanted.as_str()), "{body}");
    }
}

#[test]
fn params_are_made_where_there_are_none() {
    assert_eq!(
        spliced("{\"id\":1,\"method\":\"ping\" }\n", &T).as_deref(),
        Some("{\"id\":1,\"method\":\"ping\" ,\"params\":{\"_meta\":{\"traceparent\":\"T\"}}}\n")
    );
    assert_eq!(spliced(r#"{"method":"ping"}"#, &NONE).as_deref(), Some(r#"{"method":"ping"}"#));
}

#[test]
fn what_must_not_be_touched_is_not() {
    for sample in ANSWERS {
        assert_eq!(spliced(sample, &ALL), None);
    }
    for sample in [CALLS[21], CALLS[22]] {
        assert_eq!(spliced(sample, &ALL), None);
    }
}

#[test]
fn values_are_escaped() {
    let context = Carrier { baggage: Some("a=\"\\\u{1f}\n\u{7f}é"), ..NONE };
    assert_eq!(
        spliced(r#"{"method":"m","params":{}}"#, &context).as_deref(),
        Some("{\"method\":\"m\",\"params\":{\"_meta\":{\"baggage\":\"a=\\\"\\\\\\u001f\\u000a\u{7f}é\"}}}")
    );
}

#[test]
fn a_foreign_body_leaves_the_output_alone() {
    let body = r#"{"id":1,"method":"m","params":{"_meta":{"k":"a long enough value","baggage":"x"}}}"#;
    let message = parse(body.as_bytes()).unwrap();
    let mut out = b"kept".to_vec();
    assert!(!splice(&body.as_bytes()[..20], &message, &ALL, &mut out));
    assert_eq!(out, b"kept");
}

#[test]
fn one_reservation_is_enough() {
    let body = CALLS[0].as_bytes();
    let message = parse(body).unwrap();
    let long = "x".repeat(512);
    let context = Carrier { traceparent: Some(&long), tracestate: Some(&long), baggage: Some(&long) };
    for sample in [CALLS[0], CALLS[10], CALLS[12]] {
        let message = parse(sample.as_bytes()).unwrap();
        let mut out = Vec::new();
        assert!(splice(sample.as_bytes(), &message, &context, &mut out));
        let added = out.len() - sample.len();
        assert!(added <= 3 * (long.len() + 18) + 24, "{added}");
    }
    let mut out = Vec::with_capacity(4096);
    let place = out.as_ptr();
    assert!(splice(body, &message, &ALL, &mut out));
    assert_eq!(out.as_ptr(), place);
}
