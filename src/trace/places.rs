//! Two small memories of where calls go: destinations that were called while
//! nothing was in flight, and sessions that carry a context that is not fresh.
//! Both have a fixed size and take no lock.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whom a call goes to, and for what: as fine as it takes to tell the calls
/// that a request makes from what an agent does on its own.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Destination<'a> {
    /// The host, as the agent named it.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The method of JSON-RPC or HTTP.
    pub method: &'a str,
    /// What of an HTTP path says what it is about; empty for MCP.
    pub about: &'a str,
}

/// Bits of [`Background`]. A false hit costs an inference that could have been made.
const BITS: usize = 1 << 16;

/// Destinations that were called while nothing was in flight: an agent has
/// reasons of its own to call them. Nothing is ever forgotten; when very many
/// are remembered, others are taken for one of them.
#[derive(Debug)]
pub struct Background {
    words: Box<[AtomicU64]>,
    secret: RandomState,
}

impl Background {
    /// Remembers a destination.
    pub fn remember(&self, destination: &Destination<'_>) {
        let (word, bit) = self.place(destination);
        word.fetch_or(bit, Ordering::Relaxed);
    }

    /// Whether it was remembered, or looks like one that was.
    pub fn knows(&self, destination: &Destination<'_>) -> bool {
        let (word, bit) = self.place(destination);
        word.load(Ordering::Relaxed) & bit != 0
    }

    fn place(&self, destination: &Destination<'_>) -> (&AtomicU64, u64) {
        let at = self.secret.hash_one(destination) as usize % BITS;
        (&self.words[at / 64], 1 << (at % 64))
    }
}

impl Default for Background {
    fn default() -> Self {
        let words = (0..BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Background { words, secret: RandomState::new() }
    }
}

/// Slots of [`Stuck`]; a session that takes another's slot makes it forgotten.
const SLOTS: usize = 1_024;

/// Outbound sessions whose calls have named a request that was answered: their
/// client holds on to the context of whatever opened the session.
#[derive(Debug)]
pub struct Stuck {
    slots: Box<[AtomicU64]>,
    secret: RandomState,
}

impl Stuck {
    /// Remembers the session of this server and id.
    pub fn remember(&self, host: &str, session: &str) {
        let hash = self.hash(host, session);
        self.slots[hash as usize % SLOTS].store(hash, Ordering::Relaxed);
    }

    /// Whether it is remembered.
    pub fn knows(&self, host: &str, session: &str) -> bool {
        let hash = self.hash(host, session);
        self.slots[hash as usize % SLOTS].load(Ordering::Relaxed) == hash
    }

    fn hash(&self, host: &str, session: &str) -> u64 {
        // Zero is an empty slot.
        self.secret.hash_one((host, session)) | 1 << 63
    }
}

impl Default for Stuck {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Stuck { slots, secret: RandomState::new() }
    }
}

/// What of a path says what it is about: its first part that is neither a
/// version nor the word `api`. The rest often holds ids.
pub fn about(path: &str) -> &str {
    let is_version = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    path.split('/').find(|part| !part.is_empty() && *part != "api" && !is_version(part)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(host: &str) -> Destination<'_> {
        Destination { host, port: 80, method: "POST", about: "chat" }
    }

    #[test]
    fn a_destination_is_told_by_all_that_it_is_made_of() {
        let background = Background::default();
        background.remember(&to("llm"));
        assert!(background.knows(&to("llm")));
        let others = [
            to("other"),
            Destination { port: 81, ..to("llm") },
            Destination { method: "GET", ..to("llm") },
            Destination { about: "models", ..to("llm") },
        ];
        // One in 65,536 is a false hit.
        assert!(others.iter().filter(|other| background.knows(other)).count() <= 1);
    }

    /// Full, it takes everything for remembered, and so nothing is inferred.
    #[test]
    fn too_many_destinations_are_all_taken_for_known() {
        let background = Background::default();
        let hosts: Vec<_> = (0..6 * BITS).map(|number| number.to_string()).collect();
        hosts.iter().for_each(|host| background.remember(&to(host)));
        let known = (0..1_000).filter(|n| background.knows(&to(&format!("new{n}")))).count();
        assert!(known > 990, "{known}");
        assert_eq!(background.words.len() * 64, BITS);
    }

    #[test]
    fn sessions_are_remembered_within_the_bound() {
        let stuck = Stuck::default();
        assert!(!stuck.knows("a", "1"));
        stuck.remember("a", "1");
        assert!(stuck.knows("a", "1") && !stuck.knows("a", "2") && !stuck.knows("b", "1"));
        (0..20 * SLOTS).for_each(|number| stuck.remember("x", &number.to_string()));
        assert!(!stuck.knows("a", "1"), "the oldest made room");
        let known = (0..20 * SLOTS).filter(|number| stuck.knows("x", &number.to_string())).count();
        assert!(known <= SLOTS, "{known}");
    }

    #[test]
    fn what_a_path_is_about() {
        for (path, expect) in [
            ("/v1/chat/completions", "chat"),
            ("/api/v2/jobs/17", "jobs"),
            ("/heartbeat", "heartbeat"),
            ("/", ""),
            ("", ""),
            ("/v1", ""),
            ("/vault/x", "vault"),
        ] {
            assert_eq!(about(path), expect, "{path}");
        }
    }
}
