//! Messages and answers of agents in both versions of the names, and mutations of them.

use super::{Call, Reply, fuzz_a2a, lookup};

const OLD: &str = r#"{"id":"1","jsonrpc":"2.0","method":"message/send","params":{"message":{"kind":"message","messageId":"m-1","role":"user","parts":[{"kind":"text","text":"{\"messageId\":\"not this\"}"}],"contextId":"c-1","taskId":"t-1","referenceTaskIds":["t-0",7]},"metadata":{}}}"#;
const NEW: &str = r#"{"jsonrpc":"2.0","method":"SendStreamingMessage","params":{"message":{"messageId":"m-2","role":"ROLE_USER","parts":[{"text":"hi"}]},"tenant":"acme"},"id":"9"}"#;
const POLL: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tasks/get","params":{"id":"t-1","historyLength":2}}"#;
const MCP: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tasks/get","params":{"taskId":"t-1"}}"#;

const REPLIES: &[&str] = &[
    r#"{"id":"1","jsonrpc":"2.0","result":{"id":"t-1","contextId":"c-1","kind":"task","status":{"state":"completed","message":{"messageId":"m"}},"artifacts":[{"parts":[]}]}}"#,
    r#"{"jsonrpc":"2.0","id":"9","result":{"task":{"id":"t-2","contextId":"c-2","status":{"state":"TASK_STATE_SUBMITTED"}}}}"#,
    r#"{"jsonrpc":"2.0","id":"9","result":{"statusUpdate":{"taskId":"t-2","contextId":"c-2","status":{"state":"TASK_STATE_COMPLETED"}}}}"#,
    r#"{"jsonrpc":"2.0","id":"9","result":{"artifactUpdate":{"taskId":"t-2","contextId":"c-2","artifact":{"artifactId":"a"}}}}"#,
    r#"{"jsonrpc":"2.0","id":"9","result":{"kind":"message","messageId":"m-9","contextId":"c-3","role":"agent","parts":[]}}"#,
    r#"{"jsonrpc":"2.0","id":"9","result":{"id":"config-1","taskId":"t-2","url":"http://me"}}"#,
    r#"{"jsonrpc":"2.0","id":"9","error":{"code":-32001,"message":"Task not found","data":[{"code":1}]}}"#,
];

fn of(body: &str, version: Option<&str>) -> Option<(&'static str, Option<String>)> {
    let tree: serde_json::Value = serde_json::from_str(body).unwrap();
    let method = lookup(tree["method"].as_str().unwrap())?;
    let call = Call::of(method, version, body.as_bytes())?;
    Some((call.method.operation, call.version.map(|version| version.into_owned())))
}

fn read(pieces: &[&str]) -> Reply {
    let mut reply = Reply::default();
    pieces.iter().for_each(|piece| reply.read(piece.as_bytes()));
    reply
}

#[test]
fn both_versions_of_the_names_mean_the_same() {
    let old = Some("0.3".to_owned());
    assert_eq!(of(OLD, None), Some(("SendMessage", old.clone())));
    assert_eq!(of(NEW, None), Some(("SendStreamingMessage", None)));
    assert_eq!(of(NEW, Some("1.0")), Some(("SendStreamingMessage", Some("1.0".to_owned()))));
    assert_eq!(of(POLL, None), Some(("GetTask", old)));
}

/// The shape of the parameters, where no header says it.
#[test]
fn names_that_others_have_too() {
    assert_eq!(of(MCP, None), None);
    assert!(of(MCP, Some("0.3")).is_some(), "the header says so");
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"t","taskId":"t"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tasks/cancel","params":{"id":7}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tasks/cancel"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"GetTask","params":["t"]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":"hi"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"id":"t"}}"#,
    ] {
        assert_eq!(of(body, None), None, "{body}");
    }
    for name in ["tools/call", "tasks/list", "tasks/result", "sendMessage", ""] {
        assert!(lookup(name).is_none(), "{name}");
    }
}

#[test]
fn what_a_message_says() {
    let method = lookup("message/send").unwrap();
    let request = Call::of(method, None, OLD.as_bytes()).unwrap().request;
    let text = |text: Option<crate::mcp::message::Text<'_>>| text.map(|text| text.decode().into_owned());
    assert_eq!(text(request.message_id).as_deref(), Some("m-1"));
    assert_eq!(text(request.task(method)).as_deref(), Some("t-1"));
    assert_eq!(text(request.conversation()).as_deref(), Some("c-1"));
    assert_eq!(request.references.len(), 1);
    let method = lookup("tasks/get").unwrap();
    let request = Call::of(method, None, POLL.as_bytes()).unwrap().request;
    assert_eq!(text(request.task(method)).as_deref(), Some("t-1"));
    // There the id is that of a configuration.
    let method = lookup("DeleteTaskPushNotificationConfig").unwrap();
    let body = br#"{"method":"DeleteTaskPushNotificationConfig","params":{"id":"config","taskId":"t-5"}}"#;
    assert_eq!(text(Call::of(method, None, body).unwrap().request.task(method)).as_deref(), Some("t-5"));
}

#[test]
fn what_an_answer_says() {
    for (pieces, task, state, context) in [
        (&REPLIES[..1], Some("t-1"), Some("completed"), Some("c-1")),
        (&REPLIES[1..2], Some("t-2"), Some("TASK_STATE_SUBMITTED"), Some("c-2")),
        (&REPLIES[1..4], Some("t-2"), Some("TASK_STATE_COMPLETED"), Some("c-2")),
        (&REPLIES[4..5], None, None, Some("c-3")),
        (&REPLIES[5..6], Some("t-2"), None, None),
    ] {
        let reply = read(pieces);
        assert_eq!((reply.task_id.as_deref(), reply.state.as_deref()), (task, state), "{pieces:?}");
        assert_eq!((reply.context_id.as_deref(), reply.error), (context, None), "{pieces:?}");
    }
    let error = read(&REPLIES[6..]).error.unwrap();
    assert_eq!((error.code, &*error.message), (Some(-32001), "Task not found"));
    assert_eq!(read(&[r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#]), Reply::default());
}

#[test]
fn what_is_kept_is_bounded() {
    let long = "x".repeat(2000);
    let reply = read(&[
        &format!(r#"{{"result":{{"id":"{long}","status":{{"state":"{long}"}},"contextId":"c"}}}}"#),
        &format!(r#"{{"error":{{"code":1,"message":"{long}"}}}}"#),
    ]);
    assert_eq!((reply.task_id, reply.state, reply.context_id.as_deref()), (None, None, Some("c")));
    assert_eq!(&*reply.error.unwrap().message, "");
    let tasks = vec!["\"t\""; 40].join(",");
    let body =
        format!(r#"{{"method":"message/send","params":{{"message":{{"referenceTaskIds":[{tasks}]}}}}}}"#);
    assert_eq!(super::Request::read(body.as_bytes()).unwrap().references.len(), 16);
}

#[test]
fn mutations_are_read_as_an_independent_parser_reads_them() {
    let seeds: Vec<&str> = [&[OLD, NEW, POLL, MCP], REPLIES].concat();
    let mut state = 0x5eed_0012_u64;
    let mut roll = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % sides.max(1)
    };
    const TOKENS: [&str; 12] =
        ["{", "}", "[", "]", ",", ":", "\"", "\\", "null", "\"id\":\"x\",", "\"status\":{", "\"error\":"];
    for _ in 0..10_000 {
        let mut bytes = seeds[roll(seeds.len())].as_bytes().to_vec();
        for _ in 0..=roll(4) {
            let at = roll(bytes.len() + 1);
            let end = (at + roll(12)).min(bytes.len());
            match roll(4) {
                0 => drop(bytes.splice(at..end, TOKENS[roll(TOKENS.len())].bytes())),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copy = bytes[at..end].to_vec();
                    let to = roll(bytes.len() + 1);
                    drop(bytes.splice(to..to, copy));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = roll(256) as u8;
                    }
                }
            }
        }
        fuzz_a2a(&bytes);
    }
}
