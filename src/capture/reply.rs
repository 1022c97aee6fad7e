//! What the kernel answers: netlink messages, of which only acknowledgements
//! and errors matter here.

/// `NLMSG_ERROR`, which is also what an acknowledgement is.
const ERROR: u16 = 2;

/// The length of a netlink header, and of the code behind it.
const HEADER: usize = 16;
const CODE: usize = 4;

/// An answer to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the message that it answers.
    pub number: u32,
    /// 0, or the positive number of an error of the system.
    pub error: i32,
}

/// The bytes are no netlink messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel answered with something that is no netlink message")]
pub struct Malformed;

/// Reads the answers in one datagram; messages of other kinds are passed over.
///
/// # Errors
/// When a length leads outside of the bytes or is too short for what the
/// message is, or an error code is not one.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Reply>, Malformed> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return Err(Malformed);
        }
        let (message, _) = bytes.split_at(length);
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if kind == ERROR {
            let code = u32_at(message, HEADER)?.cast_signed();
            let error = code.checked_neg().filter(|code| *code >= 0).ok_or(Malformed)?;
            replies.push(Reply { number: u32_at(message, 8)?, error });
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(replies)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let four = bytes.get(at..at + CODE).and_then(|four| four.try_into().ok());
    four.map(u32::from_ne_bytes).ok_or(Malformed)
}

/// Reads arbitrary bytes and checks what holds of every result. For the fuzz
/// target and the mutation test.
///
/// # Panics
/// When it does not hold.
pub fn check(bytes: &[u8]) {
    if let Ok(replies) = parse(bytes) {
        assert!(replies.len() <= bytes.len() / (HEADER + CODE), "more answers than there is room for");
        assert!(replies.iter().all(|reply| reply.error >= 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;

    fn message(kind: u16, number: u32, code: i32, more: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::try_from(20 + more).unwrap().to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&0_u16.to_ne_bytes());
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.resize(bytes.len() + more.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn acknowledgements_and_errors_are_read_and_all_else_is_passed_over() {
        let bytes = [message(2, 7, -1, 16), message(3, 8, 0, 0), message(2, 9, 0, 17)].concat();
        let expected = [Reply { number: 7, error: 1 }, Reply { number: 9, error: 0 }];
        assert_eq!(parse(&bytes).unwrap(), expected);
        assert_eq!(parse(&[]).unwrap(), []);
    }

    #[test]
    fn lengths_and_codes_that_cannot_be_are_refused() {
        for cut in 1..20 {
            assert_eq!(parse(&message(2, 1, 0, 0)[..cut]), Err(Malformed), "{cut} bytes");
        }
        for length in [0_u32, 15, 16, 19, 21, u32::MAX] {
            let mut bytes = message(2, 1, 0, 0);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&bytes), Err(Malformed), "length {length}");
        }
        assert_eq!(parse(&message(2, 1, 5, 0)), Err(Malformed), "an error that is positive");
        assert_eq!(parse(&message(2, 1, i32::MIN, 0)), Err(Malformed));
    }

    #[test]
    fn no_mutation_leads_astray() {
        let ids = Ids::seeded(14006, 1);
        let sample = [message(2, 7, -1, 16), message(3, 8, 0, 0), message(2, 9, 0, 17)].concat();
        for _ in 0..20_000 {
            let mut bytes = sample.clone();
            for _ in 0..1 + ids.random() % 4 {
                let at = (ids.random() % bytes.len() as u128) as usize;
                bytes[at] = ids.random() as u8;
            }
            bytes.truncate((ids.random() % (bytes.len() as u128 + 1)) as usize);
            check(&bytes);
        }
    }
}
