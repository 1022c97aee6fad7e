//! The level of our own diagnostics, which may be changed while they go on.

use std::fmt;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

/// Where it is on the admin port.
pub(super) const PATH: &str = "/log-level";

/// The words for it.
pub(super) const WORDS: &str = "off, error, warn, info, debug, trace";

/// The level that a word stands for.
pub(super) fn parse(word: &str) -> Option<LevelFilter> {
    WORDS.split(", ").any(|known| known == word).then(|| word.parse().ok())?
}

/// A handle: given a level it sets it, and it answers the one in force.
#[derive(Clone)]
pub struct Level(pub Arc<dyn Fn(Option<LevelFilter>) -> LevelFilter + Send + Sync>);

impl Level {
    /// A level that cannot be changed.
    pub fn fixed(level: LevelFilter) -> Self {
        Level(Arc::new(move |_| level))
    }

    /// The level in force.
    pub fn now(&self) -> LevelFilter {
        (self.0)(None)
    }

    /// Puts another one in force, and answers the one that is.
    pub fn set(&self, level: LevelFilter) -> LevelFilter {
        (self.0)(Some(level))
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Level({})", self.now())
    }
}
