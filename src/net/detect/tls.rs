//! Reads the name of the server out of the first message of a TLS client
//! (RFC 8446, 4.1.2, and RFC 6066, 3), and nothing else of it.

/// Whether the record that the bytes begin with is there to its end, or as
/// much of the message as makes no difference.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    match bytes {
        [_, _, _, high, low, ..] => bytes.len() >= 5 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

/// The server name that a `ClientHello` in one record asks for: a DNS name in
/// lower case of at most 253 bytes. `None` when it asks for none, when it is
/// not all there, or when it is not well formed.
pub fn server_name(bytes: &[u8]) -> Option<String> {
    let mut record = Reader(bytes);
    if record.byte()? != 0x16 {
        return None;
    }
    record.take(2)?;
    let length = record.u16()?;
    let mut hello = Reader(record.take(length)?);
    if hello.byte()? != 1 {
        return None;
    }
    hello.take(3)?;
    // Version and random.
    hello.take(2 + 32)?;
    let session = hello.byte()?;
    hello.take(session.into())?;
    let ciphers = hello.u16()?;
    hello.take(ciphers)?;
    let compressions = hello.byte()?;
    hello.take(compressions.into())?;
    let length = hello.u16()?;
    let mut extensions = Reader(hello.take(length)?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let content = extensions.take(length)?;
        if kind == 0 {
            return host_name(content);
        }
    }
    None
}

fn host_name(content: &[u8]) -> Option<String> {
    let mut content = Reader(content);
    let length = content.u16()?;
    let mut list = Reader(content.take(length)?);
    while !list.0.is_empty() {
        let kind = list.byte()?;
        let length = list.u16()?;
        let name = list.take(length)?;
        if kind == 0 {
            let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            let valid = (1..=253).contains(&name.len()) && name.iter().all(is_name);
            return valid.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
    None
}

/// Bytes that are taken from the front, never beyond their end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }
}

/// Reads arbitrary bytes and checks what holds of every result. For the fuzz
/// target and the mutation test.
///
/// # Panics
/// When it does not hold.
pub fn check(bytes: &[u8]) {
    if let Some(name) = server_name(bytes) {
        assert!((1..=253).contains(&name.len()));
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        assert!(name.bytes().all(lower), "{name:?}");
        assert!(is_whole(bytes), "a name out of a part");
    }
    // A line that is too long is decided as it stands, whatever would follow.
    for names in [false, true].into_iter().filter(|_| bytes.len() < super::judge::FIRST_READ) {
        let judged = super::judge::judge(bytes, names);
        // More bytes never change what was decided.
        for end in (0..bytes.len()).rev().take(64) {
            let earlier = super::judge::judge(&bytes[..end], names);
            assert!(earlier.is_none() || earlier == judged, "{end} bytes: {earlier:?}, all: {judged:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `ClientHello` as a TLS library makes it.
    fn hello(name: &str) -> Vec<u8> {
        let config =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_read() {
        assert_eq!(server_name(&hello("Api.Example.com")).as_deref(), Some("api.example.com"));
        assert_eq!(server_name(&hello("10.0.0.1")), None, "addresses are not named");
        assert!(is_whole(&hello("a")));
    }

    #[test]
    fn a_part_names_nothing() {
        let bytes = hello("api.example.com");
        for end in 0..bytes.len() {
            assert_eq!(server_name(&bytes[..end]), None, "{end} bytes");
            assert!(!is_whole(&bytes[..end]));
        }
    }

    #[test]
    fn an_empty_record_is_not_judged_before_its_message() {
        check(b"\x16\x03\x01\0\0\0");
        check(b"\x16\x03\x01\0\0\x01");
    }

    #[test]
    fn no_mutation_leads_astray() {
        let mut state = 443_u64;
        // Knuth's generator; its upper bits are good enough to choose by.
        let mut below = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % most
        };
        let samples = [hello("api.example.com"), b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()];
        for turn in 0..20_000 {
            let mut bytes = samples[turn % samples.len()].clone();
            for _ in 0..1 + below(4) {
                let at = below(bytes.len());
                bytes[at] = below(256) as u8;
            }
            bytes.truncate(below(bytes.len() + 1));
            check(&bytes);
        }
    }
}
