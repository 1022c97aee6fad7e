//! `MESHTRACE_APP_PROBES`: the TCP probes that the injector took from the
//! containers, for us to carry out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Environment;
use super::error::{Error, Origin};
use crate::net::probe::TcpProbe;

/// The variable. Its value is written by the injector, never by hand.
const VARIABLE: &str = "MESHTRACE_APP_PROBES";

/// The most probes, and the most bytes of the variable.
const MAX: (usize, usize) = (256, 64 * 1024);

/// The longest that one probe waits: the admin port gives an answer no longer.
const LONGEST: Duration = Duration::from_secs(9);

/// The `tcpSocket` of a Kubernetes probe, with the time that the probe has.
/// Keys that are not known are left alone: an injector may be newer than we are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    port: u16,
    #[serde(default)]
    host: String,
    /// Kubernetes has 1 where nothing is said.
    #[serde(default = "one")]
    timeout_seconds: u64,
}

fn one() -> u64 {
    1
}

/// The probes by `<container>/<probe>`. A probe without a host is for the
/// address of the pod, `POD_IP`, as it would be for a kubelet.
pub(crate) fn load(env: Environment<'_>) -> Result<BTreeMap<String, TcpProbe>, Error> {
    let text = env(VARIABLE).unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let (most, most_bytes) = MAX;
    let wrong = |problem: String| {
        let expected = r#"expected {"<container>/<probe>": {"port": 8080, "host": "", "timeoutSeconds": 1}}"#;
        Error::new(Origin::Variable(VARIABLE), format!("{problem}: {expected}"))
    };
    if text.len() > most_bytes {
        return Err(wrong(format!("is longer than {most_bytes} bytes")));
    }
    let shapes: BTreeMap<String, Shape> =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if shapes.len() > most {
        return Err(wrong(format!("has more than {most} probes")));
    }
    let pod = env("POD_IP").filter(|ip| !ip.trim().is_empty()).unwrap_or_else(|| "127.0.0.1".to_owned());
    let probe = |(name, shape): (String, Shape)| {
        if shape.port == 0 {
            return Err(wrong(format!("{}: port 0", super::error::quote(&name))));
        }
        let host = if shape.host.is_empty() { pod.trim().to_owned() } else { shape.host };
        let timeout = Duration::from_secs(shape.timeout_seconds).clamp(Duration::from_secs(1), LONGEST);
        Ok((name, TcpProbe { host, port: shape.port, timeout }))
    };
    shapes.into_iter().map(probe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(probes: &str, pod_ip: &str) -> Result<BTreeMap<String, TcpProbe>, String> {
        let env = |name: &str| match name {
            VARIABLE => Some(probes.to_owned()),
            "POD_IP" => Some(pod_ip.to_owned()),
            _ => None,
        };
        load(&env).map_err(|error| error.to_string())
    }

    #[test]
    fn probes_go_to_the_pod_unless_they_name_a_host() {
        let text = r#"{"app/readinessProbe": {"port": 8080},
            "db/livenessProbe": {"port": 5432, "host": "db.svc", "timeoutSeconds": 30, "newer": [1]}}"#;
        let seconds = Duration::from_secs;
        let probe = |host: &str, port, timeout| TcpProbe { host: host.to_owned(), port, timeout };
        let expect = BTreeMap::from([
            ("app/readinessProbe".to_owned(), probe("10.1.2.3", 8080, seconds(1))),
            ("db/livenessProbe".to_owned(), probe("db.svc", 5432, seconds(9))),
        ]);
        assert_eq!(with(text, "10.1.2.3"), Ok(expect));
        let alone = with(r#"{"a/b": {"port": 1, "timeoutSeconds": 0}}"#, "").unwrap();
        assert_eq!(alone["a/b"], probe("127.0.0.1", 1, seconds(1)));
        assert_eq!(with(" ", "x"), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_is_no_list_of_probes_is_one_line() {
        let many: Vec<String> = (0..257).map(|n| format!(r#""a/{n}":{{"port":1}}"#)).collect();
        let many = format!("{{{}}}", many.join(","));
        let long = format!(r#"{{"{}":{{"port":1}}}}"#, "a".repeat(70_000));
        let wrong =
            ["x", "[]", "{", r#"{"a":1}"#, r#"{"a":{}}"#, r#"{"a":{"port":0}}"#, r#"{"a":{"port":65536}}"#];
        for text in wrong.into_iter().chain([many.as_str(), long.as_str()]) {
            let line = with(text, "").unwrap_err();
            assert!(line.starts_with("MESHTRACE_APP_PROBES ") && !line.contains('\n'), "{line}");
            assert!(line.len() < 400, "{line}");
        }
    }
}
