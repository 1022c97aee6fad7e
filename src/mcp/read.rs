//! The reader of a message: one function for each object that is looked into. None of them calls itself, so the
//! nesting of the input never becomes nesting of calls.

use super::message::{Doubt, ErrorView, Id, Kind, Message, Meta};
use super::meta::{Place, Points, Slot};
use super::scan::{Member, Scanner};
use super::text::Text;

type Outcome<T> = Result<T, Doubt>;

/// Reads the outermost object and decides what kind of message it is.
pub(super) fn top<'a>(scanner: &mut Scanner<'a>, message: &mut Message<'a>) -> Outcome<()> {
    let mut seen = Seen::default();
    let extent = scanner.members(|scanner, member| {
        match member.key.decode().as_bytes() {
            b"jsonrpc" => {
                seen.once(0)?;
                message.jsonrpc = Some(required_text(scanner)?);
            }
            b"id" => {
                seen.once(1)?;
                message.id = id(scanner)?;
                message.id_is_null = message.id.is_none();
            }
            b"method" => {
                seen.once(2)?;
                message.method = Some(required_text(scanner)?);
            }
            b"params" => {
                seen.once(3)?;
                message.points.params = params(scanner, message)?;
            }
            b"result" => {
                seen.once(4)?;
                message.has_result = true;
                result(scanner, message)?;
            }
            b"error" => {
                seen.once(5)?;
                message.error = error(scanner)?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    message.points.top_close = extent.close;
    let answer = message.has_result || message.error.is_some();
    message.kind = match (&message.method, &message.id, answer) {
        (Some(_), Some(_), false) => Kind::Request,
        (Some(_), None, false) => Kind::Notification,
        (None, _, true) => Kind::Response,
        _ => return Err(Doubt::BadShape),
    };
    Ok(())
}

fn params<'a>(scanner: &mut Scanner<'a>, message: &mut Message<'a>) -> Outcome<Place> {
    let mut seen = Seen::default();
    object(scanner, |scanner, member| {
        match member.key.decode().as_bytes() {
            b"_meta" => {
                seen.once(0)?;
                message.meta.present = true;
                message.points.meta = meta(scanner, &mut message.meta, &mut message.points)?;
            }
            b"name" => {
                seen.once(1)?;
                message.name = text(scanner)?;
            }
            b"arguments" => {
                seen.once(2)?;
                let start = scanner.at();
                scanner.skip()?;
                message.arguments = Some(scanner.since(start));
            }
            b"uri" => {
                seen.once(3)?;
                message.uri = text(scanner)?;
            }
            b"taskId" => {
                seen.once(4)?;
                message.task_id = text(scanner)?;
            }
            b"requestId" => {
                seen.once(5)?;
                message.request_id = token(scanner)?;
            }
            b"progressToken" => {
                seen.once(6)?;
                message.progress_token = token(scanner)?;
            }
            b"requestState" => {
                seen.once(7)?;
                message.request_state = text(scanner)?;
            }
            b"protocolVersion" => {
                seen.once(8)?;
                message.params_protocol_version = text(scanner)?;
            }
            b"clientInfo" => {
                seen.once(9)?;
                message.params_client_name = text_inside(scanner, b"name")?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })
}

fn meta<'a>(scanner: &mut Scanner<'a>, meta: &mut Meta<'a>, points: &mut Points) -> Outcome<Place> {
    let mut seen = Seen::default();
    let mut index = 0;
    // The slot of the member before this one, which still has to learn where its comma is.
    let mut open: Option<usize> = None;
    object(scanner, |scanner, member| {
        if let Some(slot) = open.take().and_then(|which| points.slots[which].as_mut()) {
            slot.comma_after = member.comma;
        }
        let mut context = |scanner: &mut Scanner<'a>, which: usize| -> Outcome<Option<Text<'a>>> {
            seen.once(which as u32)?;
            let (value, slot) = slot(scanner, &member, index)?;
            points.slots[which] = Some(slot);
            open = Some(which);
            Ok(value)
        };
        match member.key.decode().as_bytes() {
            b"traceparent" => meta.traceparent = context(scanner, Points::TRACEPARENT)?,
            b"tracestate" => meta.tracestate = context(scanner, Points::TRACESTATE)?,
            b"baggage" => meta.baggage = context(scanner, Points::BAGGAGE)?,
            b"progressToken" => {
                seen.once(3)?;
                meta.progress_token = token(scanner)?;
            }
            b"io.modelcontextprotocol/protocolVersion" => {
                seen.once(4)?;
                meta.protocol_version = text(scanner)?;
            }
            b"io.modelcontextprotocol/clientInfo" => {
                seen.once(5)?;
                meta.client_name = text_inside(scanner, b"name")?;
            }
            b"io.modelcontextprotocol/subscriptionId" => {
                seen.once(6)?;
                meta.subscription_id = token(scanner)?;
            }
            _ => scanner.skip()?,
        }
        index += 1;
        Ok(())
    })
}

fn slot<'a>(scanner: &mut Scanner<'a>, member: &Member<'a>, index: usize) -> Outcome<(Option<Text<'a>>, Slot)> {
    let value_start = scanner.at();
    let value = text(scanner)?;
    let slot = Slot {
        index,
        key_start: member.at,
        value_start,
        value_end: scanner.at(),
        comma_before: member.comma,
        comma_after: None,
    };
    Ok((value, slot))
}

fn result<'a>(scanner: &mut Scanner<'a>, message: &mut Message<'a>) -> Outcome<()> {
    let mut seen = Seen::default();
    let mut nested_task = None;
    object(scanner, |scanner, member| {
        match member.key.decode().as_bytes() {
            b"isError" => {
                seen.once(0)?;
                let start = scanner.at();
                scanner.skip()?;
                message.is_error = scanner.since(start) == b"true";
            }
            b"resultType" => {
                seen.once(1)?;
                message.result_type = text(scanner)?;
            }
            b"protocolVersion" => {
                seen.once(2)?;
                message.result_protocol_version = text(scanner)?;
            }
            b"requestState" => {
                seen.once(3)?;
                message.result_request_state = text(scanner)?;
            }
            b"taskId" => {
                seen.once(4)?;
                message.result_task_id = text(scanner)?;
            }
            b"task" => {
                seen.once(5)?;
                nested_task = text_inside(scanner, b"taskId")?;
            }
            b"status" => {
                seen.once(6)?;
                message.result_status = text(scanner)?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    message.result_task_id = message.result_task_id.or(nested_task);
    Ok(())
}

/// `None` for `null`, which some write next to a result.
fn error<'a>(scanner: &mut Scanner<'a>) -> Outcome<Option<ErrorView<'a>>> {
    let mut seen = Seen::default();
    let mut view = ErrorView::default();
    let null = scanner.peek() == Some(b'n');
    object(scanner, |scanner, member| {
        match member.key.decode().as_bytes() {
            b"code" => {
                seen.once(0)?;
                view.code = match token(scanner)? {
                    Some(Id::Number(raw)) => raw.parse().ok(),
                    _ => None,
                };
            }
            b"message" => {
                seen.once(1)?;
                view.message = text(scanner)?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    Ok((!null).then_some(view))
}

/// Reads an object member by member, or passes a value of another type.
#[inline(always)]
fn object<'a>(
    scanner: &mut Scanner<'a>,
    visit: impl FnMut(&mut Scanner<'a>, Member<'a>) -> Outcome<()>,
) -> Outcome<Place> {
    if scanner.peek() != Some(b'{') {
        scanner.skip()?;
        return Ok(Place::Foreign);
    }
    scanner.members(visit).map(Place::Object)
}

/// The string that is member `name` of the object that begins here.
fn text_inside<'a>(scanner: &mut Scanner<'a>, name: &[u8]) -> Outcome<Option<Text<'a>>> {
    let mut seen = Seen::default();
    let mut found = None;
    object(scanner, |scanner, member| {
        if member.key.decode().as_bytes() == name {
            seen.once(0)?;
            found = text(scanner)?;
            return Ok(());
        }
        scanner.skip()
    })?;
    Ok(found)
}

#[inline]
fn text<'a>(scanner: &mut Scanner<'a>) -> Outcome<Option<Text<'a>>> {
    if scanner.peek() == Some(b'"') {
        return scanner.string().map(Some);
    }
    scanner.skip()?;
    Ok(None)
}

fn required_text<'a>(scanner: &mut Scanner<'a>) -> Outcome<Text<'a>> {
    text(scanner)?.ok_or(Doubt::BadShape)
}

/// A string or a number; anything else is passed.
fn token<'a>(scanner: &mut Scanner<'a>) -> Outcome<Option<Id<'a>>> {
    Ok(match scanner.peek() {
        Some(b'"') => Some(Id::String(scanner.string()?)),
        Some(b'0'..=b'9') => Some(Id::Number(scanner.number()?)),
        Some(b'-') => Some(Id::Number(scanner.number()?)).filter(|id| !matches!(id, Id::Number("-Infinity"))),
        _ => {
            scanner.skip()?;
            None
        }
    })
}

/// An identifier, or `None` for `null`.
fn id<'a>(scanner: &mut Scanner<'a>) -> Outcome<Option<Id<'a>>> {
    let null = scanner.peek() == Some(b'n');
    match token(scanner)? {
        None if !null => Err(Doubt::BadShape),
        id => Ok(id),
    }
}

/// Which members of an object have been met, by number.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    #[inline(always)]
    fn once(&mut self, number: u32) -> Outcome<()> {
        let bit = 1 << number;
        if self.0 & bit != 0 {
            return Err(Doubt::Duplicate);
        }
        self.0 |= bit;
        Ok(())
    }
}
