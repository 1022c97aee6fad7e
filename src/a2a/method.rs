//! The methods of A2A in one table.

use super::request::Request;

/// What is known of a method.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// The name on the wire.
    pub wire: &'static str,
    /// The operation, under the name that version 1.0 has for it.
    pub operation: &'static str,
    shape: Shape,
}

/// What tells a message of this name from those of other protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// It has a message.
    Message,
    /// It names a task by `id`, where MCP has `taskId`.
    Task,
    /// Its name, which nobody else has.
    Name,
    /// Nothing.
    None,
}

const METHODS: [Method; 21] = [
    Method::new("SendMessage", "SendMessage", Shape::Message),
    Method::new("SendStreamingMessage", "SendStreamingMessage", Shape::Message),
    Method::new("GetTask", "GetTask", Shape::Task),
    Method::new("ListTasks", "ListTasks", Shape::None),
    Method::new("CancelTask", "CancelTask", Shape::Task),
    Method::new("SubscribeToTask", "SubscribeToTask", Shape::Task),
    Method::new("CreateTaskPushNotificationConfig", "CreateTaskPushNotificationConfig", Shape::Name),
    Method::new("GetTaskPushNotificationConfig", "GetTaskPushNotificationConfig", Shape::Name),
    Method::new("ListTaskPushNotificationConfigs", "ListTaskPushNotificationConfigs", Shape::Name),
    Method::new("DeleteTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig", Shape::Name),
    Method::new("GetExtendedAgentCard", "GetExtendedAgentCard", Shape::Name),
    Method::new("message/send", "SendMessage", Shape::Message),
    Method::new("message/stream", "SendStreamingMessage", Shape::Message),
    Method::new("tasks/get", "GetTask", Shape::Task),
    Method::new("tasks/cancel", "CancelTask", Shape::Task),
    Method::new("tasks/resubscribe", "SubscribeToTask", Shape::Task),
    Method::new("tasks/pushNotificationConfig/set", "CreateTaskPushNotificationConfig", Shape::Name),
    Method::new("tasks/pushNotificationConfig/get", "GetTaskPushNotificationConfig", Shape::Name),
    Method::new("tasks/pushNotificationConfig/list", "ListTaskPushNotificationConfigs", Shape::Name),
    Method::new("tasks/pushNotificationConfig/delete", "DeleteTaskPushNotificationConfig", Shape::Name),
    Method::new("agent/getAuthenticatedExtendedCard", "GetExtendedAgentCard", Shape::Name),
];

/// Finds a method by its name on the wire.
pub fn lookup(wire: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.wire == wire)
}

impl Method {
    const fn new(wire: &'static str, operation: &'static str, shape: Shape) -> Self {
        Method { wire, operation, shape }
    }

    /// Whether the name is one of version 0.3 and before.
    pub(super) fn is_old(&self) -> bool {
        self.wire.contains('/')
    }

    /// Whether the message can be nothing else.
    pub(super) fn is_shaped(&self, request: &Request<'_>) -> bool {
        match self.shape {
            Shape::Message => request.has_message,
            Shape::Task => request.id.is_some() && request.task_id.is_none(),
            Shape::Name => true,
            Shape::None => false,
        }
    }

    /// Whether `params.id` is the id of a task.
    pub(super) fn has_task(&self) -> bool {
        self.shape == Shape::Task
    }
}
