//! What a user can set about head sampling, as plain data.

use std::fmt;

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

/// A ratio as a percentage without the noise of binary fractions.
fn percent(ratio: f64) -> f64 {
    (ratio * 1e8).round() / 1e6
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
}
