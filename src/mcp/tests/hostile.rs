//! Seeded mutations and generated documents, each held against an independent parser.

use super::super::message::{parse, parse_answer};
use super::super::samples::{ANSWERS, BATCHES, CALLS, Dice, STREAMS};
use super::super::{fuzz_mesh, fuzz_message, fuzz_rewrite, fuzz_splice, fuzz_sse};

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\\u0000",
    "null",
    "true",
    "-",
    "0",
    "1e9",
    "NaN",
    "\u{feff}",
    "\"id\":",
    "\"method\":\"m\"",
    "\"params\":{",
    "\"_meta\":{",
    "\"traceparent\":",
    "\"baggage\":\"\"",
    ",,",
    "[[[[",
    "é",
    "\n",
    "\r",
    "\r\n",
    "data:",
    "event:",
    "id:",
    "\n\n",
    "\r\n\r\n",
];

fn mutate(dice: &mut Dice, seed: &[u8], others: &[&str]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(12)).min(bytes.len());
        match dice.roll(7) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, dice.pick(TOKENS).bytes())),
            2 => drop(bytes.splice(at..end, dice.pick(TOKENS).bytes())),
            3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = dice.roll(256) as u8;
                }
            }
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            5 => bytes.truncate(at),
            _ => {
                let other = dice.pick(others).as_bytes();
                let from = dice.roll(other.len());
                let till = (from + dice.roll(40)).min(other.len());
                drop(bytes.splice(at..at, other[from..till].iter().copied()));
            }
        }
    }
    bytes
}

fn seeds() -> Vec<&'static str> {
    [CALLS, ANSWERS, BATCHES].concat()
}

#[test]
fn samples_keep_every_promise() {
    for sample in seeds() {
        fuzz_message(sample.as_bytes());
        for choice in 0..64 {
            fuzz_splice(&[&[choice], sample.as_bytes()].concat());
        }
    }
}

#[test]
fn mutated_messages_are_read_as_an_independent_parser_reads_them() {
    let seeds = seeds();
    let mut dice = Dice(0x5eed_0001);
    for _ in 0..40_000 {
        let seed = dice.pick(&seeds);
        fuzz_message(&mutate(&mut dice, seed.as_bytes(), &seeds));
    }
}

#[test]
fn every_prefix_of_a_message_is_refused() {
    for sample in seeds() {
        let sample = sample.trim_end();
        for end in 0..sample.len() {
            assert!(parse(&sample.as_bytes()[..end]).is_err());
            assert!(parse_answer(&sample.as_bytes()[..end]).is_err());
        }
    }
}

#[test]
fn mutated_messages_are_spliced_soundly() {
    let seeds = seeds();
    let mut dice = Dice(0x5eed_0002);
    for _ in 0..40_000 {
        let seed = dice.pick(&seeds);
        let mut input = mutate(&mut dice, seed.as_bytes(), &seeds);
        input.insert(0, dice.roll(256) as u8);
        fuzz_splice(&input);
    }
}

/// Arguments as MCP Mesh writes them.
const MESH: &[&str] = &[
    r#"{"city":"Oslo","_trace_id":"3f","_parent_span":"4a","_mesh_headers":{"traceparent":"00-1","x-mesh-timeout":"300"}}"#,
    r#"{ "_mesh_headers" : { "tracestate" : "a=1" , "traceparent" : null } , "q" : [ { "_trace_id" : 1 } ] }"#,
    r#"{"_mesh_headers":[],"_trace_id":{},"\u005fparent_span":"x"}"#,
];

#[test]
fn mutated_arguments_of_a_library_are_read_as_an_independent_parser_reads_them() {
    let mut dice = Dice(0x5eed_0004);
    MESH.iter().for_each(|sample| fuzz_mesh(sample.as_bytes()));
    for _ in 0..40_000 {
        let seed = dice.pick(MESH);
        fuzz_mesh(&mutate(&mut dice, seed.as_bytes(), MESH));
    }
}

#[test]
fn generated_documents_are_read_and_spliced_soundly() {
    let mut dice = Dice(0x5eed_0003);
    for _ in 0..20_000 {
        let mut document = String::from("0");
        object(&mut dice, &mut document, 0);
        fuzz_message(&document.as_bytes()[1..]);
        document.replace_range(..1, ["\u{1}", "\u{2}", "*", "?"][dice.roll(4)]);
        fuzz_splice(document.as_bytes());
    }
}

#[test]
fn mutated_streams_give_the_same_events_however_they_are_cut() {
    let mut dice = Dice(0x5eed_0004);
    for round in 0..20_000 {
        let mut stream = dice.pick(STREAMS).to_owned() + dice.pick(STREAMS);
        match dice.roll(3) {
            0 => stream = stream.replace('\n', "\r\n"),
            1 => stream = stream.replace('\n', "\r"),
            _ => {}
        }
        let mut input =
            if round % 4 == 0 { stream.into_bytes() } else { mutate(&mut dice, stream.as_bytes(), STREAMS) };
        input.splice(0..0, [[0, 0, 20, 40, 90][dice.roll(5)], dice.roll(256) as u8]);
        fuzz_sse(&input);
        input.insert(0, [0, 0, 60, 120][dice.roll(4)]);
        fuzz_rewrite(&input);
    }
}

/// The keys that are read at some level, and some that are not.
const KEYS: [&[&str]; 4] = [
    &["jsonrpc", "id", "method", "params", "result", "error", "other"],
    &[
        "_meta",
        "name",
        "arguments",
        "uri",
        "taskId",
        "requestId",
        "isError",
        "resultType",
        "code",
        "message",
        "task",
    ],
    &[
        "traceparent",
        "tracestate",
        "baggage",
        "progressToken",
        "taskId",
        "io.modelcontextprotocol/protocolVersion",
        "k",
    ],
    &["name", "deep", "", "é"],
];

const STRINGS: &[&str] = &[
    "2.0",
    "tools/call",
    "a \"b\"\n\\ 😀",
    "",
    "00-1-2-03",
    "a string longer than three words of eight bytes",
];

fn object(dice: &mut Dice, out: &mut String, level: usize) {
    out.push('{');
    let members = dice.roll(6);
    let mut first = true;
    if level == 0 && dice.roll(4) > 0 {
        out.push_str(
            [
                "\"method\":\"m\"",
                "\"id\":1,\"method\" : \"m\"",
                "\"result\":{}",
                "\"id\":2,\"method\":\"x\",\"params\":{\"_meta\":{}}",
            ][dice.roll(4)],
        );
        first = false;
    }
    for _ in 0..members {
        if !std::mem::take(&mut first) {
            space(dice, out);
            out.push(',');
        }
        space(dice, out);
        let key = dice.pick(KEYS[level.min(3)]);
        string(dice, out, key);
        space(dice, out);
        out.push(':');
        space(dice, out);
        value(dice, out, level, key);
    }
    space(dice, out);
    out.push('}');
}

fn value(dice: &mut Dice, out: &mut String, level: usize, key: &str) {
    if level < 2 && matches!(key, "params" | "_meta" | "result" | "error" | "task") && dice.roll(6) > 0 {
        return object(dice, out, level + 1);
    }
    match dice.roll(if level < 5 { 12 } else { 8 }) {
        0..=2 => {
            let text = dice.pick(STRINGS);
            string(dice, out, text);
        }
        3 => out.push_str(["0", "-1", "12.5e-3", "18446744073709551616", "-0", "1E+2"][dice.roll(6)]),
        4 => out.push_str(["true", "false"][dice.roll(2)]),
        5 => out.push_str("null"),
        6 => out.push_str("[ ]"),
        7 => out.push_str("{}"),
        8 => {
            out.push('[');
            for index in 0..dice.roll(4) {
                if index > 0 {
                    out.push(',');
                }
                value(dice, out, level + 1, "");
            }
            out.push(']');
        }
        _ => object(dice, out, level + 1),
    }
}

fn string(dice: &mut Dice, out: &mut String, text: &str) {
    out.push('"');
    let spell = dice.roll(8) == 0;
    for character in text.chars() {
        if (spell && dice.roll(2) == 0) || character < ' ' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else if matches!(character, '"' | '\\') {
            out.push('\\');
            out.push(character);
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

fn space(dice: &mut Dice, out: &mut String) {
    if dice.roll(5) == 0 {
        out.push_str([" ", "\n", "\t", "\r\n  "][dice.roll(4)]);
    }
}
