//! Configurations that are made anew when the content of their files changes.
//!
//! Kubernetes changes mounted files by swapping a symbolic link above them,
//! which neither their names nor their times show. So contents are compared.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Contents, TlsError};

/// Files that make a configuration.
pub trait Source {
    /// What they make.
    type Config;

    /// The files.
    fn paths(&self) -> Vec<&Path>;

    /// Makes it of what the files hold.
    ///
    /// # Errors
    /// If a file holds nothing that can be used, or they do not fit together.
    fn make(&self, contents: &Contents) -> Result<Self::Config, TlsError>;
}

/// A configuration and the files that it comes from.
pub struct Reloading<S: Source> {
    source: S,
    seen: Mutex<Seen>,
    current: RwLock<Arc<S::Config>>,
}

/// What the files looked like when they were last looked at.
#[derive(PartialEq)]
enum Seen {
    Contents(Contents),
    Unreadable(String),
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Change {
    /// They hold what they held.
    None,
    /// They hold something else, which is in force now.
    Taken,
    /// They hold something that cannot be used; what was in force stays so.
    Refused(TlsError),
}

impl<S: Source> Reloading<S> {
    /// Reads the files and makes the first configuration.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn new(source: S) -> Result<Self, TlsError> {
        let contents = Contents::read(&source.paths())?;
        let current = RwLock::new(Arc::new(source.make(&contents)?));
        Ok(Reloading { source, seen: Mutex::new(Seen::Contents(contents)), current })
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<S::Config> {
        Arc::clone(&self.current.read())
    }

    /// The files that are looked at, as text for a log.
    pub fn describe(&self) -> String {
        self.source.paths().iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Looks at the files. Each change is told once, a refused one too. Blocks
    /// for as long as reading takes.
    pub fn look(&self) -> Change {
        let read = Contents::read(&self.source.paths());
        let now = match &read {
            Ok(contents) => Seen::Contents(contents.clone()),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        let mut seen = self.seen.lock();
        if *seen == now {
            return Change::None;
        }
        *seen = now;
        match read.and_then(|contents| self.source.make(&contents)) {
            Ok(config) => {
                *self.current.write() = Arc::new(config);
                Change::Taken
            }
            Err(error) => Change::Refused(error),
        }
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Reloading<S> {
    /// Without what the files hold: one of them is a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("source", &self.source).finish_non_exhaustive()
    }
}
