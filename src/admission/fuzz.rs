//! The entry for fuzzing what is sent to the webhook. Any bytes are a possible review; none may panic, and none may lead
//! to an answer that denies a pod.

use base64::Engine as _;
use serde_json::Value;

use crate::admission::decide::Settings;
use crate::admission::patch;
use crate::admission::review::{self, Entry};

/// Answers `data` as a review at every entry that makes a difference, and proves of each answer that it allows the pod, and
/// that what it makes of the pod is what it would make of the result.
///
/// # Panics
/// When an answer breaks one of these promises.
pub fn review(data: &[u8]) {
    let settings = Settings::new("meshtrace:fuzz");
    let Ok(request) = review::read(data) else { return };
    let mut asks_itself = false;
    for (_, entry) in Entry::ALL.into_iter().filter(|(_, entry)| !entry.restricted || entry.asked) {
        // Whether its namespace asks as well changes nothing then.
        if asks_itself && entry.asked && !entry.restricted {
            continue;
        }
        let Ok(answer) = review::answer_to(&request, entry, &settings) else {
            panic!("a request without an answer")
        };
        asks_itself |= !entry.asked && answer.result != review::Result::NotAsked;
        let reply: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert_eq!(reply["response"]["allowed"], true);
        if let Some(patch) = reply["response"]["patch"].as_str() {
            assert!(
                base64::engine::general_purpose::STANDARD.decode(patch).is_ok_and(|patch| patch.len() > 2)
            );
        }
    }
    let subject = Default::default();
    if let Ok(once) = patch::apply(&request.object, &subject, &settings) {
        let twice = patch::apply(&once.pod, &subject, &settings).map(|twice| twice.pod);
        assert_eq!(twice.as_ref(), Ok(&once.pod));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::generate::{Dice, pod};
    use serde_json::json;

    #[test]
    fn no_review_panics_or_denies() {
        let seeds = if std::env::var_os("MESHTRACE_TEST_FULL").is_some() { 1_000 } else { 100 };
        for seed in 0..seeds {
            let mut dice = Dice(seed);
            let (mut object, _) = pod(&mut dice);
            if dice.below(2) == 0 {
                let settings = Settings::new("meshtrace:before");
                object = patch::apply(&object, &Default::default(), &settings).unwrap().pod;
            }
            let text = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {"uid": "u", "kind": {"kind": "Pod"}, "operation": "CREATE", "object": object},
            })
            .to_string();
            review(text.as_bytes());
            for _ in 0..20 {
                review(&mutant(&mut dice, &text));
            }
        }
    }

    /// Shapes that repeat something small as often as a review may: none takes more than a replica has, and none makes
    /// work that grows with the square.
    #[test]
    fn the_largest_reviews_have_room() {
        const REPEATED: [(&str, &str, &str); 10] = [
            (r#""spec":{"containers":["#, r#"{"name":"a"}"#, "]}"),
            (r#""spec":{"containers":[{"name":"a","env":["#, r#"{"name":"A","value":"v"}"#, "]}]}"),
            (r#""spec":{"containers":[{"name":"a","ports":["#, r#"{"name":"p","containerPort":80}"#, "]}]}"),
            (r#""spec":{"containers":[{"name":"a","envFrom":["#, r#"{"prefix":"Q"}"#, "]}]}"),
            (r#""spec":{"containers":[{"name":"a","volumeMounts":["#, r#"{"name":"v"}"#, "]}]}"),
            (r#""spec":{"containers":[{"name":"a"}],"volumes":["#, r#"{"name":"v"}"#, "]}"),
            (r#""spec":{"containers":[{"name":"a"}],"unknown":["#, "0", "]}"),
            (r#""spec":{"containers":[{"name":"a"}],"unknown":["#, "{}", "]}"),
            (r#""spec":{"containers":[{"name":"a"}],"unknown":["#, "[{\"\":[[]]}]", "]}"),
            (
                r#""metadata":{"ownerReferences":["#,
                r#"{"kind":"Job","name":"j"}"#,
                r#"]},"spec":{"containers":[{"name":"a"}]}"#,
            ),
        ];
        let mut settings = Settings::new("meshtrace:fuzz");
        for capture in ["redirect", "explicit"] {
            settings.defaults.set("capture", capture).unwrap();
            for (open, element, close) in REPEATED {
                let each = 1 + element.matches([',', '[', '{']).count();
                let some = |count| format!("{open}{}{close}", vec![element; count].join(","));
                let most = (review::MAX_VALUES - 40) / each;
                assert!(measured(&some(most), &settings), "{open}");
                assert!(!measured(&some(most + 40), &settings), "{open}");
            }
        }
    }

    /// What somebody else's status lists is taken back in one go, or not at all.
    #[test]
    fn a_long_status_of_another_makes_little_work() {
        let names: Vec<_> = (0..20_000).map(|i| format!("example/a{i}")).collect();
        let annotations: Value = names.iter().map(|name| (name.clone(), json!("v"))).collect();
        let changes: Value = names.iter().map(|name| (name.clone(), json!({"now": "v"}))).collect();
        let env: Value = names.iter().map(|name| json!({"name": name, "value": "v"})).collect();
        let status = json!({"undo": {"annotations": names, "env": {"a": changes}}});
        let mut pod = json!({
            "metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "a", "env": env}]},
        });
        pod["metadata"]["annotations"]["meshtrace.io/status"] = status.to_string().into();
        let stripped = patch::undo(&pod).unwrap();
        assert!(stripped.get("metadata").is_none());
        assert_eq!(stripped["spec"]["containers"][0]["env"].as_array().unwrap().len(), 20_000 - 64);
    }

    /// Whether the review is answered, and then with yes.
    fn measured(object: &str, settings: &Settings) -> bool {
        let text = format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"kind":"Pod"}},"operation":"CREATE","object":{{{object}}}}}}}"#
        );
        let mut answer = None;
        let entry = Entry { asked: true, restricted: false };
        let took = allocation_counter::measure(|| {
            answer = review::answer(text.as_bytes(), entry, settings).ok();
        });
        assert!(took.bytes_max < 96 << 20, "{} bytes at once for {}", took.bytes_max, &object[..80]);
        let Some(answer) = answer else { return false };
        let reply: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(reply["response"]["allowed"], true);
        true
    }

    /// Changes bytes, and swaps whole values, so that what comes out is JSON as often as not.
    fn mutant(dice: &mut Dice, text: &str) -> Vec<u8> {
        const VALUES: [&str; 8] = ["null", "[]", "{}", "7", "-1", "\"x\"", "[null]", "true"];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=dice.below(3) {
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            match dice.below(3) {
                0 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
                1 => drop(bytes.drain(at..(at + 1 + at % 7).min(bytes.len()))),
                _ => {
                    let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':') else { continue };
                    let start = at + colon + 1;
                    let mut values =
                        serde_json::Deserializer::from_slice(&bytes[start..]).into_iter::<Value>();
                    let Some(Ok(_)) = values.next() else { continue };
                    let end = start + values.byte_offset();
                    let value = VALUES[usize::try_from(dice.below(8)).unwrap()];
                    drop(bytes.splice(start..end, value.bytes()));
                }
            }
        }
        bytes
    }
}
