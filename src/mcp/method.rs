//! The methods of every MCP revision from 2024-11-05 to 2026-07-28, and of its tasks extension, in
//! one table.

/// What is known of a method.
#[derive(Debug, Eq, PartialEq)]
pub struct Method {
    /// The name on the wire.
    pub name: &'static str,
    /// Which member of `params` names what the method acts on.
    pub target: Target,
    /// In which revisions it can be met as a message of its own.
    pub era: Era,
    /// Whether it is a notification, to which there is no answer.
    pub notification: bool,
    /// Whether it only asks what is there: sent by client libraries of their own accord, and rarely
    /// of interest.
    pub is_discovery: bool,
    /// Whether it only asks if the peer is alive.
    pub is_ping: bool,
}

/// Which member of `params` names what a method acts on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// None does.
    None,
    /// `name` is a tool's: the attribute `gen_ai.tool.name`.
    ToolName,
    /// `name` is a prompt's: the attribute `gen_ai.prompt.name`.
    PromptName,
    /// `uri` is a resource's: the attribute `mcp.resource.uri`.
    ResourceUri,
    /// `taskId` is a task's.
    TaskId,
}

/// The two families of revisions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Era {
    /// Up to 2025-11-25: a session begins with `initialize`, and either side may send requests.
    Legacy,
    /// From 2026-07-28: every request stands alone, and only clients send them. What servers used
    /// to ask for travels inside results, so those methods are no messages of this era.
    Modern,
    /// Both.
    Both,
}

/// Finds a method by its name on the wire. `None` is a custom method, or not MCP at all.
pub fn lookup(name: &str) -> Option<&'static Method> {
    table::lookup(name.as_bytes())
}

/// Every method there is.
pub fn all() -> impl Iterator<Item = &'static Method> {
    table::NAMES.iter().filter_map(|name| table::lookup(name))
}

/// What a row of the table is besides its name.
enum Role {
    Call,
    Discovery,
    Ping,
    Notification,
}

impl Method {
    const fn new(name: &'static [u8], target: Target, era: Era, role: Role) -> Self {
        Self {
            name: match std::str::from_utf8(name) {
                Ok(name) => name,
                Err(_) => "",
            },
            target,
            era,
            notification: matches!(role, Role::Notification),
            is_discovery: matches!(role, Role::Discovery),
            is_ping: matches!(role, Role::Ping),
        }
    }
}

/// Turns the rows into a search over byte strings, which the compiler decides by length and then by
/// byte.
macro_rules! methods {
    ($($name:literal: $target:ident, $era:ident, $role:ident;)*) => {
        mod table {
            use super::{Era, Method, Role, Target};

            pub(super) const NAMES: &[&[u8]] = &[$($name),*];

            pub(super) fn lookup(name: &[u8]) -> Option<&'static Method> {
                match name {
                    $($name => {
                        const METHOD: &Method = &Method::new($name, Target::$target, Era::$era, Role::$role);
                        Some(METHOD)
                    })*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    b"tools/call": ToolName, Both, Call;
    b"tools/list": None, Both, Discovery;
    b"resources/read": ResourceUri, Both, Call;
    b"resources/list": None, Both, Discovery;
    b"resources/templates/list": None, Both, Discovery;
    b"resources/subscribe": ResourceUri, Legacy, Call;
    b"resources/unsubscribe": ResourceUri, Legacy, Call;
    b"prompts/get": PromptName, Both, Call;
    b"prompts/list": None, Both, Discovery;
    b"completion/complete": None, Both, Call;
    b"initialize": None, Legacy, Call;
    b"ping": None, Legacy, Ping;
    b"logging/setLevel": None, Legacy, Call;
    b"server/discover": None, Modern, Discovery;
    b"subscriptions/listen": None, Modern, Call;
    b"sampling/createMessage": None, Legacy, Call;
    b"elicitation/create": None, Legacy, Call;
    b"roots/list": None, Legacy, Call;
    b"tasks/get": TaskId, Both, Call;
    b"tasks/cancel": TaskId, Both, Call;
    b"tasks/result": TaskId, Legacy, Call;
    b"tasks/list": None, Legacy, Discovery;
    b"tasks/update": TaskId, Modern, Call;
    b"notifications/initialized": None, Legacy, Notification;
    b"notifications/cancelled": None, Both, Notification;
    b"notifications/progress": None, Both, Notification;
    b"notifications/message": None, Both, Notification;
    b"notifications/tools/list_changed": None, Both, Notification;
    b"notifications/prompts/list_changed": None, Both, Notification;
    b"notifications/resources/list_changed": None, Both, Notification;
    b"notifications/resources/updated": ResourceUri, Both, Notification;
    b"notifications/roots/list_changed": None, Legacy, Notification;
    b"notifications/elicitation/complete": None, Legacy, Notification;
    b"notifications/tasks/status": TaskId, Legacy, Notification;
    b"notifications/tasks": TaskId, Modern, Notification;
    b"notifications/subscriptions/acknowledged": None, Modern, Notification;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_under_its_own_name_only() {
        assert_eq!(all().count(), 36);
        for method in all() {
            assert_eq!(lookup(method.name), Some(method));
            assert_eq!(method.notification, method.name.starts_with("notifications/"));
            assert!(!(method.notification && method.is_discovery));
            assert_eq!(lookup(&format!("{}x", method.name)), None);
            assert_eq!(lookup(&method.name.to_uppercase()), None);
        }
        for unknown in ["", "tools", "tools/cal", "message/send", "SendMessage", "rpc.discover"] {
            assert_eq!(lookup(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn targets_and_eras_are_those_of_the_revisions() {
        for (name, target, era) in [
            ("tools/call", Target::ToolName, Era::Both),
            ("prompts/get", Target::PromptName, Era::Both),
            ("resources/read", Target::ResourceUri, Era::Both),
            ("resources/subscribe", Target::ResourceUri, Era::Legacy),
            ("notifications/resources/updated", Target::ResourceUri, Era::Both),
            ("tasks/get", Target::TaskId, Era::Both),
            ("tasks/update", Target::TaskId, Era::Modern),
            ("initialize", Target::None, Era::Legacy),
            ("server/discover", Target::None, Era::Modern),
            ("sampling/createMessage", Target::None, Era::Legacy),
        ] {
            let method = lookup(name).unwrap();
            assert_eq!((method.target, method.era), (target, era), "{name}");
        }
        assert!(lookup("ping").is_some_and(|method| method.is_ping && !method.is_discovery));
        assert!(lookup("tools/list").is_some_and(|method| method.is_discovery));
        assert!(lookup("tools/call").is_some_and(|method| !method.is_discovery && !method.is_ping));
    }
}
