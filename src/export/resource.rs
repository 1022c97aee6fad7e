//! Who the spans are about: the resource, from the standard variables and what this program knows of itself.
//!
//! The names follow the semantic conventions of `service.*` and `telemetry.*`. The spans describe the workload, so
//! `service.name` is the workload's; this program names itself in `telemetry.distro.*`.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1;

use crate::export::env::{Env, Warning, key_value_list};

/// The service name that the specification prescribes when nobody gave one.
pub const UNKNOWN_SERVICE: &str = "unknown_service:meshtrace";

const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// The attributes of the resource, in the order in which they are sent. Keys are unique.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    attributes: Vec<(String, String)>,
}

/// Reads the resource from the variables. `random` becomes the `service.instance.id` of a service that has none, as a
/// version 4 UUID (RFC 9562); it should differ in every process.
///
/// A list that cannot be decoded is ignored as a whole, as the specification asks, and reported.
pub fn from_env(get: &dyn Fn(&str) -> Option<String>, random: u128) -> (Resource, Vec<Warning>) {
    let mut env = Env::new(get);
    let mut resource = Resource { attributes: Vec::new() };
    resource.set("service.name", UNKNOWN_SERVICE);
    resource.set("service.instance.id", &uuid(random));
    for (key, value) in listed(&mut env) {
        resource.set(&key, &value);
    }
    if let Some(name) = env.text(SERVICE_NAME) {
        resource.set("service.name", &name);
    }
    if resource.service_name() == UNKNOWN_SERVICE {
        env.warn(SERVICE_NAME, format!("is not set, so spans are named {UNKNOWN_SERVICE}. Mend it with: export {SERVICE_NAME}=my-agent"));
    }
    // These say who recorded, which no variable can know better. The name `opentelemetry` is reserved for its own SDKs.
    resource.set("telemetry.sdk.name", "meshtrace");
    resource.set("telemetry.sdk.language", "rust");
    resource.set("telemetry.sdk.version", env!("CARGO_PKG_VERSION"));
    resource.set("telemetry.distro.name", "meshtrace");
    resource.set("telemetry.distro.version", env!("CARGO_PKG_VERSION"));
    (resource, env.warnings)
}

impl Resource {
    /// The name under which the spans appear.
    pub fn service_name(&self) -> &str {
        self.attribute("service.name").unwrap_or(UNKNOWN_SERVICE)
    }

    /// One attribute by its key.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// All attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets or replaces an attribute.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.attributes.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.attributes.push((key.to_owned(), value.to_owned())),
        }
    }

    /// The resource as a message of OTLP.
    pub fn to_proto(&self) -> v1::Resource {
        let attribute = |(key, value): (&str, &str)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
            ..KeyValue::default()
        };
        v1::Resource { attributes: self.attributes().map(attribute).collect(), ..v1::Resource::default() }
    }
}

fn listed(env: &mut Env<'_>) -> Vec<(String, String)> {
    let Some(list) = env.text(ATTRIBUTES) else { return Vec::new() };
    let decoded = key_value_list(&list).and_then(|pairs| {
        let text = |(key, value)| Some((key, String::from_utf8(value).ok()?));
        pairs
            .into_iter()
            .map(text)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| "a value is not UTF-8".to_owned())
    });
    decoded.unwrap_or_else(|reason| {
        env.warn(ATTRIBUTES, format!("{reason}; the whole list is ignored"));
        Vec::new()
    })
}

fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Resource, Vec<String>) {
        let get =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let (resource, warnings) = from_env(&get, u128::MAX);
        (resource, warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_variables_the_service_is_unknown_and_that_is_said() {
        let (resource, warnings) = read(&[]);
        assert_eq!(resource.service_name(), "unknown_service:meshtrace");
        assert_eq!(resource.attribute("service.instance.id"), Some("ffffffff-ffff-4fff-bfff-ffffffffffff"));
        assert_eq!(resource.attribute("telemetry.sdk.language"), Some("rust"));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with("export OTEL_SERVICE_NAME=my-agent"), "{warnings:?}");
    }

    #[test]
    fn the_name_variable_beats_the_list_and_the_list_beats_defaults() {
        let list =
            "service.name=a,service.instance.id=i, k8s.pod.name = p%20q ,telemetry.sdk.name=forged,x=1,x=2";
        let (resource, warnings) = read(&[("OTEL_SERVICE_NAME", "b"), ("OTEL_RESOURCE_ATTRIBUTES", list)]);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(resource.service_name(), "b");
        assert_eq!(resource.attribute("service.instance.id"), Some("i"));
        assert_eq!(resource.attribute("k8s.pod.name"), Some("p q"));
        assert_eq!(resource.attribute("telemetry.sdk.name"), Some("meshtrace"));
        assert_eq!(resource.attribute("x"), Some("2"));
        assert_eq!(resource.to_proto().attributes.len(), resource.attributes().count());
    }

    #[test]
    fn a_bad_list_is_ignored_whole() {
        for list in ["a=1,b", "a=1,b=%G0", "a=1,b=%FF"] {
            let (resource, warnings) =
                read(&[("OTEL_SERVICE_NAME", "s"), ("OTEL_RESOURCE_ATTRIBUTES", list)]);
            assert_eq!(resource.attribute("a"), None);
            assert_eq!(warnings.len(), 1, "{list}");
            assert!(warnings[0].contains("the whole list is ignored"));
        }
    }
}
