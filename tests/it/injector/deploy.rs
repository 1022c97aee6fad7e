//! `deploy/kustomize` holds what `meshtrace install` prints.

use std::path::Path;

use meshtrace::admission::Settings;
use meshtrace::admission::install::{Install, Mode};
use serde_json::Value;

fn install(mode: Mode) -> Install {
    let settings = Settings::new(concat!("meshtrace:", env!("CARGO_PKG_VERSION")));
    Install { mode, namespace: "meshtrace-system".to_owned(), settings, flags: Vec::new() }
}

#[test]
fn the_files_are_what_is_printed() {
    for (name, mode) in Mode::ALL {
        let path = format!("deploy/kustomize/{name}/meshtrace.yaml");
        let file =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap_or_default();
        let printed = install(mode).render().unwrap();
        assert!(file == printed, "{path} differs: meshtrace install --mode {name} > {path}");
    }
}

#[test]
fn every_entry_lets_pods_pass_when_it_fails_and_names_a_path_that_is_served() {
    let manifests = install(Mode::Webhook).manifests();
    let configuration = manifests.iter().find(|m| m["kind"] == "MutatingWebhookConfiguration").unwrap();
    let webhooks = configuration["webhooks"].as_array().unwrap();
    assert_eq!(webhooks.len(), 6);
    for webhook in webhooks {
        assert_eq!(webhook["failurePolicy"], "Ignore");
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
        assert!(meshtrace::admission::review::Entry::of(path).is_some(), "{path}");
        assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 3);
    }
}

#[test]
fn the_rights_are_two_objects_by_name_and_nothing_else() {
    let manifests = install(Mode::Webhook).manifests();
    let rules: Vec<&Value> =
        manifests.iter().filter_map(|manifest| manifest["rules"].as_array()).flatten().collect();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        assert_eq!(rule["resourceNames"], serde_json::json!(["meshtrace-injector"]));
    }
    for mode in [Mode::CertManager, Mode::Policy] {
        assert!(install(mode).manifests().iter().all(|manifest| manifest.get("rules").is_none()));
    }
}
