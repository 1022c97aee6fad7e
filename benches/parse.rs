//! What it costs to read a message, to write trace context into it, and to follow a stream of
//! events.
//!
//! The bodies: a `tools/call` of 160 bytes, as most are; one of 4 KiB; and three of 64 KiB, which
//! differ in what they are made of. One long string is passed four blocks at a time, and so is much
//! of text with escaped quotes; many small fields cost the most, because strings have to be told
//! from what is between them and brackets counted.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meshtrace::mcp::message::parse;
use meshtrace::mcp::meta::{Carrier, splice};
use meshtrace::mcp::sse::Sse;

const SMALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"get_weather","arguments":"#,
    r#"{"city":"Zurich","days":3},"_meta":{"progressToken":42,"client":"x"}}}"#
);

fn call(arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{{"name":"store","arguments":{arguments}}}}}"#
    )
}

fn fields(bytes: usize) -> String {
    let mut object = String::from("{");
    for index in 0.. {
        object.push_str(&format!(r#""field{index}":{index},"text{index}":"value","#));
        if object.len() >= bytes {
            break;
        }
    }
    object + r#""last":null}"#
}

fn bodies() -> Vec<(&'static str, String)> {
    let line = r#"    let value = \"some text\";\n"#;
    vec![
        ("160 B", SMALL.to_owned()),
        ("4 KiB of fields", call(&fields(4 << 10))),
        ("64 KiB of fields", call(&fields(64 << 10))),
        ("64 KiB of text", call(&format!(r#"{{"text":"{}"}}"#, "x".repeat(64 << 10)))),
        ("64 KiB of source text", call(&format!(r#"{{"text":"{}"}}"#, line.repeat((64 << 10) / line.len())))),
    ]
}

fn messages(criterion: &mut Criterion) {
    let context = Carrier {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: None,
        baggage: Some("tenant=7"),
    };
    for (name, body) in bodies() {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("parse", |bencher| {
            bencher.iter(|| parse(black_box(body.as_bytes())).is_ok());
        });
        let Ok(message) = parse(body.as_bytes()) else {
            continue;
        };
        let mut out = Vec::new();
        group.bench_function("splice", |bencher| {
            bencher.iter(|| {
                out.clear();
                splice(black_box(body.as_bytes()), &message, &context, &mut out)
            });
        });
        group.finish();
    }
}

fn streams(criterion: &mut Criterion) {
    let event = |index| {
        format!(
            "event: message\r\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":\
             {{\"progressToken\":7,\"progress\":{index},\"message\":\"working on it, one step at a time\"}}}}\r\n\r\n"
        )
    };
    let stream: String = (0..20).map(event).collect();
    let mut group = criterion.benchmark_group("20 events");
    group.throughput(Throughput::Elements(20));
    for (name, size) in [("in one chunk", stream.len()), ("in chunks of 100 B", 100)] {
        let mut sse = Sse::new(1 << 20);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut bytes = 0;
                for chunk in black_box(stream.as_bytes()).chunks(size) {
                    sse.feed(chunk, |event| bytes += usize::from(event.end() > 0));
                }
                bytes
            });
        });
    }
    group.finish();
}

criterion_group!(benches, messages, streams);
criterion_main!(benches);
