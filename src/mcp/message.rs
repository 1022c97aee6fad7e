//! A borrowed view of one JSON-RPC 2.0 message: what a proxy needs of it to name, match, judge and
//! re-parent it.
//!
//! The biases: a body that could be read in two ways is not read at all, and a field of an
//! unexpected type counts as absent rather than as a failure, unless the message cannot be told
//! apart without it.

use super::ends;
use super::meta::{Place, Points};
use super::read;
use super::scan::{Body, Scanner, Unseen};

pub use super::id::{Id, MAX_ID_BYTES, OwnedId};
pub use super::text::Text;

/// From how many bytes on a look of its own at all of them costs more than to watch what is passed.
const LARGE: usize = 512;

/// Reads one message: a single JSON object, its members in any order and spelled with or without
/// escapes.
///
/// One pass, nothing copied, nothing allocated unless a member name is spelled with escapes. The
/// body has to be UTF-8, and the objects that are looked into have to be JSON to the letter. Of
/// other arrays and objects only quotes and brackets are looked at: these tell all readers of JSON
/// alike where the value ends. An object cut short or followed by anything but white space is
/// refused.
///
/// In the middle of a large array or object that is passed so, rows of one object after the other say
/// for as long as they go on that it does, and so does an array without a `]`; the brackets are not
/// counted then. That tells the same of all that is JSON, but for its depth. Of what is none, brackets
/// too few or too many may go unnoticed, and so may what comes after a whole message if it begins with
/// `]` or `,{`. The caller bounds the size.
///
/// # Errors
///
/// A [`Doubt`]; the bytes are then best passed on untouched.
pub fn parse(body: &[u8]) -> Result<Message<'_>, Doubt> {
    let mut message = Message::default();
    message.read(body).map(|()| message)
}

/// Reads one message for what it answers, at a fraction of what [`parse`] costs: `params` is passed
/// unread, and the message is never [spliceable](Message::spliceable).
///
/// An answer that `parse` reads, this reads to the same outcome. It also takes bodies that are not
/// UTF-8; a text that is handed out and is not counts as absent.
///
/// # Errors
///
/// A [`Doubt`], as [`parse`] has it, but never [`Doubt::NotUtf8`].
pub fn parse_answer(body: &[u8]) -> Result<Message<'_>, Doubt> {
    let mut message = Message::default();
    message.read_answer(body).map(|()| message)
}

/// Gives whether the whole body is known to be ASCII.
#[inline(always)]
fn read_body<'a, B: Body<'a>>(body: B, message: &mut Message<'a>) -> Result<bool, Doubt> {
    let mut scanner = Scanner::new(body);
    match scanner.space() {
        b'{' => {}
        b'[' => return Err(Doubt::Batch),
        b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => return Err(Doubt::NotObject),
        _ => return Err(Doubt::NotJson),
    }
    if !B::CALLS {
        message.points.params = Place::Foreign;
    }
    read::top(&mut scanner, message)?;
    if scanner.is_done() { Ok(scanner.is_ascii()) } else { Err(Doubt::NotJson) }
}

fn check_text(body: &[u8]) -> Result<&str, Doubt> {
    simdutf8::basic::from_utf8(body).map_err(|_| Doubt::NotUtf8)
}

/// Why a body was not read as a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Doubt {
    /// Not JSON as RFC 8259 defines it, or something follows the first value. A byte order mark
    /// counts as this.
    NotJson,
    /// Not UTF-8, which MCP requires and JSON-RPC implies.
    NotUtf8,
    /// A member that is read here occurs twice: receivers differ on which of the two counts.
    Duplicate,
    /// Nested deeper than 128 levels, as far as these are counted.
    Depth,
    /// Neither an object nor an array; decided by the first character.
    NotObject,
    /// An array, so probably a batch (MCP 2025-03-26); decided by the first character.
    Batch,
    /// JSON, but not a message: `id`, `method` or `jsonrpc` has a type that JSON-RPC does not
    /// allow, or the object is both call and answer, or neither.
    BadShape,
}

/// The three kinds of message (JSON-RPC 2.0, sections 4 and 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kind {
    /// Has a method and an identifier, and so expects an answer.
    Request,
    /// Has a method and no identifier.
    Notification,
    /// Has a result or an error.
    #[default]
    Response,
}

/// One message. Every text is borrowed from the body; absent, `null` and wrongly typed fields are
/// all `None`.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    /// Name of the method; present in requests and notifications.
    pub method: Option<Text<'a>>,
    /// The identifier.
    pub id: Option<Id<'a>>,
    /// Whether `id` is there and `null`, as in an error that answers an unreadable request.
    pub id_is_null: bool,
    /// The protocol's version, `2.0` in all of MCP.
    pub jsonrpc: Option<Text<'a>>,

    /// `params.name`: the tool of `tools/call`, the prompt of `prompts/get`.
    pub name: Option<Text<'a>>,
    /// `params.uri`: the resource of `resources/read` and its relatives.
    pub uri: Option<Text<'a>>,
    /// `params.taskId`: the task of `tasks/get` and its relatives.
    pub task_id: Option<Text<'a>>,
    /// `params.arguments`, the bytes of the value whatever its type.
    pub arguments: Option<&'a [u8]>,
    /// `params.requestId`: what `notifications/cancelled` is about.
    pub request_id: Option<Id<'a>>,
    /// `params.progressToken`: what `notifications/progress` is about.
    pub progress_token: Option<Id<'a>>,
    /// `params.requestState`: what a retry echoes of an `input_required` result (MCP 2026-07-28). A
    /// secret.
    pub request_state: Option<Text<'a>>,
    /// `params.protocolVersion` of `initialize`.
    pub params_protocol_version: Option<Text<'a>>,
    /// `params.clientInfo.name` of `initialize`.
    pub params_client_name: Option<Text<'a>>,
    /// `params._meta`.
    pub meta: Meta<'a>,

    /// Whether the answer has a `result`.
    pub has_result: bool,
    /// Whether `result.isError` is `true`: the tool itself reports that it failed.
    pub is_error: bool,
    /// `result.resultType` (MCP 2026-07-28): `complete`, `input_required`, or an extension's, such
    /// as `task`.
    pub result_type: Option<Text<'a>>,
    /// `result.protocolVersion` of the answer to `initialize`.
    pub result_protocol_version: Option<Text<'a>>,
    /// `result.requestState` of an `input_required` result (MCP 2026-07-28). A secret.
    pub result_request_state: Option<Text<'a>>,
    /// `result.taskId`, or `result.task.taskId` as MCP 2025-11-25 has it.
    pub result_task_id: Option<Text<'a>>,
    /// `result.status`: the state of a task.
    pub result_status: Option<Text<'a>>,
    /// Whether `result.result.isError` is `true`: what a task came to (MCP 2026-07-28).
    pub task_is_error: bool,
    /// `result.error`: why a task failed (MCP 2026-07-28).
    pub task_error: Option<ErrorView<'a>>,
    /// `error`, unless it is absent or `null`.
    pub error: Option<ErrorView<'a>>,

    pub(super) kind: Kind,
    pub(super) points: Points,
}

impl<'a> Message<'a> {
    /// Fills an empty message in its place, as [`parse`] does: one is too large to be moved for
    /// nothing.
    ///
    /// # Errors
    ///
    /// As for [`parse`]. What was read by then stays in the message and means nothing.
    pub fn read(&mut self, body: &'a [u8]) -> Result<(), Doubt> {
        if body.len() < LARGE { self.read_checked(body) } else { self.read_unchecked(body) }
    }

    /// [`read`](Self::read) after a look at all bytes for what is no UTF-8.
    #[inline(always)]
    pub(super) fn read_checked(&mut self, body: &'a [u8]) -> Result<(), Doubt> {
        read_body(check_text(body)?, self).map(drop)
    }

    /// The same with that look only where not all that was passed is ASCII, which is seen in
    /// passing. Outside of strings nothing but ASCII is passed, so either reader hands out the same.
    #[inline(never)]
    pub(super) fn read_unchecked(&mut self, body: &'a [u8]) -> Result<(), Doubt> {
        match read_body(Unseen(body), self) {
            Ok(true) => Ok(()),
            outcome => check_text(body).and(outcome.map(drop)),
        }
    }

    /// The same for [`parse_answer`].
    ///
    /// # Errors
    ///
    /// As for [`parse_answer`]. What was read by then stays in the message and means nothing.
    pub fn read_answer(&mut self, body: &'a [u8]) -> Result<(), Doubt> {
        read_body(body, self).map(drop)
    }

    /// Reads one message as [`read_answer`](Self::read_answer) does, but a large answer to
    /// `tools/call` off its ends where these tell how the call came out: what lies between is then
    /// searched at most, and not known to be JSON.
    ///
    /// # Errors
    ///
    /// As for [`parse_answer`]. What was read by then stays in the message and means nothing.
    pub fn read_outcome(&mut self, body: &'a [u8]) -> Result<(), Doubt> {
        if body.len() >= ends::LARGE && ends::read(body, ends::WINDOW, self) {
            return Ok(());
        }
        self.read_answer(body)
    }

    /// Request, notification or response.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether trace context can be written into this message: it is a call, and its `params` and
    /// `params._meta`, where present, are objects.
    pub fn spliceable(&self) -> bool {
        self.kind != Kind::Response && self.points.are_objects()
    }
}

/// What is read of `params._meta` (MCP 2026-07-28, reserved keys). Trace context is what the peer
/// wrote, unchecked.
#[derive(Clone, Debug, Default)]
pub struct Meta<'a> {
    /// Whether `params._meta` is there, of whatever type.
    pub present: bool,
    /// `traceparent` (W3C Trace Context).
    pub traceparent: Option<Text<'a>>,
    /// `tracestate` (W3C Trace Context).
    pub tracestate: Option<Text<'a>>,
    /// `baggage` (W3C Baggage).
    pub baggage: Option<Text<'a>>,
    /// `io.modelcontextprotocol/protocolVersion`; its presence makes a request a 2026-07-28 one.
    pub protocol_version: Option<Text<'a>>,
    /// `name` in `io.modelcontextprotocol/clientInfo`.
    pub client_name: Option<Text<'a>>,
    /// `io.modelcontextprotocol/subscriptionId`: the `subscriptions/listen` request that a
    /// notification belongs to.
    pub subscription_id: Option<Id<'a>>,
    /// `progressToken`: the name under which the sender wants to hear of progress.
    pub progress_token: Option<Id<'a>>,
}

/// What is read of `error` (JSON-RPC 2.0, section 5.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorView<'a> {
    /// `code`, if it is an integer.
    pub code: Option<i64>,
    /// `message`; may hold user data.
    pub message: Option<Text<'a>>,
}
