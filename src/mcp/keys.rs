//! The members that are read, object by object, and how their names are recognised.

use super::text::Text;

/// How many bytes are compared at once when a member is expected.
pub(crate) const WINDOW: usize = 16;

/// The names that are known in one kind of object; all others are one.
pub(crate) trait Keys: Copy {
    /// The member whose quoted name and colon `rest` begins with, and their length: most members
    /// are recognised by this, without looking for the end of the name. `window` is the beginning
    /// of `rest`, of known length so that short names need no look at how long it is.
    fn at_head(window: &[u8; WINDOW], rest: &[u8]) -> Option<(Self, usize)>;

    /// The member of this name.
    fn named(name: &[u8]) -> Self;

    /// The member of this name, which is spelled with escapes.
    fn spelled(name: Text<'_>) -> Self;

    /// One bit for each known name, and none for the others.
    fn bit(self) -> u32;
}

macro_rules! keys {
    ($($(#[$doc:meta])* $object:ident { $($variant:ident = $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum $object { $($variant,)* Other }

        impl Keys for $object {
            #[inline(always)]
            fn at_head(window: &[u8; WINDOW], rest: &[u8]) -> Option<(Self, usize)> {
                $({
                    const QUOTED: &[u8] = concat!("\"", $name, "\":").as_bytes();
                    let head = if QUOTED.len() <= WINDOW { window } else { rest };
                    if head.starts_with(QUOTED) {
                        return Some((Self::$variant, QUOTED.len()));
                    }
                })*
                None
            }

            #[inline(always)]
            fn named(name: &[u8]) -> Self {
                $(if name == $name.as_bytes() {
                    return Self::$variant;
                })*
                Self::Other
            }

            #[cold]
            fn spelled(name: Text<'_>) -> Self {
                $(if name.eq_str($name) {
                    return Self::$variant;
                })*
                Self::Other
            }

            #[inline(always)]
            fn bit(self) -> u32 {
                if self == Self::Other { 0 } else { 1 << (self as u32) }
            }
        }
    )*};
}

pub(crate) use keys;

keys! {
    /// The outermost object (JSON-RPC 2.0).
    TopKey {
        Jsonrpc = "jsonrpc",
        Id = "id",
        Method = "method",
        Params = "params",
        Result = "result",
        Error = "error",
    }

    /// `params`.
    ParamsKey {
        Name = "name",
        Arguments = "arguments",
        Meta = "_meta",
        Uri = "uri",
        TaskId = "taskId",
        RequestId = "requestId",
        ProgressToken = "progressToken",
        RequestState = "requestState",
        ProtocolVersion = "protocolVersion",
        ClientInfo = "clientInfo",
    }

    /// `params.arguments`, where the library MCP Mesh made the call.
    ArgumentsKey {
        TraceId = "_trace_id",
        ParentSpan = "_parent_span",
        MeshHeaders = "_mesh_headers",
    }

    /// `params.arguments._mesh_headers`.
    MeshHeadersKey {
        Traceparent = "traceparent",
        Tracestate = "tracestate",
    }

    /// `params._meta`.
    MetaKey {
        Traceparent = "traceparent",
        Tracestate = "tracestate",
        Baggage = "baggage",
        ProgressToken = "progressToken",
        ProtocolVersion = "io.modelcontextprotocol/protocolVersion",
        ClientInfo = "io.modelcontextprotocol/clientInfo",
        SubscriptionId = "io.modelcontextprotocol/subscriptionId",
    }

    /// `result`.
    ResultKey {
        IsError = "isError",
        ResultType = "resultType",
        ProtocolVersion = "protocolVersion",
        RequestState = "requestState",
        TaskId = "taskId",
        Task = "task",
        Status = "status",
        Result = "result",
        Error = "error",
    }

    /// `error`.
    ErrorKey {
        Code = "code",
        Message = "message",
    }

    /// An object that is looked into for a name.
    NamedKey {
        Name = "name",
    }

    /// The result of a task.
    OutcomeKey {
        IsError = "isError",
    }

    /// An object that is looked into for a task.
    TaskKey {
        TaskId = "taskId",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_every_spelling() {
        fn at_head<K: Keys>(rest: &str) -> Option<(K, usize)> {
            K::at_head(rest.as_bytes().first_chunk()?, rest.as_bytes())
        }
        assert_eq!(at_head(r#""method":"tools/call""#), Some((TopKey::Method, 9)));
        assert_eq!(at_head::<TopKey>(r#""methods":"tools/call""#), None);
        assert_eq!(at_head::<TopKey>(r#""method" :"tools/call""#), None);
        assert_eq!(at_head(r#""progressToken":1"#), Some((MetaKey::ProgressToken, 16)));
        assert_eq!(
            at_head(r#""io.modelcontextprotocol/protocolVersion":"#),
            Some((MetaKey::ProtocolVersion, 42))
        );
        assert_eq!(at_head::<MetaKey>(r#""io.modelcontextprotocol/protocol"#), None);
        assert_eq!(TopKey::named(b"id"), TopKey::Id);
        assert_eq!(TopKey::named(b"Id"), TopKey::Other);
        assert_eq!(TopKey::spelled(Text::new(r"\u0069d", true)), TopKey::Id);
        assert_eq!(TopKey::spelled(Text::new(r"\u0049d", true)), TopKey::Other);
    }

    #[test]
    fn each_known_name_has_a_bit_of_its_own() {
        assert_eq!(MetaKey::Traceparent.bit(), 1);
        assert_eq!(MetaKey::SubscriptionId.bit(), 1 << 6);
        assert_eq!(MetaKey::Other.bit(), 0);
    }
}
