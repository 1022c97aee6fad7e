//! Which keys the configuration file has, and nothing about their values.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value as it is written, with its place; `None` where the key is missing
/// or has no value.
pub(crate) type Text = Option<Spanned<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileShape {
    pub(crate) spans: Option<SpansShape>,
    pub(crate) propagation: Option<PropagationShape>,
    pub(crate) tls: Option<TlsShape>,
    pub(crate) limits: Option<LimitsShape>,
    pub(crate) opaque_ports: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsShape {
    pub(crate) inbound: Option<Spanned<InboundTlsShape>>,
    pub(crate) originate: Option<Vec<Spanned<String>>>,
    pub(crate) ca: Text,
    pub(crate) client: Option<Spanned<IdentityShape>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct InboundTlsShape {
    pub(crate) certificate: Text,
    pub(crate) key: Text,
    pub(crate) client_ca: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentityShape {
    pub(crate) certificate: Text,
    pub(crate) key: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SpansShape {
    pub(crate) http: Text,
    pub(crate) ignore: Option<Vec<Spanned<RuleShape>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RuleShape {
    pub(crate) path: Text,
    pub(crate) user_agent: Text,
    pub(crate) method: Text,
    pub(crate) host: Text,
    pub(crate) task_status: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PropagationShape {
    pub(crate) parent: Text,
    pub(crate) trust_inbound: Text,
    pub(crate) write_meta: Text,
    pub(crate) inference: Text,
    pub(crate) to: Option<Spanned<ToShape>>,
    pub(crate) baggage: Option<BaggageShape>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BaggageShape {
    pub(crate) set: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsShape {
    pub(crate) body_bytes: Text,
    pub(crate) held_bytes: Text,
    pub(crate) event_bytes: Text,
    pub(crate) head_bytes: Text,
    pub(crate) headers: Text,
    pub(crate) connections: Text,
    pub(crate) concurrent_streams: Text,
    pub(crate) handshake_timeout: Text,
    pub(crate) head_timeout: Text,
    pub(crate) body_wait: Text,
    pub(crate) body_gap: Text,
    pub(crate) connect_timeout: Text,
    pub(crate) response_timeout: Text,
    pub(crate) drain_timeout: Text,
    pub(crate) flush_timeout: Text,
    pub(crate) expect_timeout: Text,
    pub(crate) pending: Text,
    pub(crate) pending_timeout: Text,
}

/// One word or a list of hosts. An untagged enum would lose the places of the
/// hosts, because serde buffers what it has to try twice.
#[derive(Debug)]
pub(crate) enum ToShape {
    Word(String),
    Hosts(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for ToShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToVisitor)
    }
}

struct ToVisitor;

impl<'de> Visitor<'de> for ToVisitor {
    type Value = ToShape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("private, all, or a list of hosts in brackets")
    }

    fn visit_str<E>(self, word: &str) -> Result<ToShape, E> {
        Ok(ToShape::Word(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ToShape, A::Error> {
        let mut hosts = Vec::new();
        while let Some(host) = list.next_element()? {
            hosts.push(host);
        }
        Ok(ToShape::Hosts(hosts))
    }
}
