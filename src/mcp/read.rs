//! The reader of a message: one function for each object that is looked into. None of them calls itself, so the
//! nesting of the input never becomes nesting of calls.

use super::message::{Doubt, ErrorView, Id, Kind, Message, Meta};
use super::meta::{Place, Points, Slot};
use super::scan::{Member, Scanner};
use super::text::Text;

type Outcome<T> = Result<T, Doubt>;

const TOP_KEYS: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];
const PARAMS_KEYS: &[&str] = &[
    "_meta",
    "name",
    "arguments",
    "uri",
    "taskId",
    "requestId",
    "progressToken",
    "requestState",
    "protocolVersion",
    "clientInfo",
];
const META_KEYS: &[&str] = &[
    "traceparent",
    "tracestate",
    "baggage",
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/subscriptionId",
];
const RESULT_KEYS: &[&str] =
    &["isError", "resultType", "protocolVersion", "requestState", "taskId", "task", "status"];
const ERROR_KEYS: &[&str] = &["code", "message"];

/// Reads the outermost object and decides what kind of message it is.
pub(super) fn top<'a>(scanner: &mut Scanner<'a>, message: &mut Message<'a>) -> Outcome<()> {
    let mut seen = Seen::default();
    let extent = scanner.members(|scanner, member| {
        match member.key.name(TOP_KEYS) {
            name if name == b"jsonrpc" => {
                seen.once(0)?;
                required_text(scanner, &mut message.jsonrpc)?;
            }
            name if name == b"id" => {
                seen.once(1)?;
                message.id_is_null = scanner.peek() == b'n';
                token(scanner, &mut message.id)?;
                if message.id.is_none() && !message.id_is_null {
                    return Err(Doubt::BadShape);
                }
            }
            name if name == b"method" => {
                seen.once(2)?;
                required_text(scanner, &mut message.method)?;
            }
            name if name == b"params" => {
                seen.once(3)?;
                message.points.params = params(scanner, message)?;
            }
            name if name == b"result" => {
                seen.once(4)?;
                message.has_result = true;
                result(scanner, message)?;
            }
            name if name == b"error" => {
                seen.once(5)?;
                error(scanner, &mut message.error)?;
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
        match member.key.name(PARAMS_KEYS) {
            name if name == b"_meta" => {
                seen.once(0)?;
                message.meta.present = true;
                message.points.meta = meta(scanner, &mut message.meta, &mut message.points)?;
            }
            name if name == b"name" => {
                seen.once(1)?;
                text(scanner, &mut message.name)?;
            }
            name if name == b"arguments" => {
                seen.once(2)?;
                let start = scanner.at();
                scanner.skip()?;
                message.arguments = Some(scanner.since(start));
            }
            name if name == b"uri" => {
                seen.once(3)?;
                text(scanner, &mut message.uri)?;
            }
            name if name == b"taskId" => {
                seen.once(4)?;
                text(scanner, &mut message.task_id)?;
            }
            name if name == b"requestId" => {
                seen.once(5)?;
                token(scanner, &mut message.request_id)?;
            }
            name if name == b"progressToken" => {
                seen.once(6)?;
                token(scanner, &mut message.progress_token)?;
            }
            name if name == b"requestState" => {
                seen.once(7)?;
                text(scanner, &mut message.request_state)?;
            }
            name if name == b"protocolVersion" => {
                seen.once(8)?;
                text(scanner, &mut message.params_protocol_version)?;
            }
            name if name == b"clientInfo" => {
                seen.once(9)?;
                text_inside(scanner, &["name"], &mut message.params_client_name)?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })
}

fn meta<'a>(scanner: &mut Scanner<'a>, meta: &mut Meta<'a>, points: &mut Points) -> Outcome<Place> {
    let mut seen = Seen::default();
    let mut index = 0;
    object(scanner, |scanner, member| {
        // The comma that has just been passed also stands after the member before.
        points.pass_comma(index, member.comma);
        match member.key.name(META_KEYS) {
            name if name == b"traceparent" => {
                let slot = &mut points.slots[Points::TRACEPARENT];
                context(scanner, &member, index, slot, &mut meta.traceparent)?;
            }
            name if name == b"tracestate" => {
                let slot = &mut points.slots[Points::TRACESTATE];
                context(scanner, &member, index, slot, &mut meta.tracestate)?;
            }
            name if name == b"baggage" => {
                let slot = &mut points.slots[Points::BAGGAGE];
                context(scanner, &member, index, slot, &mut meta.baggage)?;
            }
            name if name == b"progressToken" => {
                seen.once(3)?;
                token(scanner, &mut meta.progress_token)?;
            }
            name if name == b"io.modelcontextprotocol/protocolVersion" => {
                seen.once(4)?;
                text(scanner, &mut meta.protocol_version)?;
            }
            name if name == b"io.modelcontextprotocol/clientInfo" => {
                seen.once(5)?;
                text_inside(scanner, &["name"], &mut meta.client_name)?;
            }
            name if name == b"io.modelcontextprotocol/subscriptionId" => {
                seen.once(6)?;
                token(scanner, &mut meta.subscription_id)?;
            }
            _ => scanner.skip()?,
        }
        index += 1;
        Ok(())
    })
}

/// Reads a member that carries trace context, and remembers where it stands.
fn context<'a>(
    scanner: &mut Scanner<'a>,
    member: &Member<'a>,
    index: usize,
    slot: &mut Option<Slot>,
    value: &mut Option<Text<'a>>,
) -> Outcome<()> {
    if slot.is_some() {
        return Err(Doubt::Duplicate);
    }
    let value_start = scanner.at();
    text(scanner, value)?;
    *slot = Some(Slot {
        index,
        key_start: member.at,
        value_start,
        value_end: scanner.at(),
        comma_before: member.comma,
        comma_after: None,
    });
    Ok(())
}

fn result<'a>(scanner: &mut Scanner<'a>, message: &mut Message<'a>) -> Outcome<()> {
    let mut seen = Seen::default();
    let mut nested_task = None;
    object(scanner, |scanner, member| {
        match member.key.name(RESULT_KEYS) {
            name if name == b"isError" => {
                seen.once(0)?;
                let start = scanner.at();
                scanner.skip()?;
                message.is_error = scanner.since(start) == b"true";
            }
            name if name == b"resultType" => {
                seen.once(1)?;
                text(scanner, &mut message.result_type)?;
            }
            name if name == b"protocolVersion" => {
                seen.once(2)?;
                text(scanner, &mut message.result_protocol_version)?;
            }
            name if name == b"requestState" => {
                seen.once(3)?;
                text(scanner, &mut message.result_request_state)?;
            }
            name if name == b"taskId" => {
                seen.once(4)?;
                text(scanner, &mut message.result_task_id)?;
            }
            name if name == b"task" => {
                seen.once(5)?;
                text_inside(scanner, &["taskId"], &mut nested_task)?;
            }
            name if name == b"status" => {
                seen.once(6)?;
                text(scanner, &mut message.result_status)?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    message.result_task_id = message.result_task_id.or(nested_task);
    Ok(())
}

/// Leaves `view` alone for `null`, which some write next to a result.
fn error<'a>(scanner: &mut Scanner<'a>, view: &mut Option<ErrorView<'a>>) -> Outcome<()> {
    if scanner.peek() == b'n' {
        return scanner.skip();
    }
    let view = view.insert(ErrorView::default());
    let mut seen = Seen::default();
    object(scanner, |scanner, member| {
        match member.key.name(ERROR_KEYS) {
            name if name == b"code" => {
                seen.once(0)?;
                let mut code = None;
                token(scanner, &mut code)?;
                if let Some(Id::Number(raw)) = code {
                    view.code = raw.parse().ok();
                }
            }
            name if name == b"message" => {
                seen.once(1)?;
                text(scanner, &mut view.message)?;
            }
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads an object member by member, or passes a value of another type.
#[inline(always)]
fn object<'a>(
    scanner: &mut Scanner<'a>,
    visit: impl FnMut(&mut Scanner<'a>, Member<'a>) -> Outcome<()>,
) -> Outcome<Place> {
    if scanner.peek() != b'{' {
        scanner.skip()?;
        return Ok(Place::Foreign);
    }
    scanner.members(visit).map(Place::Object)
}

/// Reads the string that is the member `name` of the object that begins here.
fn text_inside<'a>(
    scanner: &mut Scanner<'a>,
    name: &'static [&'static str; 1],
    into: &mut Option<Text<'a>>,
) -> Outcome<()> {
    let mut seen = Seen::default();
    object(scanner, |scanner, member| {
        if member.key.name(name) == name[0].as_bytes() {
            seen.once(0)?;
            return text(scanner, into);
        }
        scanner.skip()
    })?;
    Ok(())
}

/// Reads a string; anything else is passed. (Results are written in place, which spares copies of them.)
fn text<'a>(scanner: &mut Scanner<'a>, into: &mut Option<Text<'a>>) -> Outcome<()> {
    *into = scanner.string()?;
    if into.is_none() { scanner.skip() } else { Ok(()) }
}

fn required_text<'a>(scanner: &mut Scanner<'a>, into: &mut Option<Text<'a>>) -> Outcome<()> {
    text(scanner, into)?;
    if into.is_some() { Ok(()) } else { Err(Doubt::BadShape) }
}

/// Reads a string or a number; anything else is passed.
fn token<'a>(scanner: &mut Scanner<'a>, into: &mut Option<Id<'a>>) -> Outcome<()> {
    match scanner.peek() {
        b'"' => *into = scanner.string()?.map(Id::String),
        b'0'..=b'9' | b'-' => {
            let number = scanner.number()?;
            // What Python writes for an infinity passes as a value, but is no number of JSON's.
            *into = Some(Id::Number(number)).filter(|_| !number.ends_with('y'));
        }
        _ => scanner.skip()?,
    }
    Ok(())
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
