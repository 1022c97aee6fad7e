//! The members that are read of messages and answers.

use crate::mcp::keys::{Keys, WINDOW, keys};
use crate::mcp::message::Text;

keys! {
    /// The outermost object.
    TopKey {
        Params = "params",
        Result = "result",
        Error = "error",
    }

    /// `params`.
    ParamsKey {
        Id = "id",
        TaskId = "taskId",
        ContextId = "contextId",
        Tenant = "tenant",
        Message = "message",
    }

    /// `params.message`.
    MessageKey {
        MessageId = "messageId",
        TaskId = "taskId",
        ContextId = "contextId",
        References = "referenceTaskIds",
    }

    /// `result`, and what it wraps since version 1.0.
    ResultKey {
        Id = "id",
        TaskId = "taskId",
        ContextId = "contextId",
        Status = "status",
        Task = "task",
        Message = "message",
        StatusUpdate = "statusUpdate",
        ArtifactUpdate = "artifactUpdate",
    }

    /// The status of a task.
    StatusKey {
        State = "state",
    }

    /// `error`.
    ErrorKey {
        Code = "code",
        Message = "message",
    }
}
