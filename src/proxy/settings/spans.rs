//! Which exchanges get a span, and what it says beyond the conventions.

use http::HeaderName;

use crate::trace::glob::Glob;

/// What spans say beyond the conventions. Each entry is where a value comes
/// from and the name of its attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Fields of the request's head.
    pub from_header: Vec<(HeaderName, String)>,
    /// Baggage, decoded.
    pub from_baggage: Vec<(String, String)>,
    /// Arguments of tools that are texts, numbers or truth values.
    pub from_argument: Vec<(Argument, String)>,
    /// Whether all arguments of a tool call are written down as they came.
    pub capture_arguments: bool,
}

/// An argument of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The tool.
    pub tool: Glob,
    /// The member of its arguments.
    pub name: String,
}

/// Which exchanges get a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanRules {
    /// Whether HTTP that is not MCP gets spans too.
    pub http: bool,
    /// Whether a notification that comes in a stream of events gets one, which
    /// is an instant.
    pub notifications: bool,
    /// Whether a redirected TLS connection, which is not opened, gets one.
    pub tls: bool,
    /// An exchange that one of these matches gets no span. Its context still
    /// passes through.
    pub ignore: Vec<IgnoreRule>,
}

impl Default for SpanRules {
    /// Spans for everything but the MCP keep-alive.
    fn default() -> Self {
        SpanRules {
            http: true,
            notifications: false,
            tls: false,
            ignore: vec![IgnoreRule { method: Some(Glob::new("ping")), ..IgnoreRule::default() }],
        }
    }
}

impl SpanRules {
    /// Whether some rule says that this exchange gets no span.
    pub fn ignores(&self, exchange: &Exchange<'_>) -> bool {
        self.ignore.iter().any(|rule| rule.matches(exchange))
    }

    /// Whether some rule says so of a poll, now that its answer has come.
    pub fn ignores_task(&self, method: &str, status: &str) -> bool {
        let polls = self.ignore.iter().filter(|rule| rule.task_status.is_some());
        let exchange = Exchange { method: Some(method), task_status: Some(status), ..Exchange::default() };
        polls.into_iter().any(|rule| rule.matches(&exchange))
    }
}

/// One rule of [`SpanRules::ignore`]. It matches when every field that it
/// sets does, and a rule that sets none matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreRule {
    /// The path of the request, without its query.
    pub path: Option<Glob>,
    /// The `User-Agent` of the request.
    pub user_agent: Option<Glob>,
    /// The JSON-RPC method, such as `ping` or `notifications/*`.
    pub method: Option<Glob>,
    /// The host that the request names, without its port, whatever its case.
    pub host: Option<Glob>,
    /// What the answer to `tasks/get` and its relatives says of the task, such
    /// as `working`. Goes with `method` alone.
    pub task_status: Option<Glob>,
}

/// What an [`IgnoreRule`] looks at; a field that the exchange lacks is `None`
/// and matches no pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange<'a> {
    /// The path of the request, without its query.
    pub path: Option<&'a str>,
    /// The `User-Agent` of the request.
    pub user_agent: Option<&'a str>,
    /// The JSON-RPC method.
    pub method: Option<&'a str>,
    /// The host that the request names, without its port.
    pub host: Option<&'a str>,
    /// The state of the task that an answer tells.
    pub task_status: Option<&'a str>,
}

impl IgnoreRule {
    /// Whether every pattern that is set matches, and at least one is set.
    pub fn matches(&self, exchange: &Exchange<'_>) -> bool {
        let exact = |pattern: &Glob, value: Option<&str>| value.is_some_and(|v| pattern.matches(v));
        let any_case =
            |pattern: &Glob, value: Option<&str>| value.is_some_and(|v| pattern.matches_ignoring_case(v));
        let tests = [
            self.path.as_ref().map(|p| exact(p, exchange.path)),
            self.user_agent.as_ref().map(|p| exact(p, exchange.user_agent)),
            self.method.as_ref().map(|p| exact(p, exchange.method)),
            self.host.as_ref().map(|p| any_case(p, exchange.host)),
            self.task_status.as_ref().map(|p| exact(p, exchange.task_status)),
        ];
        let mut set = tests.into_iter().flatten().peekable();
        set.peek().is_some() && set.all(|matched| matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_matches_when_all_that_it_sets_does() {
        let rule = IgnoreRule {
            path: Some(Glob::new("/health*")),
            host: Some(Glob::new("*.LOCAL")),
            ..IgnoreRule::default()
        };
        let exchange = Exchange { path: Some("/healthz"), host: Some("App.local"), ..Exchange::default() };
        assert!(rule.matches(&exchange));
        assert!(!rule.matches(&Exchange { host: None, ..exchange }));
        assert!(!rule.matches(&Exchange { path: Some("/mcp"), ..exchange }));
        assert!(!IgnoreRule::default().matches(&exchange), "an empty rule matches nothing");
    }

    #[test]
    fn ping_is_ignored_by_default() {
        let rules = SpanRules::default();
        let call = |method| Exchange { method: Some(method), ..Exchange::default() };
        assert!(rules.ignores(&call("ping")));
        assert!(!rules.ignores(&call("tools/call")));
        assert!(!rules.ignores(&Exchange::default()));
    }
}
