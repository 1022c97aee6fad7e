//! Whether somebody accepts connections on a port, as a kubelet would find out.

use std::time::Duration;

use super::dial::{self, DialError};
use super::resolve::Resolver;

/// A port that is tried by connecting to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProbe {
    /// An address, or a name to look up.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How long it may take.
    pub timeout: Duration,
}

impl TcpProbe {
    /// Connects and closes again.
    ///
    /// # Errors
    /// Why it could not connect.
    pub async fn run(&self, resolver: &Resolver) -> Result<(), DialError> {
        dial::dial(resolver, &self.host, self.port, self.timeout).await.map(drop)
    }
}
