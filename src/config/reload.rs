//! The configuration file while the sidecar runs: read again, compared, and
//! taken over where that is possible without a restart.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::file::{self, Settings};
use crate::proxy::settings::{Attributes, SpanRules};
use crate::trace::sampler_config::SamplingConfig;

/// A configuration file and what of it is in force.
#[derive(Clone)]
pub struct FileInForce {
    path: PathBuf,
    service: String,
    /// The text that was looked at last, good or bad.
    seen: Result<String, Error>,
    /// What the process was started with, or took over since.
    pub(super) settings: Settings,
}

/// What a look at the file brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It says what it said before.
    Nothing,
    /// These take over now. Sections that need a restart are named; what was
    /// in force of them stays.
    New {
        /// Which exchanges get a span.
        spans: SpanRules,
        /// What spans say beyond the conventions.
        attributes: Attributes,
        /// Which traces are recorded.
        sampling: SamplingConfig,
        /// Sections that differ from what the process was started with and
        /// cannot change while it runs.
        restart: Vec<&'static str>,
    },
    /// It cannot be used, and everything stays as it is.
    Refused(Error),
}

impl FileInForce {
    /// Reads a file for the first time.
    pub(super) fn open(path: PathBuf, service: &str) -> Result<Self, Error> {
        let text = file::read(&path)?;
        let settings = file::parse(&path, &text, service)?;
        Ok(FileInForce { path, service: service.to_owned(), seen: Ok(text), settings })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it again. The content is compared, not the date: a ConfigMap is
    /// exchanged by turning a symbolic link. A bad file is reported once, and
    /// again when it is bad in another way. `in_force` is what was decided by
    /// until now; of it, what the file cannot say is kept.
    pub fn look(&mut self, in_force: &SamplingConfig) -> Change {
        let text = file::read(&self.path);
        if text == self.seen {
            return Change::Nothing;
        }
        let parsed = match &text {
            Ok(text) => file::parse(&self.path, text, &self.service),
            Err(error) => Err(error.clone()),
        };
        self.seen = text;
        let new = match parsed {
            Ok(new) => new,
            Err(error) => return Change::Refused(error),
        };
        let mut restart = Vec::new();
        if new.propagation != self.settings.propagation {
            restart.push("propagation");
        }
        if new.tls != self.settings.tls {
            restart.push("tls");
        }
        if new.opaque_ports != self.settings.opaque_ports {
            restart.push("opaque_ports");
        }
        if new.limits != self.settings.limits {
            restart.push("limits");
        }
        self.settings.spans = new.spans.clone();
        self.settings.attributes = new.attributes.clone();
        self.settings.sampling = new.sampling.clone();
        let sampling = new.sampling.under(in_force.fallback);
        Change::New { spans: new.spans, attributes: new.attributes, sampling, restart }
    }
}

impl fmt::Debug for FileInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text would hide everything else.
        f.debug_struct("FileInForce").field("path", &self.path).finish_non_exhaustive()
    }
}
