//! What an answer says beyond success and failure: that it is not the last
//! word, and on which other request it bears.

use std::time::Instant;

use super::Side;
use super::waiting::{Asked, Waiting};
use crate::mcp::message::Message;
use crate::metrics::operations::ErrorType;
use crate::proxy::settings::Authority;
use crate::proxy::worker::Worker;
use crate::trace::semconv as key;

/// The states of a task that it does not leave.
const TERMINAL: [&str; 3] = ["completed", "failed", "cancelled"];

impl Waiting {
    /// Links the message to the request whose work it goes on with: a retry
    /// to the try that wanted more, a poll to the call that became a task.
    pub fn goes_on(
        &mut self,
        worker: &Worker,
        outbound: bool,
        server: Option<&Authority>,
        message: &Message<'_>,
        now: Instant,
    ) {
        let peers = &worker.tracer.peers;
        let thing = |name: &str| peers.thing(outbound, server, name);
        if let Some(state) = &message.request_state
            && let Some(first) = peers.states.begun_by(thing(&state.decode()), now)
        {
            self.link(&first, "retry");
        }
        if let Some(task) = message.task_id.as_ref().map(|task| task.decode()) {
            if let Some(span) = &mut self.span {
                span.set_str(key::MESHTRACE_TASK_ID, &task);
            }
            if let Some(call) = peers.tasks.begun_by(thing(&task), now) {
                self.link(&call, "task");
            }
        }
    }

    /// Writes what the answer of `server` says of work that goes on, and
    /// remembers it for the requests that will be about it.
    pub(super) fn came_to(
        &mut self,
        worker: &Worker,
        side: Side,
        server: Option<&Authority>,
        message: &Message<'_>,
    ) {
        let Some(asked) = self.answer().map(|answer| answer.asked) else { return };
        let result_type = message.result_type.as_ref().filter(|kind| !kind.eq_str("complete"));
        if result_type.is_none() && message.result_task_id.is_none() {
            return;
        }
        let Some(context) = self.context().map(|context| context.parent) else { return };
        let peers = &worker.tracer.peers;
        let now = Instant::now();
        if let (Some(kind), Some(span)) = (result_type, &mut self.span) {
            span.set_str(key::MESHTRACE_RESULT_TYPE, &kind.decode());
        }
        if let Some(state) = &message.result_request_state {
            peers.states.remember(peers.thing(side.outbound, server, &state.decode()), context, now);
        }
        let Some(task) = message.result_task_id.as_ref().map(|task| task.decode()) else { return };
        let thing = peers.thing(side.outbound, server, &task);
        match asked {
            Asked::Task => self.task_is(worker, thing, message),
            _ => {
                if let Some(span) = &mut self.span {
                    span.set_str(key::MESHTRACE_TASK_ID, &task);
                }
                peers.tasks.remember(thing, context, now);
            }
        }
    }

    /// The answer to a poll. A task fails once, however often that is asked.
    fn task_is(&mut self, worker: &Worker, thing: u64, message: &Message<'_>) {
        let Some(status) = message.result_status.as_ref().map(|status| status.decode()) else { return };
        let method = self.attribute(key::MCP_METHOD_NAME).unwrap_or_default();
        if worker.tracer.policy.now().spans.ignores_task(method, &status) {
            return self.discard(worker);
        }
        let Some(span) = &mut self.span else { return };
        span.set_str(key::MESHTRACE_TASK_STATUS, &status);
        if !TERMINAL.contains(&&*status) || !worker.tracer.peers.tasks.ends(thing) {
            return;
        }
        if message.task_is_error {
            self.fails(ErrorType::Named(key::TOOL_ERROR), "");
        } else if let Some(error) = &message.task_error {
            let text = error.message.as_ref().map(|message| message.decode()).unwrap_or_default();
            self.fails(error.code.map_or(ErrorType::Named("_OTHER"), ErrorType::Code), &text);
        }
    }
}
