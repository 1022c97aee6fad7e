//! The traffic: requests and answers as an MCP client and server of the 2025-06-18 revision send
//! them over Streamable HTTP.
//!
//! Every request carries its own eight-digit JSON-RPC id, patched in place, and every answer
//! repeats it, so a proxy sees distinct requests and the client can tell a mixed-up answer.

use std::fmt::Write;

use memchr::memmem;

/// Digits of every JSON-RPC id.
pub const ID_DIGITS: usize = 8;
/// The first id that is used; all ids keep the same number of digits.
pub const FIRST_ID: u32 = 10_000_000;
/// Size of the large bodies, in bytes.
const LARGE: usize = 64 * 1024;
/// Events in one burst, the answer included.
const BURST: usize = 20;

/// One kind of exchange, named alike on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A small `tools/call` and a small JSON answer.
    Small,
    /// The same with `isError: true`.
    Error,
    /// A 64 KiB argument that is one string.
    RequestString,
    /// A 64 KiB argument of many small fields.
    RequestFields,
    /// The same of objects that hold an object before their other fields, and no array.
    RequestNested,
    /// A 64 KiB result that is one string.
    ResultString,
    /// A 64 KiB result of many small fields.
    ResultFields,
    /// A 64 KiB result that is one string, of a server that writes no `isError`.
    PlainString,
    /// The same of many small fields.
    PlainFields,
    /// An SSE answer of 20 events that leave the server in one write.
    SseBurst,
    /// An SSE answer of one event.
    SseSingle,
    /// An SSE answer that stays open; its events come when the upstream is told so.
    Open,
    /// A request that is not answered before the upstream is told so.
    Hang,
}

impl Kind {
    /// Every kind with its name and the path it is asked for at.
    pub const ALL: [(Kind, &'static str, &'static str); 13] = [
        (Kind::Small, "small", "/mcp"),
        (Kind::Error, "error", "/mcp/error"),
        (Kind::RequestString, "request-string", "/mcp/large"),
        (Kind::RequestFields, "request-fields", "/mcp/large"),
        (Kind::RequestNested, "request-nested", "/mcp/large"),
        (Kind::ResultString, "result-string", "/mcp/result-string"),
        (Kind::ResultFields, "result-fields", "/mcp/result-fields"),
        (Kind::PlainString, "result-string-plain", "/mcp/result-string-plain"),
        (Kind::PlainFields, "result-fields-plain", "/mcp/result-fields-plain"),
        (Kind::SseBurst, "sse-burst", "/mcp/sse-burst"),
        (Kind::SseSingle, "sse-single", "/mcp/sse-single"),
        (Kind::Open, "open", "/mcp/open"),
        (Kind::Hang, "hang", "/mcp/hang"),
    ];

    /// The kind of that name, as the load generator's `--kind` gives it.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
    }

    /// The kind that the upstream answers at `path`.
    pub fn at(path: &[u8]) -> Option<Kind> {
        Kind::ALL.iter().find(|(.., known)| known.as_bytes() == path).map(|(kind, ..)| *kind)
    }

    fn path(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, ..)| *kind == self).map_or("/", |(.., path)| path)
    }
}

/// The `traceparent` header of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// No header at all.
    None,
    /// A header with the sampled flag.
    Sampled,
    /// A header without the sampled flag.
    Unsampled,
    /// The same from a sidecar that takes notices.
    Sidecar,
}

/// A message whose JSON-RPC id, and trace id where it has one, are patched in place.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    id: Option<usize>,
    trace_id: Option<usize>,
}

impl Template {
    fn new(head: &str, body: &str) -> Template {
        let text = format!("{head}{body}");
        let trace_id = text.find("traceparent: 00-").map(|at| at + 16);
        // The last one: notifications before an answer carry no id.
        let id = text.rfind(&FIRST_ID.to_string());
        Template { bytes: text.into_bytes(), id, trace_id }
    }

    /// The same with capitals in the names of its header fields: `Content-Type`.
    pub fn capitalised(mut self) -> Template {
        let head = memmem::find(&self.bytes, b"\r\n\r\n").unwrap_or(self.bytes.len());
        for line in self.bytes[..head].split_mut(|&byte| byte == b'\n').skip(1) {
            let name = line.iter().position(|&byte| byte == b':').unwrap_or(0);
            for word in line[..name].split_mut(|&byte| byte == b'-') {
                word[..1].make_ascii_uppercase();
            }
        }
        self
    }

    /// The message with this id (its eight digits) and a trace id made from `seed`.
    pub fn with(&mut self, id: &[u8], seed: u64) -> &[u8] {
        if let Some(at) = self.id {
            self.bytes[at..at + ID_DIGITS].copy_from_slice(id);
        }
        if let Some(at) = self.trace_id {
            let mut text = [0; 32];
            hex(mix(seed), &mut text[..16]);
            hex(mix(!seed), &mut text[16..]);
            self.bytes[at..at + 32].copy_from_slice(&text);
        }
        &self.bytes
    }
}

/// The request of one kind: eight headers, one more with a trace parent.
pub fn request(kind: Kind, authority: &str, parent: Parent) -> Template {
    let body = request_body(kind);
    let flags = match parent {
        Parent::None => None,
        Parent::Sampled => Some("01"),
        Parent::Unsampled | Parent::Sidecar => Some("00"),
    };
    let state = match parent {
        Parent::Sidecar => "tracestate: mt=b7ad6b7169203331;n9\r\n",
        _ => "",
    };
    let parent = flags.map_or(String::new(), |flags| {
        format!("traceparent: 00-{}-b7ad6b7169203331-{flags}\r\n{state}", "a".repeat(32))
    });
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json, text/event-stream\r\n\
         accept-encoding: gzip, deflate\r\nuser-agent: python-httpx/0.28.1\r\n{parent}\
         content-type: application/json\r\nmcp-protocol-version: 2025-06-18\r\n\
         mcp-session-id: 5f9d8c1e2b7a4d3c9e0f1a2b3c4d5e6f\r\ncontent-length: {}\r\n\r\n",
        kind.path(),
        body.len(),
    );
    Template::new(&head, &body)
}

fn request_body(kind: Kind) -> String {
    let call = |meta: &str, arguments: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{FIRST_ID},\"method\":\"tools/call\",\"params\":{{{meta}\
             \"name\":\"weather_forecast\",\"arguments\":{{{arguments}}}}}}}"
        )
    };
    let short = "\"location\":\"Enschede, Netherlands\",\"units\":\"C\",\"days\":3";
    match kind {
        Kind::RequestString => call("", &format!("\"text\":\"{}\"", long_string(LARGE - 128))),
        Kind::RequestFields => call("", &format!("\"rows\":[{}]", rows(LARGE - 128))),
        Kind::RequestNested => {
            let rows = rows(LARGE - 128)
                .replace("{", "{\"at\":{\"x\":52.22,\"y\":6.89},")
                .replace("[\"a\",\"b\"]", "2");
            let end = rows[..LARGE - 128].rfind("},{").map_or(0, |end| end + 1);
            call("", &format!("\"table\":\"stations\",\"rows\":[{}]", &rows[..end]))
        }
        Kind::SseBurst | Kind::SseSingle | Kind::Open => {
            call("\"_meta\":{\"progressToken\":\"7c1d\"},", short)
        }
        _ => call("", short),
    }
}

/// The answer of one kind, complete.
pub fn answer(kind: Kind) -> Template {
    match kind {
        Kind::SseBurst => Template::new(SSE_HEAD, &burst()),
        Kind::SseSingle => Template::new(SSE_HEAD, &format!("{}0\r\n\r\n", chunk(&final_event()))),
        _ => {
            let body = answer_body(kind);
            let head = format!(
                "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: uvicorn\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len(),
            );
            Template::new(&head, &body)
        }
    }
}

/// The head of an SSE answer.
pub const SSE_HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: uvicorn\r\n\
     cache-control: no-cache, no-transform\r\ncontent-type: text/event-stream\r\n\
     transfer-encoding: chunked\r\n\r\n";

/// One progress event as one HTTP chunk.
pub fn progress(step: usize) -> String {
    chunk(&format!(
        "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":\
         {{\"progressToken\":\"7c1d\",\"progress\":{step:02},\"total\":{BURST},\
         \"message\":\"reading station data\"}}}}\n\n"
    ))
}

/// The end of an open SSE answer: the event with the result, and the last chunk.
pub fn finish() -> Template {
    Template::new("", &format!("{}0\r\n\r\n", chunk(&final_event())))
}

fn burst() -> String {
    let mut events: String = (1..BURST).map(progress).collect();
    events.push_str(&chunk(&final_event()));
    events + "0\r\n\r\n"
}

fn final_event() -> String {
    format!("event: message\ndata: {}\n\n", answer_body(Kind::Small))
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn answer_body(kind: Kind) -> String {
    let text = match kind {
        Kind::ResultString | Kind::PlainString => long_string(LARGE - 128),
        _ => "Enschede: Tuesday 12 C, light rain in the morning, wind SW 4; Wednesday 14 C, dry and \
              mostly sunny, wind S 3; Thursday 13 C, showers later in the day, wind W 5. Observed at 06:00 by the station at Twente."
            .to_owned(),
    };
    let structured = match kind {
        Kind::ResultFields | Kind::PlainFields => {
            format!(",\"structuredContent\":{{\"rows\":[{}]}}", rows(LARGE - 320))
        }
        Kind::ResultString | Kind::PlainString => String::new(),
        _ => ",\"structuredContent\":{\"days\":[{\"t\":12,\"rain\":true,\"wind\":4},{\"t\":14,\
              \"rain\":false,\"wind\":3},{\"t\":13,\"rain\":true,\"wind\":5}]}"
            .to_owned(),
    };
    let error = match kind {
        Kind::PlainString | Kind::PlainFields => "",
        Kind::Error => ",\"isError\":true",
        _ => ",\"isError\":false",
    };
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{FIRST_ID},\"result\":{{\"content\":[{{\"type\":\"text\",\
         \"text\":\"{text}\"}}]{structured}{error}}}}}"
    )
}

/// Prose with the escapes that JSON text usually has: one line feed in about 80 characters, and
/// now and then a quotation mark.
fn long_string(length: usize) -> String {
    const LINE: &str =
        "The station reports light rain, wind from the south-west and a pressure of 1013 hPa;\\n";
    const QUOTE: &str =
        "observers call it \\\"drizzle\\\", which is not a term of the scale used here anyway;\\n";
    let mut text = String::with_capacity(length + 128);
    while text.len() + 2 * LINE.len() < length {
        text.push_str(if text.len() % 1024 < LINE.len() { QUOTE } else { LINE });
    }
    text
}

/// Small objects with a few members of each type.
fn rows(length: usize) -> String {
    let mut text = String::with_capacity(length + 128);
    for row in 0.. {
        if text.len() + 128 > length {
            break;
        }
        let comma = if row == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{comma}{{\"row\":{row},\"name\":\"station {row}\",\"temp\":{}.{},\"ok\":true,\"tags\":[\"a\",\"b\"],\"note\":null}}",
            row % 40,
            row % 10,
        );
    }
    text
}

/// The eight digits of an id; ids past the last one of that length wrap around.
pub fn id_digits(id: u32) -> [u8; ID_DIGITS] {
    let mut rest = FIRST_ID + id % (9 * FIRST_ID);
    let mut digits = [b'0'; ID_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

fn hex(mut value: u64, out: &mut [u8]) {
    for digit in out {
        *digit = b"0123456789abcdef"[(value >> 60) as usize];
        value <<= 4;
    }
}

/// The finaliser of SplitMix64: spreads a counter over all bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_documented() {
        assert_eq!(request_body(Kind::Small).len(), 160);
        assert_eq!(answer_body(Kind::Small).len(), 422);
        for kind in [Kind::RequestString, Kind::RequestFields, Kind::RequestNested] {
            assert!(request_body(kind).len().abs_diff(LARGE) < 512, "{kind:?}");
        }
        for kind in [Kind::ResultString, Kind::ResultFields] {
            assert!(answer_body(kind).len().abs_diff(LARGE) < 512, "{kind:?}");
        }
    }

    #[test]
    fn ids_and_trace_ids_are_patched_in_place() {
        let mut template = request(Kind::Small, "h", Parent::Sampled);
        let first = template.with(&id_digits(7), 1).to_vec();
        let second = template.with(&id_digits(8), 2).to_vec();
        assert_eq!(first.len(), second.len());
        assert!(String::from_utf8(first).unwrap().contains("\"id\":10000007,"));
        assert!(!second.windows(32).any(|window| window == [b'a'; 32]));
    }
}
