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
    pub(crate) attributes: Option<AttributesShape>,
    pub(crate) sampling: Option<SamplingShape>,
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
    pub(crate) notifications: Text,
    pub(crate) tls: Text,
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
pub(crate) struct SamplingShape {
    pub(crate) max_traces_per_second: Text,
    pub(crate) rules: Option<Vec<Spanned<SamplingRuleShape>>>,
    pub(crate) keep: Option<KeepShape>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeepShape {
    pub(crate) errors: Text,
    pub(crate) slower_than: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AttributesShape {
    pub(crate) from_header: Option<BTreeMap<String, Spanned<String>>>,
    pub(crate) from_baggage: Option<BTreeMap<String, Spanned<String>>>,
    pub(crate) from_argument: Option<BTreeMap<String, Spanned<String>>>,
    pub(crate) capture_arguments: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SamplingRuleShape {
    pub(crate) name: Text,
    pub(crate) agent: Option<Spanned<OneOrMany>>,
    pub(crate) peer: Option<Spanned<OneOrMany>>,
    pub(crate) tool: Option<Spanned<OneOrMany>>,
    pub(crate) prompt: Option<Spanned<OneOrMany>>,
    pub(crate) resource: Option<Spanned<OneOrMany>>,
    pub(crate) method: Option<Spanned<OneOrMany>>,
    pub(crate) host: Option<Spanned<OneOrMany>>,
    pub(crate) path: Option<Spanned<OneOrMany>>,
    pub(crate) header: Option<BTreeMap<String, Spanned<OneOrMany>>>,
    pub(crate) baggage: Option<BTreeMap<String, Spanned<OneOrMany>>>,
    pub(crate) sample: Text,
    pub(crate) traces_per_second: Text,
    pub(crate) root: Text,
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
    pub(crate) stream_spans: Text,
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

/// One text or a list of them, with the place of each in a list.
#[derive(Debug)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern in quotes, or a list of them in brackets")
    }

    fn visit_str<E>(self, word: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut many = Vec::new();
        while let Some(one) = list.next_element()? {
            many.push(one);
        }
        Ok(OneOrMany::Many(many))
    }
}
