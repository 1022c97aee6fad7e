//! What the injector writes into pods, this program takes: arguments and variables of every mode.

use meshtrace::admission::{Settings, Subject, apply};
use meshtrace::cli;
use serde_json::{Value, json};

#[test]
fn the_containers_that_are_added_can_start() {
    for (key, value) in [
        ("capture", "redirect"),
        ("capture", "explicit"),
        ("capture", "none"),
        ("native-sidecar", "false"),
        ("inbound-ports", "*"),
        ("inbound-ports", "8080,9000-9010"),
        ("skip-inbound-ports", "9090"),
        ("skip-outbound-ports", ""),
        ("skip-outbound-ports", "5432,6000-6100"),
        ("skip-outbound-cidrs", "10.0.0.0/8,fd00::/8"),
        ("capture-loopback-ports", "8080"),
        ("opaque-ports", "3306,9300-9400"),
        ("sampler", "parentbased_traceidratio"),
        ("propagators", "tracecontext,b3"),
        ("otlp-endpoint", "http://$(HOST_IP):4318"),
        ("service-name", "$(A), =b"),
    ] {
        let pod = json!({
            "metadata": {"annotations": {(format!("meshtrace.io/{key}")): value}},
            "spec": {"containers": [{
                "name": "agent", "image": "agent:1",
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "more", "containerPort": 8081}],
                "livenessProbe": {"tcpSocket": {"port": "http"}},
            }]},
        });
        let subject = Subject { asked: true, ..Subject::default() };
        let injected = apply(&pod, &subject, &Settings::new("meshtrace:test")).unwrap().pod;
        let mut started = 0;
        for list in ["initContainers", "containers"] {
            for container in injected["spec"][list].as_array().into_iter().flatten() {
                if container["name"].as_str().unwrap().starts_with("meshtrace") {
                    start(container, &format!("{key}={value}"));
                    started += 1;
                }
            }
        }
        assert!(started > 0, "{key}={value}");
    }
}

/// Parses the command line as the kubelet would start it.
fn start(container: &Value, what: &str) {
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap();
        let value = match variable["value"].as_str() {
            Some(value) => expand(value, &env),
            None if name.ends_with("IP") || name.ends_with("IPS") => format!("10.0.0.{}", name.len()),
            None => name.to_lowercase(),
        };
        env.push((name.to_owned(), value));
    }
    let args = container["args"].as_array().unwrap().iter().map(|arg| expand(arg.as_str().unwrap(), &env));
    let line: Vec<String> = std::iter::once("meshtrace".to_owned()).chain(args).collect();
    let variable = |name: &str| env.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    match cli::parse(line.clone(), &variable) {
        Ok(cli::Action::Proxy(config)) => {
            assert_eq!(config.warnings, Vec::<String>::new(), "{what}: {line:?}")
        }
        Ok(_) => {}
        Err(error) => panic!("{what}: {line:?}: {error:?}"),
    }
}

/// Kubernetes expands `$(NAME)` of variables that came before, and makes one `$` of two.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            let value = env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
            expanded.push_str(value.unwrap_or_else(|| panic!("{name} is used before it is declared")));
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}
