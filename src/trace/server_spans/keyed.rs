//! A hasher for keys that are random numbers already.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Hashes ids by one secret multiplication. A caller that chooses ids cannot
/// choose their buckets without the secret.
#[derive(Clone, Debug)]
pub(in crate::trace) struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        Keyed(RandomState::new().build_hasher().finish() | 1)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Multiplied;

    fn build_hasher(&self) -> Multiplied {
        Multiplied { secret: self.0, hash: 0 }
    }
}

#[derive(Debug)]
pub(in crate::trace) struct Multiplied {
    secret: u64,
    hash: u64,
}

impl Hasher for Multiplied {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(self.hash ^ id ^ self.secret) * u128::from(self.secret);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }
}
