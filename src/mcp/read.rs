//! The reader of a message: one function for each object that is looked into. None of them calls
//! itself, so the nesting of the input never becomes nesting of calls. Results are written in
//! place, which spares copies of them.

use super::keys::{ErrorKey, Keys, MetaKey, NamedKey, OutcomeKey, ParamsKey, ResultKey, TaskKey, TopKey};
use super::message::{Doubt, ErrorView, Id, Kind, Message, Meta};
use super::meta::{Place, Points, Slot};
use super::scan::{Body, Member, Scanner};
use super::text::Text;

type Outcome = Result<(), Doubt>;

/// Reads the outermost object and decides what kind of message it is.
pub(super) fn top<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, message: &mut Message<'a>) -> Outcome {
    let extent = scanner.members(|scanner, member| match member.key {
        TopKey::Jsonrpc => version(scanner, &mut message.jsonrpc),
        TopKey::Id => id(scanner, &mut message.id, &mut message.id_is_null),
        TopKey::Method => required_text(scanner, &mut message.method),
        TopKey::Params if B::CALLS => params(scanner, message),
        TopKey::Result => {
            message.has_result = true;
            result(scanner, message)
        }
        TopKey::Error => error(scanner, &mut message.error),
        TopKey::Params | TopKey::Other => scanner.skip(),
    })?;
    message.points.top_close = extent.close;
    let answer = message.has_result || message.error.is_some();
    message.kind = match (message.method.is_some(), message.id.is_some(), answer) {
        (true, true, false) => Kind::Request,
        (true, false, false) => Kind::Notification,
        (false, _, true) => Kind::Response,
        _ => return Err(Doubt::BadShape),
    };
    Ok(())
}

#[inline(never)]
fn params<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, message: &mut Message<'a>) -> Outcome {
    message.points.params = object(scanner, |scanner, member| {
        let into = match member.key {
            ParamsKey::Name => &mut message.name,
            ParamsKey::Uri => &mut message.uri,
            ParamsKey::TaskId => &mut message.task_id,
            ParamsKey::RequestState => &mut message.request_state,
            ParamsKey::ProtocolVersion => &mut message.params_protocol_version,
            ParamsKey::Meta => {
                message.meta.present = true;
                return meta(scanner, &mut message.meta, &mut message.points);
            }
            ParamsKey::Arguments => {
                let start = scanner.at();
                scanner.skip()?;
                message.arguments = Some(scanner.since(start));
                return Ok(());
            }
            ParamsKey::RequestId => return token(scanner, &mut message.request_id),
            ParamsKey::ProgressToken => return token(scanner, &mut message.progress_token),
            ParamsKey::ClientInfo => {
                return text_inside(scanner, NamedKey::Name, &mut message.params_client_name);
            }
            ParamsKey::Other => return scanner.skip(),
        };
        text(scanner, into)
    })?;
    Ok(())
}

#[inline(never)]
fn meta<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, meta: &mut Meta<'a>, points: &mut Points) -> Outcome {
    let mut index = 0;
    points.meta = object(scanner, |scanner, member| {
        // The comma that has just been passed also stands after the member before.
        pass_comma(&mut points.slots, index, member.comma);
        let (slot, value) = match member.key {
            MetaKey::Traceparent => (Points::TRACEPARENT, &mut meta.traceparent),
            MetaKey::Tracestate => (Points::TRACESTATE, &mut meta.tracestate),
            MetaKey::Baggage => (Points::BAGGAGE, &mut meta.baggage),
            other => {
                index += 1;
                return match other {
                    MetaKey::ProtocolVersion => text(scanner, &mut meta.protocol_version),
                    MetaKey::ClientInfo => text_inside(scanner, NamedKey::Name, &mut meta.client_name),
                    MetaKey::SubscriptionId => token(scanner, &mut meta.subscription_id),
                    MetaKey::ProgressToken => token(scanner, &mut meta.progress_token),
                    _ => scanner.skip(),
                };
            }
        };
        let value_start = scanner.at();
        text(scanner, value)?;
        points.slots[slot] = Some(Slot {
            index,
            key_start: member.at,
            value_start,
            value_end: scanner.at(),
            comma_before: member.comma,
            comma_after: None,
        });
        index += 1;
        Ok(())
    })?;
    Ok(())
}

/// Remembers that the member before member `index` has a comma after it.
#[inline(always)]
fn pass_comma(slots: &mut [Option<Slot>; 3], index: usize, comma: Option<usize>) {
    for slot in slots.iter_mut().flatten() {
        if slot.index + 1 == index {
            slot.comma_after = comma;
        }
    }
}

#[inline(never)]
fn result<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, message: &mut Message<'a>) -> Outcome {
    let mut nested_task = None;
    object(scanner, |scanner, member| {
        let into = match member.key {
            ResultKey::ResultType => &mut message.result_type,
            ResultKey::ProtocolVersion => &mut message.result_protocol_version,
            ResultKey::RequestState => &mut message.result_request_state,
            ResultKey::TaskId => &mut message.result_task_id,
            ResultKey::Status => &mut message.result_status,
            ResultKey::Task => return text_inside(scanner, TaskKey::TaskId, &mut nested_task),
            ResultKey::IsError => {
                message.is_error = scanner.peek() == b't';
                return scanner.skip();
            }
            ResultKey::Result => {
                let task_is_error = &mut message.task_is_error;
                object(scanner, |scanner, member: Member<OutcomeKey>| {
                    if member.key == OutcomeKey::IsError {
                        *task_is_error = scanner.peek() == b't';
                    }
                    scanner.skip()
                })?;
                return Ok(());
            }
            ResultKey::Error => return error(scanner, &mut message.task_error),
            ResultKey::Other => return scanner.skip(),
        };
        text(scanner, into)
    })?;
    message.result_task_id = message.result_task_id.or(nested_task);
    Ok(())
}

/// Leaves `view` alone for `null`, which some write next to a result.
#[inline(never)]
fn error<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, view: &mut Option<ErrorView<'a>>) -> Outcome {
    if scanner.peek() == b'n' {
        return scanner.skip();
    }
    let view = view.insert(ErrorView::default());
    object(scanner, |scanner, member| match member.key {
        ErrorKey::Code => {
            let mut code = None;
            token(scanner, &mut code)?;
            if let Some(Id::Number(raw)) = code {
                view.code = raw.parse().ok();
            }
            Ok(())
        }
        ErrorKey::Message => text(scanner, &mut view.message),
        ErrorKey::Other => scanner.skip(),
    })?;
    Ok(())
}

/// Reads an object member by member, or passes a value of another type.
#[inline(always)]
fn object<'a, B: Body<'a>, K: Keys>(
    scanner: &mut Scanner<'a, B>,
    visit: impl FnMut(&mut Scanner<'a, B>, Member<K>) -> Outcome,
) -> Result<Place, Doubt> {
    if scanner.peek() != b'{' {
        scanner.skip()?;
        return Ok(Place::Foreign);
    }
    scanner.members(visit).map(Place::Object)
}

/// Reads the string that is the member `key` of the object that begins here.
fn text_inside<'a, B: Body<'a>, K: Keys + PartialEq>(
    scanner: &mut Scanner<'a, B>,
    key: K,
    into: &mut Option<Text<'a>>,
) -> Outcome {
    object(
        scanner,
        |scanner, member: Member<K>| {
            if member.key == key { text(scanner, into) } else { scanner.skip() }
        },
    )?;
    Ok(())
}

/// Reads a string; anything else is passed.
pub(super) fn text<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, into: &mut Option<Text<'a>>) -> Outcome {
    if scanner.peek() != b'"' {
        *into = None;
        return scanner.skip();
    }
    *into = scanner.string()?;
    Ok(())
}

fn required_text<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, into: &mut Option<Text<'a>>) -> Outcome {
    text(scanner, into)?;
    if into.is_some() { Ok(()) } else { Err(Doubt::BadShape) }
}

/// Reads the version of JSON-RPC, of which there is hardly another.
#[inline(always)]
pub(super) fn version<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, into: &mut Option<Text<'a>>) -> Outcome {
    if scanner.pass(br#""2.0""#) {
        *into = Some(Text::new("2.0", false));
        return Ok(());
    }
    required_text(scanner, into)
}

/// Reads an identifier; only `null` may stand for none.
pub(super) fn id<'a, B: Body<'a>>(
    scanner: &mut Scanner<'a, B>,
    into: &mut Option<Id<'a>>,
    is_null: &mut bool,
) -> Outcome {
    *is_null = scanner.peek() == b'n';
    token(scanner, into)?;
    if into.is_some() || *is_null { Ok(()) } else { Err(Doubt::BadShape) }
}

/// Reads a string or a number; anything else is passed.
fn token<'a, B: Body<'a>>(scanner: &mut Scanner<'a, B>, into: &mut Option<Id<'a>>) -> Outcome {
    if scanner.peek() == b'"' {
        *into = scanner.string()?.map(Id::String);
        return Ok(());
    }
    *into = scanner.number()?.map(Id::Number);
    if into.is_none() { scanner.skip() } else { Ok(()) }
}
