//! What a user can set about head sampling, as plain data.

use std::fmt;
use std::time::Duration;

use super::rules::{RuleConfig, percent};

/// Everything that decides which traces are recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingConfig {
    /// What happens where no rule matches.
    pub fallback: SamplerConfig,
    /// The first one that matches decides.
    pub rules: Vec<RuleConfig>,
    /// The most traces that one sidecar begins each second.
    pub max_per_second: Option<f64>,
    /// What is kept for how it ended, although it was not to be recorded.
    pub keep: Option<Keep>,
}

/// Which outcomes are kept although the head decision said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Those that failed.
    pub errors: bool,
    /// Those that took longer.
    pub slower_than: Option<Duration>,
}

impl Keep {
    /// Why an operation that ended so is kept: the value of `meshtrace.sampling.reason`.
    pub fn reason(&self, failed: bool, took: Duration) -> Option<&'static str> {
        if self.errors && failed {
            return Some("error");
        }
        self.slower_than.is_some_and(|bound| took > bound).then_some("slow")
    }
}

impl From<SamplerConfig> for SamplingConfig {
    /// No rules and no bound.
    fn from(fallback: SamplerConfig) -> Self {
        SamplingConfig { fallback, ..SamplingConfig::default() }
    }
}

impl SamplingConfig {
    /// The sampler in words, for the sidecar of this agent.
    pub fn describe(&self, agent: &str) -> String {
        let rules = self.rules.iter().filter(|rule| rule.is_for(agent));
        let mut parts: Vec<String> = rules.map(ToString::to_string).collect();
        let fallback = self.fallback.describe();
        parts.push(if parts.is_empty() { fallback } else { format!("else {fallback}") });
        let mut text = parts.join("; ");
        if let Some(most) = self.max_per_second {
            text.push_str(&format!("; of traces that begin here at most {most} a second"));
        }
        match self.keep {
            Some(Keep { errors: true, slower_than: None }) => text.push_str("; keeps what failed"),
            Some(Keep { errors, slower_than: Some(bound) }) => {
                let failed = if errors { "failed or " } else { "" };
                text.push_str(&format!("; keeps what {failed}took longer than {bound:?}"));
            }
            _ => {}
        }
        text
    }
}

/// Which traces are recorded: what roots get, and whether a parent overrules it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig {
    /// The decision for a request without a parent, and for every request
    /// when the parent is not asked.
    pub root: Root,
    /// Whether a request with a parent follows the parent's sampled flag.
    pub parent_based: bool,
}

/// The decision where no parent decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Root {
    /// Record every trace.
    AlwaysOn,
    /// Record none.
    AlwaysOff,
    /// Record this share of traces, from 0.0 to 1.0, chosen by trace id.
    Ratio(f64),
}

impl Default for SamplerConfig {
    /// `parentbased_always_on`, the default of the OpenTelemetry specification.
    fn default() -> Self {
        SamplerConfig { root: Root::AlwaysOn, parent_based: true }
    }
}

impl SamplerConfig {
    /// The sampler in words, for the line that is logged at start.
    pub fn describe(&self) -> String {
        if self.parent_based {
            format!("{} without a parent; with one, as the parent decided", self.root)
        } else {
            format!("{}, whatever the parent decided", self.root)
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Root::AlwaysOn => f.write_str("every trace"),
            Root::AlwaysOff => f.write_str("no trace"),
            Root::Ratio(ratio) => write!(f, "{} % of traces, chosen by trace id", percent(*ratio)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_read_as_sentences() {
        let ratio = SamplerConfig { root: Root::Ratio(0.07), parent_based: false };
        assert_eq!(ratio.describe(), "7 % of traces, chosen by trace id, whatever the parent decided");
        assert_eq!(
            SamplerConfig::default().describe(),
            "every trace without a parent; with one, as the parent decided"
        );
    }

    #[test]
    fn rules_come_before_what_no_rule_matched() {
        let rule = |name: &str, agent: &[&str]| RuleConfig {
            name: name.to_owned(),
            agent: agent.iter().map(|a| crate::trace::glob::Glob::new(a)).collect(),
            share: Some(0.5),
            ..RuleConfig::default()
        };
        let config = SamplingConfig {
            rules: vec![rule("a", &[]), rule("b", &["other"])],
            max_per_second: Some(1_000.0),
            keep: Some(Keep { errors: true, slower_than: Some(Duration::from_millis(500)) }),
            ..SamplingConfig::default()
        };
        assert_eq!(
            config.describe("agent"),
            "50 % (rule a); else every trace without a parent; with one, as the parent decided; \
             of traces that begin here at most 1000 a second; keeps what failed or took longer than 500ms"
        );
    }
}
