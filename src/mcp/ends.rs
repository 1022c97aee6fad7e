//! Reads how a call of a tool came out off the two ends of a large answer, and of what lies between
//! as little as will do.
//!
//! A large result is almost all content, and servers that write `isError` write it after that.
//! Backwards a JSON text is as plain as forwards: outside of strings there are no backslashes, and
//! inside every quote has an odd number of them before it, so the members after the content are
//! found from the last byte on. `isError` is a member of one kind of result only, that of
//! `tools/call`, which never asks for more and never begins a task (MCP 2024-11-05 to 2026-07-28);
//! so nothing is missed between. Of members that occur twice the last one counts, as for almost all
//! readers of JSON.
//!
//! Other servers write it for errors only. That it stands nowhere between is then seen by looking
//! for what every spelling of the name has, which takes a fifth of what finding the end of each
//! value takes.

use memchr::memrchr;

use super::keys::{Keys, ResultKey, TopKey};
use super::lanes::{AFTER, Followed, GROUP, Lanes, with_lanes};
use super::message::{Doubt, Id, Kind, Message};
use super::meta::Place;
use super::read::{id, text, version};
use super::scan::{Member, Scanner};
use super::skim::container_end;
use super::text::Text;

/// How much of either end is looked at.
pub(super) const WINDOW: usize = 256;

/// How long an array or object after the content may be: what servers add there is short.
const SHORT: usize = 96;

/// From how many bytes on that costs less than to read all of an answer.
pub(super) const LARGE: usize = 2048;

/// Fills `message` if both ends of `body`, of `window` bytes each, tell how a call came out, where
/// they say nothing together with a search between them; otherwise leaves it as it is and says so.
pub(super) fn read<'a>(body: &'a [u8], window: usize, message: &mut Message<'a>) -> bool {
    let Some(told) = ends(body, window).and_then(|(head, tail)| Told::by(head, tail)) else { return false };
    let Some(is_error) = told.is_error.or_else(|| told.says_nothing(body).then_some(false)) else {
        return false;
    };
    message.kind = Kind::Response;
    message.points.params = Place::Foreign;
    message.has_result = true;
    message.jsonrpc = told.jsonrpc;
    message.id = told.id;
    message.id_is_null = told.id_is_null;
    message.is_error = is_error;
    message.result_type = told.result_type;
    true
}

/// Whether `isError` may be the name of a member in this part of an answer, in any spelling.
fn may_tell(body: &[u8]) -> bool {
    with_lanes!(lanes => may_tell_by(lanes, body))
}

#[inline(always)]
fn may_tell_by<L: Lanes>(lanes: L, body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(group) = rest.first_chunk() {
        let marked = group.first_chunk().is_some_and(|group| lanes.has_mark(group));
        if marked && lanes.has_hint(group) && is_spelled(group) {
            return true;
        }
        rest = rest.get(GROUP..).unwrap_or_default();
    }
    let mut group = [0; GROUP + AFTER];
    if let Some(start) = group.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    is_spelled(&group)
}

/// A function of its own, so that what is only a hint is found with few registers.
#[inline(never)]
fn is_spelled(group: &Followed) -> bool {
    with_lanes!(lanes => lanes.has_spelling(group))
}

/// Both ends, if they do not meet.
fn ends(body: &[u8], window: usize) -> Option<(&[u8], &[u8])> {
    let (head, rest) = body.split_at_checked(window)?;
    let (_, tail) = rest.split_at_checked(rest.len().checked_sub(window)?)?;
    Some((head, tail))
}

#[derive(Default)]
struct Told<'a> {
    jsonrpc: Option<Text<'a>>,
    id: Option<Id<'a>>,
    id_is_null: bool,
    is_error: Option<bool>,
    result_type: Option<Text<'a>>,
    /// Where the result has an array of content first, as that of a call of a tool has.
    content: Option<usize>,
}

impl<'a> Told<'a> {
    fn by(head: &'a [u8], tail: &'a [u8]) -> Option<Self> {
        let mut told = Told::default();
        told.head(head)?;
        told.tail(&mut Backwards { rest: tail })?;
        Some(told)
    }

    /// Whether this is the result of a call of a tool and has no `isError` anywhere.
    fn says_nothing(&self, body: &[u8]) -> bool {
        // Mostly long strings, of which next to nothing has to be looked at, whatever they quote.
        let end = self.content.and_then(|at| container_end::<false>(body, at, 2, true, &mut true).ok());
        // Brackets left over may have moved that end beyond what stands last.
        let from = end.map(|end| end.min(body.len().saturating_sub(WINDOW)));
        from.and_then(|from| body.get(from..)).is_some_and(|rest| !may_tell(rest))
    }

    /// Reads up to the first content of the result. Every other end of it is none, by an error too.
    fn head(&mut self, head: &'a [u8]) -> Option<()> {
        let mut scanner = Scanner::new(head);
        if scanner.space() != b'{' {
            return None;
        }
        let mut begun = false;
        let stopped = scanner.members(|scanner, member| match member.key {
            TopKey::Jsonrpc => version(scanner, &mut self.jsonrpc),
            TopKey::Id => id(scanner, &mut self.id, &mut self.id_is_null),
            TopKey::Result if scanner.peek() == b'{' => {
                begun = self.result_head(scanner, head);
                Err(Doubt::NotJson)
            }
            _ => Err(Doubt::NotJson),
        });
        (begun && stopped.is_err()).then_some(())
    }

    /// Whether the result goes on beyond this end of it and may be one of a call so far.
    fn result_head(&mut self, scanner: &mut Scanner<'a, &'a [u8]>, head: &[u8]) -> bool {
        let mut plain = true;
        let ended = scanner.members(|scanner, member: Member<ResultKey>| match member.key {
            ResultKey::ResultType => text(scanner, &mut self.result_type),
            ResultKey::Other if !matches!(scanner.peek(), b'{' | b'[') => scanner.skip(),
            other => {
                plain = other == ResultKey::Other;
                let name = head.get(member.at..).unwrap_or_default();
                let is_content = scanner.peek() == b'[' && name.starts_with(br#""content""#);
                self.content = is_content.then(|| scanner.at());
                Err(Doubt::NotJson)
            }
        });
        plain && ended.is_err() && self.result_type.is_none_or(|kind| kind.eq_str("complete"))
    }

    /// Reads from the last byte on to the last content of the result.
    fn tail(&mut self, tail: &mut Backwards<'a>) -> Option<()> {
        tail.take(b'}')?;
        // Only the result can be an object, beside an error, which has no result beside it.
        while tail.space() != b'}' {
            let (key, value) = tail.member()?;
            match TopKey::named(key) {
                TopKey::Jsonrpc if self.jsonrpc.is_none() && value == br#""2.0""# => {
                    self.jsonrpc = Some(Text::new("2.0", false));
                }
                TopKey::Id if self.id.is_none() && !self.id_is_null => {
                    let mut scanner = Scanner::new(value);
                    id(&mut scanner, &mut self.id, &mut self.id_is_null)
                        .ok()
                        .filter(|()| scanner.is_done())?;
                }
                TopKey::Error if value == b"null" => {}
                _ => return None,
            }
            tail.take(b',')?;
        }
        tail.take(b'}')?;
        self.result_tail(tail)
    }

    fn result_tail(&mut self, tail: &mut Backwards<'a>) -> Option<()> {
        loop {
            // Arrays are content, and that is longer than this end.
            match tail.space() {
                b']' => return Some(()),
                b'}' if self.is_error.is_some() => return Some(()),
                _ => {}
            }
            let Some((key, value)) = tail.member() else { return Some(()) };
            match ResultKey::named(key) {
                ResultKey::IsError if self.is_error.is_none() => {
                    self.is_error = Some(match value {
                        b"true" => true,
                        b"false" => false,
                        _ => return None,
                    });
                }
                ResultKey::ResultType if self.result_type.is_none() && value == br#""complete""# => {
                    self.result_type = Some(Text::new("complete", false));
                }
                ResultKey::Other => {}
                _ => return None,
            }
            tail.take(b',')?;
        }
    }
}

/// What is left of an end that is read from its last byte on.
struct Backwards<'a> {
    rest: &'a [u8],
}

impl<'a> Backwards<'a> {
    /// The last byte, zero where nothing is left.
    fn last(&self) -> u8 {
        self.rest.last().copied().unwrap_or_default()
    }

    /// Takes the last byte.
    fn pop(&mut self) {
        self.rest = self.rest.split_last().map_or(&[], |(_, rest)| rest);
    }

    /// Passes white space; the byte before it, not taken.
    fn space(&mut self) -> u8 {
        while let b' ' | b'\n' | b'\r' | b'\t' = self.last() {
            self.pop();
        }
        self.last()
    }

    /// Passes white space and takes `byte`, if that is what comes.
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.space() == byte).then(|| self.pop())
    }

    /// Takes a member whose value is whole and whose name has no escapes: the name and the value.
    fn member(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let value = self.value()?;
        self.take(b':')?;
        self.space();
        let name = self.taken(Self::string)?;
        let name = name.get(1..name.len().checked_sub(1)?)?;
        (!name.contains(&b'\\')).then_some((name, value))
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        match self.space() {
            b'"' => self.taken(Self::string),
            b'}' | b']' => self.taken(Self::container),
            _ => self.taken(Self::scalar),
        }
    }

    /// What `take` takes.
    fn taken(&mut self, take: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'a [u8]> {
        let whole = self.rest;
        take(self)?;
        whole.get(self.rest.len()..)
    }

    fn string(&mut self) -> Option<()> {
        if self.last() != b'"' {
            return None;
        }
        self.pop();
        loop {
            let before = self.rest.get(..memrchr(b'"', self.rest)?)?;
            let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
            self.rest = before;
            if backslashes == before.len() {
                // There may be more of them before this end.
                return None;
            }
            if backslashes.is_multiple_of(2) {
                return Some(());
            }
        }
    }

    fn container(&mut self) -> Option<()> {
        let mut open = 0_usize;
        let least = self.rest.len().saturating_sub(SHORT);
        loop {
            if self.rest.len() < least {
                return None;
            }
            match self.last() {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'}' | b']' => open += 1,
                b'{' | b'[' => open = open.checked_sub(1)?,
                0 => return None,
                _ => {}
            }
            self.pop();
            if open == 0 {
                return Some(());
            }
        }
    }

    fn scalar(&mut self) -> Option<()> {
        let is_part =
            |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.');
        let length = self.rest.iter().rev().take_while(is_part).count();
        let start = self.rest.len() - length;
        // One that fills this end may begin before it.
        if length == 0 || start == 0 {
            return None;
        }
        self.rest = self.rest.get(..start)?;
        Some(())
    }
}

#[cfg(test)]
mod tests;
