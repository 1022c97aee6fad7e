//! AdmissionReview in, AdmissionReview out (admission.k8s.io/v1).
//!
//! The answer is always that the pod is allowed. `failurePolicy: Ignore` covers a webhook that fails, and not one that
//! says no, so nothing here ever says no.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admission::decide::{Settings, Subject};
use crate::admission::patch::{self, Decision};

/// The most bytes of a review. The API server takes objects of 3 MiB, and a pod is written twice in one at most.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The most values in a review, counted by what stands between them, in texts too. Read, the shortest ones take hundreds
/// of times the memory that their text does; a pod of a megabyte that is nothing but variables has fewer.
pub const MAX_VALUES: usize = 100_000;

/// What the API server has found out by its selectors, and says by the path that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The namespace asks for its pods.
    pub asked: bool,
    /// The namespace enforces the Pod Security level `baseline` or `restricted`.
    pub restricted: bool,
}

impl Entry {
    /// Every entry, with its name.
    pub const ALL: [(&'static str, Entry); 4] = [
        ("pod/open", Entry { asked: false, restricted: false }),
        ("pod/restricted", Entry { asked: false, restricted: true }),
        ("namespace/open", Entry { asked: true, restricted: false }),
        ("namespace/restricted", Entry { asked: true, restricted: true }),
    ];

    /// The entry of a path such as `/inject/pod/open`.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix("/inject/")?;
        Entry::ALL.iter().find(|(known, _)| *known == name).map(|(_, entry)| *entry)
    }
}

/// What a review came to, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// The sidecar was added.
    Injected,
    /// Nobody asked.
    NotAsked,
    /// It was asked for, and one of [`REASONS`](crate::admission::REASONS) speaks against it.
    Refused(&'static str),
    /// What was sent is no pod.
    Malformed,
}

impl Result {
    /// The word for it, from a fixed and small set.
    pub fn as_str(self) -> &'static str {
        match self {
            Result::Injected => "injected",
            Result::NotAsked => "not_asked",
            Result::Refused(_) => "refused",
            Result::Malformed => "malformed",
        }
    }
}

/// An answer, to be sent with status 200.
#[derive(Clone, Debug)]
pub struct Answer {
    /// JSON.
    pub body: Vec<u8>,
    /// What it says.
    pub result: Result,
}

/// A text that is no review: there is not even a uid that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not JSON, or a field has the wrong type.
    #[error("this is not an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// It is another version of the protocol.
    #[error("this is not an AdmissionReview of admission.k8s.io/v1")]
    Version,
    /// It holds more than [`MAX_VALUES`].
    #[error("the AdmissionReview holds more than {MAX_VALUES} values")]
    TooManyValues,
    /// There is no request in it.
    #[error("the AdmissionReview holds no request")]
    NoRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
pub(super) struct Request {
    uid: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    pub(super) object: Value,
}

#[derive(Default, Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The most characters of a warning; the API server cuts longer ones.
const MAX_WARNING: usize = 256;

/// Answers a review.
///
/// # Errors
/// When there is nothing that an answer could refer to; the sender then gets an HTTP error, and admits the pod.
pub fn answer(body: &[u8], entry: Entry, settings: &Settings) -> std::result::Result<Answer, Unreadable> {
    answer_to(&read(body)?, entry, settings)
}

/// The request in a review.
pub(super) fn read(body: &[u8]) -> std::result::Result<Request, Unreadable> {
    if memchr::memchr3_iter(b',', b'[', b'{', body).nth(MAX_VALUES).is_some() {
        return Err(Unreadable::TooManyValues);
    }
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(Unreadable::Version);
    }
    review.request.ok_or(Unreadable::NoRequest)
}

pub(super) fn answer_to(
    request: &Request,
    entry: Entry,
    settings: &Settings,
) -> std::result::Result<Answer, Unreadable> {
    let (result, patch, warnings) = decide(request, entry, settings);
    let reply = Reply {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: Response {
            uid: &request.uid,
            allowed: true,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch: patch.map(|patch| STANDARD.encode(patch)),
            warnings: warnings.into_iter().map(|warning| shorten(&warning)).collect(),
        },
    };
    Ok(Answer { body: serde_json::to_vec(&reply)?, result })
}

/// The result, the JSON Patch if anything changes, and the warnings.
fn decide(request: &Request, entry: Entry, settings: &Settings) -> (Result, Option<Vec<u8>>, Vec<String>) {
    // The configuration sends nothing else; somebody else's may.
    if (request.kind.group.as_str(), request.kind.kind.as_str()) != ("", "Pod")
        || request.operation != "CREATE"
    {
        return (Result::NotAsked, None, Vec::new());
    }
    let subject = Subject { asked: entry.asked, restricted: entry.restricted, workload: None };
    let (outcome, operations) = match patch::patch(&request.object, &subject, settings) {
        Ok(patched) => patched,
        Err(malformed) => {
            let warning = format!("meshtrace did not look at this pod: {malformed}");
            return (Result::Malformed, None, vec![warning]);
        }
    };
    let result = match outcome.decision {
        Decision::NotAsked => Result::NotAsked,
        Decision::Injected(..) => Result::Injected,
        Decision::Refused(refusal) => Result::Refused(refusal.reason),
    };
    let mut warnings = outcome.warnings;
    let patch = match serde_json::to_vec(&operations) {
        _ if operations.is_empty() => None,
        Ok(patch) => Some(patch),
        Err(_) => {
            warnings.push("meshtrace could not write its patch".to_owned());
            None
        }
    };
    (result, patch, warnings)
}

fn shorten(warning: &str) -> String {
    warning.chars().filter(|c| !c.is_control()).take(MAX_WARNING).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OPEN: Entry = Entry { asked: false, restricted: false };

    fn review(object: Value) -> Vec<u8> {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
                "namespace": "shop", "object": object,
            },
        });
        review.to_string().into_bytes()
    }

    fn pod(annotations: Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "a"}]}})
    }

    fn answered(body: &[u8]) -> (Result, Value) {
        let answer = answer(body, OPEN, &Settings::new("meshtrace:test")).unwrap();
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&value["response"]["allowed"], &value["response"]["uid"]), (&json!(true), &json!("u-1")));
        (answer.result, value["response"].clone())
    }

    #[test]
    fn an_asked_for_pod_gets_a_patch() {
        let object = pod(json!({"meshtrace.io/inject": "true"}));
        let (result, response) = answered(&review(object.clone()));
        assert_eq!((result, &response["patchType"]), (Result::Injected, &json!("JSONPatch")));
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut patched = object;
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched["spec"]["initContainers"][1]["name"], "meshtrace");
    }

    #[test]
    fn whatever_is_wrong_the_pod_is_allowed() {
        let long = "x".repeat(10_000);
        for (object, expect) in [
            (pod(json!({})), Result::NotAsked),
            (pod(json!({"meshtrace.io/inject": long})), Result::Refused("invalid_inject")),
            (json!(null), Result::Malformed),
            (json!([]), Result::Malformed),
            (json!({"spec": {"containers": 7}}), Result::Malformed),
        ] {
            let (result, response) = answered(&review(object.clone()));
            assert_eq!(result, expect, "{object}");
            for warning in response["warnings"].as_array().into_iter().flatten() {
                assert!(warning.as_str().unwrap().len() <= MAX_WARNING, "{warning}");
            }
        }
    }

    #[test]
    fn other_objects_and_operations_are_none_of_ours() {
        let text = String::from_utf8(review(pod(json!({"meshtrace.io/inject": "true"})))).unwrap();
        for (from, to) in [
            ("\"CREATE\"", "\"UPDATE\""),
            ("\"Pod\"", "\"Deployment\""),
            ("\"\",\"version\"", "\"x\",\"version\""),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert_eq!(answered(changed.as_bytes()).0, Result::NotAsked, "{to}");
        }
    }

    #[test]
    fn what_is_no_review_is_not_answered() {
        for text in [
            "",
            "{",
            "[]",
            "7",
            "{}",
            r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u"}}"#,
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#,
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}"#,
        ] {
            assert!(answer(text.as_bytes(), OPEN, &Settings::new("m")).is_err(), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = String::from_utf8(review(json!(0)))
            .unwrap()
            .replace("\"object\":0", &format!("\"object\":{deep}"));
        assert!(answer(body.as_bytes(), OPEN, &Settings::new("m")).is_err(), "nesting has a limit");
    }

    #[test]
    fn paths_are_entries() {
        assert_eq!(Entry::of("/inject/pod/open"), Some(OPEN));
        assert_eq!(Entry::of("/inject/namespace/restricted"), Some(Entry { asked: true, restricted: true }));
        for path in ["/inject", "/inject/", "/inject/pod/open/", "/", "/inject/pod"] {
            assert_eq!(Entry::of(path), None, "{path}");
        }
    }
}
