//! What an agent answers: the task, its state, its conversation, or an error; in one answer or in
//! many of the same id, which come as events.

use super::keys::{ErrorKey, ResultKey, StatusKey, TopKey};
use crate::mcp::message::{Doubt, Text};
use crate::mcp::values::{Outcome, Reader, count, object, text};

/// The longest id or state that is kept, in bytes; what is longer counts as absent.
const MAX_TEXT_BYTES: usize = 256;
/// The longest message of an error that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// What is known of an answer so far.
#[derive(Debug, Default, PartialEq)]
pub struct Reply {
    /// The task.
    pub task_id: Option<Box<str>>,
    /// Its latest state.
    pub state: Option<Box<str>>,
    /// The conversation.
    pub context_id: Option<Box<str>>,
    /// The error that it is.
    pub error: Option<Failure>,
}

/// A JSON-RPC error.
#[derive(Debug, Default, PartialEq)]
pub struct Failure {
    /// Its code, if that is an integer.
    pub code: Option<i64>,
    /// Its message; may hold user data.
    pub message: Box<str>,
}

/// What one object of an answer says.
#[derive(Default)]
struct Found<'a> {
    id: Option<Text<'a>>,
    task_id: Option<Text<'a>>,
    context_id: Option<Text<'a>>,
    state: Option<Text<'a>>,
    has_status: bool,
}

impl Reply {
    /// Takes in a whole answer, or the data of one event. What cannot be read says nothing.
    pub fn read(&mut self, data: &[u8]) {
        let _ = self.try_read(data);
    }

    /// The same, and whether all of it could be read.
    pub(super) fn try_read(&mut self, data: &[u8]) -> Outcome {
        let mut scanner = Reader::new(data);
        if scanner.space() != b'{' {
            return Err(Doubt::NotObject);
        }
        object(&mut scanner, |scanner, key| match key {
            TopKey::Result => self.result(scanner, true),
            TopKey::Error => self.error(scanner),
            _ => scanner.skip(),
        })?;
        if scanner.is_done() { Ok(()) } else { Err(Doubt::NotJson) }
    }

    fn result(&mut self, scanner: &mut Reader<'_>, is_outer: bool) -> Outcome {
        let mut found = Found::default();
        let read = object(scanner, |scanner, key| {
            match key {
                ResultKey::Id => found.id = text(scanner)?,
                ResultKey::TaskId => found.task_id = text(scanner)?,
                ResultKey::ContextId => found.context_id = text(scanner)?,
                ResultKey::Status => {
                    found.has_status = scanner.peek() == b'{';
                    return object(scanner, |scanner, key| match key {
                        StatusKey::State => {
                            found.state = text(scanner)?;
                            Ok(())
                        }
                        StatusKey::Other => scanner.skip(),
                    });
                }
                ResultKey::Task
                | ResultKey::Message
                | ResultKey::StatusUpdate
                | ResultKey::ArtifactUpdate
                    if is_outer =>
                {
                    return self.result(scanner, false);
                }
                _ => return scanner.skip(),
            }
            Ok(())
        });
        // A configuration has an id too; only a task has a status beside it.
        let task = found.task_id.or(found.id.filter(|_| found.has_status));
        keep(&mut self.task_id, task);
        keep(&mut self.state, found.state);
        keep(&mut self.context_id, found.context_id);
        read
    }

    /// `null` where there is none.
    fn error(&mut self, scanner: &mut Reader<'_>) -> Outcome {
        if scanner.peek() == b'n' {
            return scanner.skip();
        }
        let (mut code, mut message) = (None, None);
        let read = object(scanner, |scanner, key| {
            match key {
                ErrorKey::Code => code = count(scanner)?,
                ErrorKey::Message => message = text(scanner)?,
                ErrorKey::Other => scanner.skip()?,
            }
            Ok(())
        });
        let message = message.filter(|message| message.raw().len() <= MAX_MESSAGE_BYTES);
        let message = message.map(|message| message.decode().into()).unwrap_or_default();
        self.error = Some(Failure { code, message });
        read
    }
}

/// Keeps the latest.
fn keep(into: &mut Option<Box<str>>, text: Option<Text<'_>>) {
    let text = text.filter(|text| (1..=MAX_TEXT_BYTES).contains(&text.raw().len()));
    if let Some(text) = text.filter(|text| into.as_deref().is_none_or(|held| !text.eq_str(held))) {
        *into = Some(text.decode().into());
    }
}
