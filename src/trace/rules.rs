//! Sampling rules: what they look at, and whether one matches a request.

use std::fmt;

use super::glob::Glob;

/// A rule as the user wrote it, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleConfig {
    /// What the user calls it; empty where it has no name.
    pub name: String,
    /// Whose sidecar it is for; empty is everybody's.
    pub agent: Vec<Glob>,
    /// What has to hold, all of it. A rule without conditions matches every request.
    pub conditions: Vec<Condition>,
    /// Whether it decides although a parent already did.
    pub root: bool,
    /// The share of traces to record, from 0.0 to 1.0.
    pub share: Option<f64>,
    /// The most traces to record each second. With a share, of those that the share keeps.
    pub per_second: Option<f64>,
}

/// One thing that has to hold of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub field: Field,
    /// One of these has to match one of its values.
    pub patterns: Vec<Glob>,
}

/// What of a request a rule can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The other side: of an inbound request the agent that its baggage
    /// names, or the caller's address; of an outbound one the host or address
    /// that is called.
    Peer,
    /// The tool of `tools/call`.
    Tool,
    /// The prompt of `prompts/get`.
    Prompt,
    /// The URI of `resources/read` and its kin.
    Resource,
    /// The JSON-RPC method.
    Method,
    /// The host that the request names, without its port.
    Host,
    /// The path, without its query.
    Path,
    /// A header field, its name in lower case.
    Header(Box<str>),
    /// A baggage entry, decoded.
    Baggage(Box<str>),
}

impl Field {
    /// Whether case means nothing in it, as in host names (RFC 4343).
    fn ignores_case(&self) -> bool {
        matches!(self, Field::Host | Field::Peer)
    }
}

impl fmt::Display for Field {
    /// The key of the configuration file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Peer => f.write_str("peer"),
            Field::Tool => f.write_str("tool"),
            Field::Prompt => f.write_str("prompt"),
            Field::Resource => f.write_str("resource"),
            Field::Method => f.write_str("method"),
            Field::Host => f.write_str("host"),
            Field::Path => f.write_str("path"),
            Field::Header(name) => write!(f, "header {name}"),
            Field::Baggage(name) => write!(f, "baggage {name}"),
        }
    }
}

/// A request as a rule sees it. Each value is looked for only when a rule asks.
pub trait Facts {
    /// Whether some value of this field passes the test. A field that the
    /// request lacks has no value.
    fn any(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool;
}

impl Condition {
    /// Whether it holds of the request.
    pub fn holds(&self, facts: &dyn Facts) -> bool {
        let any_case = self.field.ignores_case();
        facts.any(&self.field, &mut |value| {
            self.patterns.iter().any(|pattern| match any_case {
                true => pattern.matches_ignoring_case(value),
                false => pattern.matches(value),
            })
        })
    }
}

impl RuleConfig {
    /// Whether the rule is for the sidecar of this agent.
    pub fn is_for(&self, agent: &str) -> bool {
        self.agent.is_empty() || self.agent.iter().any(|pattern| pattern.matches(agent))
    }

    /// Whether every condition holds of the request.
    pub fn matches(&self, facts: &dyn Facts) -> bool {
        self.conditions.iter().all(|condition| condition.holds(facts))
    }
}

impl fmt::Display for RuleConfig {
    /// The rule in words: `5 % where tool is delete_* (rule writes)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.share, self.per_second) {
            (Some(share), None) => write!(f, "{} %", percent(share))?,
            (Some(share), Some(rate)) => write!(f, "{} %, at most {rate} a second,", percent(share))?,
            (None, Some(rate)) => write!(f, "at most {rate} a second")?,
            (None, None) => f.write_str("every trace")?,
        }
        for (index, condition) in self.conditions.iter().enumerate() {
            let patterns: Vec<&str> = condition.patterns.iter().map(Glob::as_str).collect();
            let word = if index == 0 { "where" } else { "and" };
            write!(f, " {word} {} is {}", condition.field, patterns.join(" or "))?;
        }
        if self.root {
            f.write_str(" whatever the parent decided")?;
        }
        if !self.name.is_empty() {
            write!(f, " (rule {})", self.name)?;
        }
        Ok(())
    }
}

/// A ratio as a percentage without the noise of binary fractions.
pub(super) fn percent(ratio: f64) -> f64 {
    (ratio * 1e8).round() / 1e6
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Facts as a list of fields and values.
    pub(crate) struct List<'a>(pub(crate) &'a [(Field, &'a str)]);

    impl Facts for List<'_> {
        fn any(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
            self.0.iter().any(|(have, value)| have == field && test(value))
        }
    }

    pub(crate) fn condition(field: Field, patterns: &[&str]) -> Condition {
        Condition { field, patterns: patterns.iter().map(|p| Glob::new(p)).collect() }
    }

    #[test]
    fn a_rule_matches_when_all_its_conditions_hold() {
        let rule = RuleConfig {
            conditions: vec![
                condition(Field::Tool, &["create_*", "delete_*"]),
                condition(Field::Header("x-tier".into()), &["gold"]),
            ],
            ..RuleConfig::default()
        };
        let tier = || Field::Header("x-tier".into());
        let matches = |facts: &[(Field, &str)]| rule.matches(&List(facts));
        assert!(matches(&[(Field::Tool, "delete_user"), (tier(), "gold")]));
        assert!(matches(&[(Field::Tool, "create_user"), (tier(), "iron"), (tier(), "gold")]));
        assert!(!matches(&[(Field::Tool, "read_user"), (tier(), "gold")]));
        assert!(!matches(&[(Field::Tool, "delete_user")]));
        assert!(!matches(&[(Field::Prompt, "delete_user"), (tier(), "gold")]));
        assert!(RuleConfig::default().matches(&List(&[])), "no condition, no objection");
    }

    #[test]
    fn hosts_have_no_case_and_everything_else_has() {
        let holds = |field: Field, value| condition(field.clone(), &["Ab"]).holds(&List(&[(field, value)]));
        assert!(holds(Field::Host, "aB") && holds(Field::Peer, "AB"));
        let exact = [Field::Tool, Field::Prompt, Field::Resource, Field::Method, Field::Path];
        for field in exact.into_iter().chain([Field::Header("a".into()), Field::Baggage("a".into())]) {
            assert!(holds(field.clone(), "Ab") && !holds(field, "ab"));
        }
    }

    #[test]
    fn a_rule_is_for_the_agents_that_it_names() {
        let rule = RuleConfig { agent: vec![Glob::new("pay-*"), Glob::new("auth")], ..RuleConfig::default() };
        assert!(rule.is_for("pay-eu") && rule.is_for("auth") && !rule.is_for("weather"));
        assert!(RuleConfig::default().is_for("weather"));
    }

    #[test]
    fn rules_read_as_sentences() {
        let rule = RuleConfig {
            name: "writes".into(),
            conditions: vec![
                condition(Field::Tool, &["create_*", "delete_*"]),
                condition(Field::Baggage("tier".into()), &["gold"]),
            ],
            root: true,
            share: Some(0.07),
            ..RuleConfig::default()
        };
        assert_eq!(
            rule.to_string(),
            "7 % where tool is create_* or delete_* and baggage tier is gold whatever the parent decided (rule writes)"
        );
        let rate = RuleConfig { per_second: Some(2.5), ..RuleConfig::default() };
        assert_eq!(rate.to_string(), "at most 2.5 a second");
    }
}
