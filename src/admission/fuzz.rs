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
