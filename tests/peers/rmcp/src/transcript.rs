//! One JSON object a step on stdout, with everything volatile or long replaced, so that two runs
//! of the same pair can be compared byte for byte.

use serde_json::{Map, Value, json};

/// Strings longer than this many bytes are shown by length and digest.
const LONG: usize = 1000;

/// Prints one step; the members of objects come out sorted.
pub fn say(step: &str, what: &Value) {
    let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
    line.extend(what.as_object().cloned().unwrap_or_default());
    println!("{}", normal(Value::Object(line)));
}

fn normal(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().map(|(k, v)| (k, normal(v))).collect(),
        Value::Array(items) => items.into_iter().map(normal).collect(),
        Value::String(text) if text.len() > LONG => {
            json!({ "length": text.len(), "fnv1a": format!("{:016x}", fnv1a(text.as_bytes())) })
        }
        Value::String(text) => Value::String(without_port(&text)),
        other => other,
    }
}

/// FNV-1a, 64 bits: two long texts of one script need no stronger fingerprint.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Replaces the port after a loopback address.
fn without_port(text: &str) -> String {
    const HOST: &str = "127.0.0.1:";
    let mut parts = text.split(HOST);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(HOST);
        out.push_str("<port>");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}
