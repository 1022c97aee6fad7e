//! What a message to an agent says of itself beside its content.

use super::keys::{MessageKey, ParamsKey, TopKey};
use super::method::Method;
use crate::mcp::message::Text;
use crate::mcp::values::{Outcome, Reader, each, object, text};

/// The most tasks that a message refers to that are read.
const MAX_REFERENCES: usize = 16;

/// The parameters of a message.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// Whether there is a message in it.
    pub has_message: bool,
    /// `params.id`: a task, or a configuration.
    pub id: Option<Text<'a>>,
    /// `params.taskId`.
    pub task_id: Option<Text<'a>>,
    /// `params.contextId`.
    pub context_id: Option<Text<'a>>,
    /// `params.tenant`.
    pub tenant: Option<Text<'a>>,
    /// The id of the message in it.
    pub message_id: Option<Text<'a>>,
    /// Tasks that the message refers to, 16 at most.
    pub references: Vec<Text<'a>>,
    message_task_id: Option<Text<'a>>,
    message_context_id: Option<Text<'a>>,
}

impl<'a> Request<'a> {
    /// Reads a whole JSON-RPC message; `None` where it is no object, or has a known member twice.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut request = Request::default();
        let mut scanner = Reader::new(body);
        if scanner.space() != b'{' {
            return None;
        }
        let read = object(&mut scanner, |scanner, key| match key {
            TopKey::Params => object(scanner, |scanner, key| request.param(scanner, key)),
            _ => scanner.skip(),
        });
        (read.is_ok() && scanner.is_done()).then_some(request)
    }

    fn param(&mut self, scanner: &mut Reader<'a>, key: ParamsKey) -> Outcome {
        match key {
            ParamsKey::Id => self.id = text(scanner)?,
            ParamsKey::TaskId => self.task_id = text(scanner)?,
            ParamsKey::ContextId => self.context_id = text(scanner)?,
            ParamsKey::Tenant => self.tenant = text(scanner)?,
            ParamsKey::Message => {
                self.has_message = scanner.peek() == b'{';
                return object(scanner, |scanner, key| self.message(scanner, key));
            }
            ParamsKey::Other => return scanner.skip(),
        }
        Ok(())
    }

    fn message(&mut self, scanner: &mut Reader<'a>, key: MessageKey) -> Outcome {
        match key {
            MessageKey::MessageId => self.message_id = text(scanner)?,
            MessageKey::TaskId => self.message_task_id = text(scanner)?,
            MessageKey::ContextId => self.message_context_id = text(scanner)?,
            MessageKey::References => {
                return each(scanner, |scanner| {
                    let task = text(scanner)?;
                    self.references.extend(task.filter(|_| self.references.len() < MAX_REFERENCES));
                    Ok(())
                });
            }
            MessageKey::Other => return scanner.skip(),
        }
        Ok(())
    }

    /// The task that a message of this method is about.
    pub fn task(&self, method: &Method) -> Option<Text<'a>> {
        let named = if method.has_task() { self.id } else { self.task_id };
        named.or(self.message_task_id)
    }

    /// The conversation that it belongs to.
    pub fn conversation(&self) -> Option<Text<'a>> {
        self.message_context_id.or(self.context_id)
    }
}
