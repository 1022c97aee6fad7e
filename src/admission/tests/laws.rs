//! What holds for every pod.

use super::generate::{Dice, Qos, pod};
use super::*;
use crate::admission::options::Options;
use crate::admission::quantity::Quantity;

/// How many pods each law is tried on. `MESHTRACE_TEST_FULL` asks for more.
fn pods() -> u64 {
    if std::env::var_os("MESHTRACE_TEST_FULL").is_some() { 2_000 } else { 200 }
}

/// Runs a law over many pods under many circumstances, and names the seed where it fails.
fn for_all(law: impl Fn(&Value, Qos, &Subject, &Settings)) {
    for seed in 0..pods() {
        let mut dice = Dice(seed);
        let (pod, qos) = pod(&mut dice);
        let subject = Subject { restricted: dice.below(4) == 0, ..Subject::default() };
        let version =
            [None, Some((1, 30)), Some((1, 33)), Some((1, 36))][usize::try_from(dice.below(4)).unwrap()];
        let mut settings = Settings { kubernetes: version, ..settings() };
        if dice.below(2) == 0 {
            empty_requests(&mut settings.defaults);
        }
        let run = std::panic::AssertUnwindSafe(|| law(&pod, qos, &subject, &settings));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}, qos {qos:?}, {subject:?}: {pod}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn empty_requests(options: &mut Options) {
    options.set("proxy-cpu-request", "").unwrap();
    options.set("proxy-memory-request", "").unwrap();
}

/// Without empty lists and objects in the places that a change may have emptied or filled.
fn normal(mut pod: Value) -> Value {
    for path in ["/metadata", "/spec", "/spec/containers", "/spec/initContainers"] {
        let parents: Vec<&mut Value> = match pod.pointer_mut(path) {
            Some(Value::Array(list)) => list.iter_mut().collect(),
            Some(parent) => vec![parent],
            None => Vec::new(),
        };
        for parent in parents {
            for key in ["labels", "annotations", "initContainers", "env", "ports", "volumes", "volumeMounts"]
            {
                super::super::pod::remove_if_empty(parent, key);
            }
        }
    }
    pod
}

#[test]
fn injecting_twice_is_injecting_once() {
    for_all(|pod, _, subject, settings| {
        let once = apply(pod, subject, settings);
        let twice = apply(&once.pod, subject, settings);
        assert!(twice.pod == once.pod, "once {}\ntwice {}", once.pod, twice.pod);
        assert_eq!(twice.warnings, once.warnings);
        assert_eq!(patch::patch(&once.pod, subject, settings).unwrap().1, []);
    });
}

#[test]
fn stripping_gives_back_what_was_injected_into() {
    for_all(|pod, _, subject, settings| {
        let injected = apply(pod, subject, settings).pod;
        let stripped = normal(crate::admission::undo(&injected).unwrap());
        assert!(stripped == normal(pod.clone()), "stripped {stripped}");
    });
}

#[test]
fn another_configuration_later_is_that_configuration_at_once() {
    for_all(|pod, _, subject, settings| {
        let other = Settings { kubernetes: Some((1, 36)), ..Settings::new("other:2") };
        let other_subject = Subject { restricted: !subject.restricted, ..Subject::default() };
        let first = apply(pod, subject, settings).pod;
        let later = apply(&first, &other_subject, &other).pod;
        let at_once = apply(pod, &other_subject, &other).pod;
        assert!(normal(later.clone()) == normal(at_once.clone()), "later {later}\nat once {at_once}");
    });
}

#[test]
fn the_class_of_service_is_kept() {
    for_all(|pod, qos, subject, settings| {
        let class = |pod: &Value| class(pod);
        assert_eq!(class(pod), qos, "the generator");
        let injected = apply(pod, subject, settings).pod;
        let emptied = settings.defaults.resources.cpu_request.is_none();
        if qos != Qos::BestEffort || emptied {
            assert_eq!(class(&injected), qos);
        }
    });
}

/// The rules of Kubernetes for the class of a pod, after the API server filled in requests from limits.
fn class(pod: &Value) -> Qos {
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
        .collect();
    let amount = |container: &Value, kind: &str, what: &str| {
        let text = container["resources"][kind][what].as_str()?;
        if what == "cpu" { Quantity::cpu(text) } else { Quantity::memory(text) }
    };
    let limits = |container: &Value, what: &str| amount(container, "limits", what);
    let requests =
        |container: &Value, what: &str| amount(container, "requests", what).or(limits(container, what));
    let each = ["cpu", "memory"];
    if containers.iter().all(|c| each.iter().all(|what| requests(c, what).is_none())) {
        Qos::BestEffort
    } else if containers
        .iter()
        .all(|c| each.iter().all(|what| limits(c, what).is_some() && limits(c, what) == requests(c, what)))
    {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

#[test]
fn other_containers_change_only_where_it_is_said() {
    for_all(|pod, _, subject, settings| {
        let injected = apply(pod, subject, settings).pod;
        let status = crate::admission::status::Status::of(&injected).unwrap();
        for list in ["containers", "initContainers"] {
            let after: Vec<&Value> = injected["spec"][list]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|container| !container["name"].as_str().unwrap().starts_with("meshtrace"))
                .collect();
            let before: Vec<&Value> = pod["spec"][list].as_array().into_iter().flatten().collect();
            assert_eq!(after.len(), before.len());
            for (before, after) in before.into_iter().zip(after) {
                assert_eq!(before["name"], after["name"], "the order stays");
                unchanged_but(before, after, &status);
            }
        }
    });
}

fn unchanged_but(before: &Value, after: &Value, status: &crate::admission::status::Status) {
    if crate::admission::pod::is_of_mesh(before) {
        assert_eq!(before, after, "the proxy of a mesh is not the application's");
    }
    let name = before["name"].as_str().unwrap();
    let (before, after) = (before.as_object().unwrap(), after.as_object().unwrap());
    for key in before.keys().chain(after.keys()) {
        let listed = match key.as_str() {
            "env" => status.undo.env.contains_key(name),
            "ports" => status.undo.ports.contains_key(name),
            "volumeMounts" => is_the_mount_added(before.get(key), after.get(key), status),
            "lifecycle" => {
                status.undo.handlers.keys().any(|key| key.starts_with(&format!("{name}/lifecycle.")))
            }
            probe => {
                let key = format!("{name}/{probe}");
                status.undo.probes.contains_key(&key) || status.undo.handlers.contains_key(&key)
            }
        };
        assert!(
            before.get(key) == after.get(key) || listed,
            "{name}.{key} changed and the status does not say so"
        );
    }
}

/// Whether what is new is the shim's mount, at the end, and nothing else.
fn is_the_mount_added(
    before: Option<&Value>,
    after: Option<&Value>,
    status: &crate::admission::status::Status,
) -> bool {
    let list = |mounts: Option<&Value>| mounts.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut expect = list(before);
    expect.push(json!({"name": "meshtrace-shim", "mountPath": "/meshtrace-shim", "readOnly": true}));
    status.undo.volumes == ["meshtrace-shim"] && list(after) == expect
}

#[test]
fn what_is_declared_twice_would_be_denied() {
    for_all(|pod, _, subject, settings| {
        let injected = apply(pod, subject, settings).pod;
        unique(&injected["spec"]["volumes"], "name", &pod["spec"]["volumes"]);
        for list in ["containers", "initContainers"] {
            for container in injected["spec"][list].as_array().into_iter().flatten() {
                unique(&container["volumeMounts"], "mountPath", &Value::Null);
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    let there = mount["name"] == "data"
                        || !find(&injected["spec"]["volumes"], "meshtrace-shim").is_null();
                    assert!(there, "{mount} is of no volume");
                }
            }
        }
    });
}

/// Each value of a key once, but for what was there before.
fn unique(list: &Value, key: &str, before: &Value) {
    let list = list.as_array().cloned().unwrap_or_default();
    let values: std::collections::BTreeSet<&str> = list.iter().filter_map(|one| one[key].as_str()).collect();
    assert_eq!(values.len(), list.len(), "{list:?} before {before}");
}

#[test]
fn the_generator_reaches_what_it_is_for() {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for_all_count(&mut seen);
    for word in [
        "redirect",
        "explicit",
        "none",
        "native",
        "classic",
        "probes",
        "handlers",
        "ports",
        "env",
        "refused",
        "volumes",
        "was",
        "bare",
        "elsewhere",
        "mesh",
        "beside a mesh",
        "taken",
        "declined",
    ] {
        assert!(seen.get(word).copied().unwrap_or_default() > 3, "{word}: {seen:?}");
    }
}

fn for_all_count(seen: &mut std::collections::BTreeMap<String, usize>) {
    let counts = std::cell::RefCell::new(seen);
    for_all(|pod, _, subject, settings| {
        let status = status(&apply(pod, subject, settings).pod);
        let mut seen = counts.borrow_mut();
        let mut count = |word: &str| *seen.entry(word.to_owned()).or_default() += 1;
        for field in ["capture", "sidecar"] {
            if let Some(word) = status[field].as_str() {
                count(word);
            }
        }
        if status.get("skipped").is_some() {
            count("refused");
        }
        let text = status.to_string();
        for (word, of) in [
            ("was", "\"was\":\"/app"),
            ("bare", "\"bare\":true"),
            ("elsewhere", "from elsewhere"),
            ("mesh", "MCP_MESH_PROPAGATE_HEADERS\":{"),
            ("taken", " mounts /meshtrace-shim"),
        ] {
            if text.contains(of) {
                count(word);
            }
        }
        if pod.to_string().contains("-proxy\"") && status.get("capture").is_some() {
            count("beside a mesh");
        }
        if pod.to_string().contains("propagation\":\"off") && !text.contains("volumes") {
            count("declined");
        }
        for key in status["undo"].as_object().into_iter().flat_map(|undo| undo.keys()) {
            count(key);
        }
    });
}
