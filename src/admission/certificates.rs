//! The webhook's own certificates: an authority, a certificate signed by it, and when each is replaced.
//!
//! Pure but for the randomness of keys: what to do is a function of what there is and what time it is. An authority is
//! announced before anything is signed with it, and trusted until nothing signed with it can be served any more.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;

/// How long an authority is valid, in seconds.
pub const AUTHORITY_LIFE: u64 = 365 * DAY;

/// How long a serving certificate is valid, in seconds.
pub const LEAF_LIFE: u64 = 30 * DAY;

/// How long an authority is announced before it signs, and trusted after the last certificate that it signed was
/// replaced, in seconds. Every replica and every API server looks several times in this time.
pub const OVERLAP: u64 = 3_600;

/// How far clocks may differ, in seconds: certificates are valid from that much earlier.
const SKEW: u64 = 300;

/// What all replicas share. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Certificates {
    /// The authorities that are trusted, the newest first.
    pub authorities: Vec<Authority>,
    /// What the replicas serve.
    pub leaf: Leaf,
}

/// An authority of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Authority {
    /// When it was made; its name.
    pub created: u64,
    /// PEM.
    pub certificate: String,
    /// PEM; empty once there is a newer one.
    pub key: String,
}

/// A certificate with its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Leaf {
    /// When it was made.
    pub created: u64,
    /// The authority that signed it, by its name.
    pub authority: u64,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl Certificates {
    /// The first certificates of an installation.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(host: &str, now: u64) -> Result<Self, rcgen::Error> {
        let authority = Authority::new(now)?;
        let leaf = authority.sign(host, now)?;
        Ok(Certificates { authorities: vec![authority], leaf })
    }

    /// What has to come after these, or `None` while they are good. One step at a time: after each one the result is
    /// shared and announced before the next is taken.
    ///
    /// # Errors
    /// When a key cannot be used, or the system gives no randomness.
    pub fn next(&self, host: &str, now: u64) -> Result<Option<Self>, rcgen::Error> {
        let due =
            |created: u64, life: u64| now >= created.saturating_add(life / 3 * 2) || now + SKEW < created;
        let gone = |created: u64, life: u64| now >= created.saturating_add(life);
        let Some(newest) = self.authorities.first() else {
            return Certificates::new(host, now).map(Some);
        };
        if gone(self.leaf.created, LEAF_LIFE) || gone(newest.created, AUTHORITY_LIFE) {
            // Nobody can be using these, so there is nothing to overlap with.
            return Certificates::new(host, now).map(Some);
        }
        if due(newest.created, AUTHORITY_LIFE) {
            let mut authorities = vec![Authority::new(now)?];
            // What signs nothing any more needs no key.
            authorities
                .extend(self.authorities.iter().cloned().map(|old| Authority { key: String::new(), ..old }));
            authorities.truncate(MAX_AUTHORITIES);
            return Ok(Some(Certificates { authorities, leaf: self.leaf.clone() }));
        }
        let announced = now >= newest.created.saturating_add(OVERLAP);
        let stale = self.leaf.authority != newest.created;
        if (stale && announced) || (!stale && due(self.leaf.created, LEAF_LIFE)) {
            let leaf = newest.sign(host, now)?;
            return Ok(Some(Certificates { authorities: self.authorities.clone(), leaf }));
        }
        let replaced = !stale && now >= self.leaf.created.saturating_add(OVERLAP);
        if replaced && self.authorities.len() > 1 {
            let authorities = vec![newest.clone()];
            return Ok(Some(Certificates { authorities, leaf: self.leaf.clone() }));
        }
        Ok(None)
    }

    /// The authorities that API servers have to trust, as PEM.
    pub fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// When the serving certificate ends.
    pub fn expires(&self) -> u64 {
        self.leaf.created.saturating_add(LEAF_LIFE)
    }
}

/// The most authorities at once. There are two in an overlap; a clock that jumps can make more.
const MAX_AUTHORITIES: usize = 4;

impl Authority {
    fn new(now: u64) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = Authority::params(now).self_signed(&key)?;
        Ok(Authority { created: now, certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn params(created: u64) -> CertificateParams {
        let mut params = CertificateParams::default();
        // A name of its own, so that nobody takes one authority for another.
        params.distinguished_name.push(DnType::CommonName, format!("meshtrace-injector-ca-{created}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, created, AUTHORITY_LIFE);
        params
    }

    fn sign(&self, host: &str, now: u64) -> Result<Leaf, rcgen::Error> {
        let issuer = Issuer::new(Authority::params(self.created), KeyPair::from_pem(&self.key)?);
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "meshtrace-injector");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        validity(&mut params, now, LEAF_LIFE);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf {
            created: now,
            authority: self.created,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn validity(params: &mut CertificateParams, created: u64, life: u64) {
    let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(created.saturating_sub(SKEW));
    params.not_after = at(created.saturating_add(life));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "meshtrace-injector.meshtrace-system.svc";
    const START: u64 = 1_800_000_000;

    #[test]
    fn good_certificates_stay() {
        let first = Certificates::new(HOST, START).unwrap();
        for later in [0, 1, OVERLAP, LEAF_LIFE / 3 * 2 - 1] {
            assert_eq!(first.next(HOST, START + later).unwrap(), None, "after {later} s");
        }
    }

    #[test]
    fn a_leaf_is_renewed_at_two_thirds_of_its_life_by_the_same_authority() {
        let first = Certificates::new(HOST, START).unwrap();
        let now = START + LEAF_LIFE / 3 * 2;
        let next = first.next(HOST, now).unwrap().unwrap();
        assert_eq!(next.authorities, first.authorities);
        assert_eq!((next.leaf.created, next.leaf.authority), (now, START));
        assert_eq!(next.next(HOST, now).unwrap(), None);
    }

    #[test]
    fn an_authority_is_announced_before_it_signs_and_trusted_after_it_was_replaced() {
        let mut state = Certificates::new(HOST, START).unwrap();
        let mut steps = Vec::new();
        let mut now = START;
        while now < START + 2 * AUTHORITY_LIFE {
            while let Some(next) = state.next(HOST, now).unwrap() {
                let trusted = |s: &Certificates| s.authorities.iter().any(|a| a.created == s.leaf.authority);
                assert!(trusted(&next), "a leaf that nobody trusts");
                if next.leaf != state.leaf {
                    // Who still has the bundle from an overlap ago has to trust the new leaf already.
                    assert!(state.authorities.iter().any(|a| a.created == next.leaf.authority));
                    assert!(
                        next.leaf.authority + OVERLAP <= now || next.leaf.authority == state.leaf.authority
                    );
                }
                if next.authorities.len() < state.authorities.len() {
                    assert!(next.leaf.created + OVERLAP <= now, "somebody may still serve the old leaf");
                }
                steps.push(next.authorities.len());
                state = next;
            }
            assert!(now < state.expires() - LEAF_LIFE / 4, "close to its end");
            now += 600;
        }
        assert!(steps.iter().filter(|count| **count == 2).count() >= 2, "{steps:?}");
        assert!(steps.iter().all(|count| *count <= 2), "{steps:?}");
    }

    #[test]
    fn whoever_slept_too_long_starts_again() {
        let first = Certificates::new(HOST, START).unwrap();
        let next = first.next(HOST, START + LEAF_LIFE).unwrap().unwrap();
        assert_eq!((next.authorities.len(), next.leaf.created), (1, START + LEAF_LIFE));
        assert_ne!(next.authorities[0].created, START);
        let none = Certificates::default().next(HOST, START).unwrap().unwrap();
        assert_eq!(none.leaf.authority, none.authorities[0].created);
    }

    #[test]
    fn a_clock_that_jumps_back_and_forth_does_not_fill_the_bundle() {
        let mut state = Certificates::new(HOST, START).unwrap();
        for round in 0..20 {
            let now = START + (round % 2) * AUTHORITY_LIFE / 3 * 2;
            for _ in 0..10 {
                match state.next(HOST, now).unwrap() {
                    Some(next) => state = next,
                    None => break,
                }
            }
            assert!(state.authorities.len() <= MAX_AUTHORITIES);
        }
    }
}
