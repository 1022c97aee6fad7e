//! Keeps the certificates that the replicas share good, what is served current, and API servers trusting it.
//!
//! Any replica may do any step. They meet in one Secret, which only the version that was read can replace, so that of two
//! who take the same step one is told that it came too late, and looks again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::admission::certificates::Certificates;
use crate::admission::cluster::{Cluster, ClusterError};

/// How often the Secret and the webhook configuration are looked at.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// How long to wait after a failure, at first and at most.
pub const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often a step is tried again at once because somebody else was faster.
const ATTEMPTS: usize = 5;

/// The Secret's key that holds everything.
const KEY: &str = "certificates.json";

/// The names of what is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The namespace of Secret and Service.
    pub namespace: String,
    /// The Secret, which has to exist.
    pub secret: String,
    /// The MutatingWebhookConfiguration, which has to exist.
    pub configuration: String,
    /// The Service that API servers call.
    pub service: String,
}

impl Names {
    /// The host name that API servers expect in the certificate.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.secret)
    }

    fn configuration_path(&self) -> String {
        let name = &self.configuration;
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}")
    }
}

/// Why the certificates could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Keys could not be made or used.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Somebody else was faster, again and again.
    #[error("the Secret {0} changes faster than it can be read")]
    Contention(String),
    /// The webhook configuration has no webhooks.
    #[error(
        "the MutatingWebhookConfiguration {0} holds no webhook: apply the output of `meshtrace install` again"
    )]
    NoWebhooks(String),
}

/// Looks after the Secret: makes, renews or drops what is due at this time, and returns what is to be served.
///
/// # Errors
/// When the API server does not play along.
pub async fn share(cluster: &Cluster, names: &Names, now: u64) -> Result<Certificates, RotateError> {
    for _ in 0..ATTEMPTS {
        let mut secret = cluster.read(&names.secret_path()).await?;
        let current = decode(&secret);
        let Some(next) = current.next(&names.host(), now)? else {
            return Ok(current);
        };
        encode(&mut secret, &next);
        match cluster.replace(&names.secret_path(), &secret).await {
            // What comes next is announced to the API servers first.
            Ok(_) => return Ok(next),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RotateError::Contention(names.secret.clone()))
}

/// Makes API servers trust these authorities. Returns whether anything had to be changed.
///
/// # Errors
/// When the API server does not play along.
pub async fn announce(
    cluster: &Cluster,
    names: &Names,
    certificates: &Certificates,
) -> Result<bool, RotateError> {
    let bundle = Value::from(STANDARD.encode(certificates.bundle()));
    for _ in 0..ATTEMPTS {
        let configuration = cluster.read(&names.configuration_path()).await?;
        let webhooks = configuration.get("webhooks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if webhooks.is_empty() {
            return Err(RotateError::NoWebhooks(names.configuration.clone()));
        }
        let differs = |webhook: &Value| webhook.pointer("/clientConfig/caBundle") != Some(&bundle);
        if !webhooks.iter().any(differs) {
            return Ok(false);
        }
        let version = configuration.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        let mut patch = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        patch.extend((0..webhooks.len()).map(|index| {
            json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle})
        }));
        match cluster.patch(&names.configuration_path(), &Value::from(patch)).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RotateError::Contention(names.configuration.clone()))
}

/// What the Secret holds; what cannot be read is as good as nothing.
fn decode(secret: &Value) -> Certificates {
    let text = secret.get("data").and_then(|data| data.get(KEY)).and_then(Value::as_str);
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn encode(secret: &mut Value, certificates: &Certificates) {
    let text = serde_json::to_vec(certificates).unwrap_or_default();
    if let Some(data) = crate::admission::pod::map_mut(secret, "data") {
        data.insert(KEY.to_owned(), Value::from(STANDARD.encode(text)));
    }
}
