//! A message without the arrays and objects that its reader passes by, found by a look at each byte
//! of it: what is left has to be JSON to the letter.

/// `data` with an empty array in the place of each value that is not looked into.
pub(super) fn outline(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut open = Vec::new();
    let mut key = String::new();
    let mut at = 0;
    while let Some(byte) = data.get(at) {
        let end = match byte {
            b'"' => string_end(data, at + 1),
            b'{' | b'[' => match looked_into(open.last(), &key, *byte) {
                Some(name) => {
                    open.push(name);
                    at + 1
                }
                None => {
                    out.extend(b"[]");
                    at = container_end(data, at);
                    continue;
                }
            },
            b'}' => {
                open.pop();
                at + 1
            }
            _ => at + 1,
        };
        let piece = data.get(at..end).unwrap_or_default();
        if *byte == b'"' {
            key = serde_json::from_slice(piece).unwrap_or_default();
        }
        out.extend(piece);
        at = end;
    }
    out
}

/// The name of the object that is the member `key` of `parent`, if it is one that is read.
fn looked_into(parent: Option<&&'static str>, key: &str, bracket: u8) -> Option<&'static str> {
    if bracket == b'[' {
        return None;
    }
    match (parent.copied(), key) {
        (None, _) => Some("message"),
        (Some("message"), "params") => Some("params"),
        (Some("message"), "result") => Some("result"),
        (Some("message"), "error") => Some("error"),
        (Some("params"), "_meta") => Some("_meta"),
        (Some("params"), "clientInfo") | (Some("_meta"), "io.modelcontextprotocol/clientInfo") => {
            Some("clientInfo")
        }
        (Some("result"), "task") => Some("task"),
        _ => None,
    }
}

fn string_end(data: &[u8], mut at: usize) -> usize {
    while let Some(byte) = data.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    data.len()
}

fn container_end(data: &[u8], mut at: usize) -> usize {
    let mut level = 0;
    while let Some(byte) = data.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(data, at),
            b'{' | b'[' => level += 1,
            b'}' | b']' if level == 1 => return at,
            b'}' | b']' => level -= 1,
            _ => {}
        }
    }
    data.len()
}

#[cfg(test)]
mod tests {
    use super::outline;

    #[test]
    fn what_is_not_read_is_empty() {
        let message =
            r#"{"id":1,"params":{"arguments":{"a":[1,]},"_meta":{"x":["}"],"k":"v"},"name":{}},"e":[[]]}"#;
        let expected = r#"{"id":1,"params":{"arguments":[],"_meta":{"x":[],"k":"v"},"name":[]},"e":[]}"#;
        assert_eq!(String::from_utf8_lossy(&outline(message.as_bytes())), expected);
    }
}
