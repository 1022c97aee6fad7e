//! A reader of HTTP/1 requests that takes nothing but the plain form of
//! RFC 9112, so that whatever it takes means the same to every server.

use super::find;

/// A request that can be read in one way only.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The request line, without its end.
    pub(crate) line: String,
    /// The fields as they came.
    pub(crate) fields: Vec<(String, String)>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// Reads all the requests in these bytes, which have to end with the last one.
pub(crate) fn requests(mut bytes: &[u8]) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let (request, rest) = request(bytes)?;
        requests.push(request);
        bytes = rest;
    }
    Ok(requests)
}

/// Reads the first request and gives what follows it.
pub(crate) fn request(bytes: &[u8]) -> Result<(Request, &[u8]), String> {
    let end = find(bytes, b"\r\n\r\n").ok_or("the head has no end")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "the head is not UTF-8")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    request_line(&line)?;
    let mut fields = Vec::new();
    for text in lines {
        fields.push(field(text)?);
    }
    let mut request = Request { line, fields, body: Vec::new() };
    let rest = body(&mut request, &bytes[end + 4..])?;
    Ok((request, rest))
}

fn request_line(line: &str) -> Result<(), String> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else { return Err(format!("the line {line:?}")) };
    if !is_token(method) || !["HTTP/1.1", "HTTP/1.0"].contains(&version) {
        return Err(format!("the line {line:?}"));
    }
    let plain = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if target.is_empty() || !plain { Err(format!("the target {target:?}")) } else { Ok(()) }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("the field {line:?}"))?;
    let value = value.trim_matches([' ', '\t']);
    let plain = value.chars().all(|c| c == '\t' || !c.is_control());
    if is_token(name) && plain {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err(format!("the field {line:?}"))
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Reads the body by the one framing that the head names.
fn body<'a>(request: &mut Request, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    let hosts = request.all("host");
    let old = request.line.ends_with("HTTP/1.0");
    if hosts.len() > 1 || (hosts.is_empty() && !old) {
        return Err(format!("the hosts {hosts:?}"));
    }
    let target = request.line.split(' ').nth(1).unwrap_or_default();
    let named = target.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    if named.is_some_and(|named| hosts != [named]) {
        return Err(format!("the target {target:?} and the hosts {hosts:?}"));
    }
    match (&request.all("content-length")[..], &request.all("transfer-encoding")[..]) {
        ([], []) => Ok(bytes),
        ([length], []) => {
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            let length: usize = length.parse().ok().filter(|_| digits).ok_or("the length")?;
            let (body, rest) = bytes.split_at_checked(length).ok_or("the body is short")?;
            request.body = body.to_vec();
            Ok(rest)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && !old => chunks(request, bytes),
        other => Err(format!("the framing {other:?}")),
    }
}

fn chunks<'a>(request: &mut Request, mut bytes: &'a [u8]) -> Result<&'a [u8], String> {
    loop {
        let end = find(bytes, b"\r\n").ok_or("a chunk has no size")?;
        let size = &bytes[..end];
        if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("the chunk size {:?}", String::from_utf8_lossy(size)));
        }
        let text = String::from_utf8_lossy(size);
        let size = usize::from_str_radix(&text, 16).map_err(|e| e.to_string())?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return trailers(bytes);
        }
        let (data, rest) = bytes.split_at_checked(size).ok_or("a chunk is short")?;
        request.body.extend_from_slice(data);
        bytes = rest.strip_prefix(b"\r\n").ok_or("a chunk has no end")?;
    }
}

fn trailers(mut bytes: &[u8]) -> Result<&[u8], String> {
    loop {
        let end = find(bytes, b"\r\n").ok_or("the trailers have no end")?;
        let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "a trailer is not UTF-8")?;
        bytes = &bytes[end + 2..];
        if line.is_empty() {
            return Ok(bytes);
        }
        field(line)?;
    }
}

#[test]
fn the_strict_reader_takes_the_plain_form_only() {
    let good = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let twice = format!("{good}{good}");
    assert_eq!(requests(twice.as_bytes()).unwrap().len(), 2);
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n",
    ] {
        assert!(requests(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
