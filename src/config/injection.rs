//! What is added to pods that do not say otherwise: flags become the settings of the admission room.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;

use super::error::{Error, Origin, quote};
use super::{Environment, env as variables, listeners, value};
use crate::admission::Settings;
use crate::admission::injector::Source;
use crate::admission::install::{Install, Mode};
use crate::admission::rotate::Names;

/// The flags, as they were typed.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--image`
    pub image: Option<String>,
    /// `--set`, repeatable.
    pub set: Vec<String>,
    /// `--kubernetes-version`
    pub kubernetes_version: Option<String>,
    /// `--uid`
    pub uid: String,
}

/// Reads the flags.
///
/// # Errors
/// For the first that cannot be used.
pub fn load(flags: &Flags, env: Environment<'_>) -> Result<Settings, Error> {
    let mut settings = Settings::new(concat!("meshtrace:", env!("CARGO_PKG_VERSION")));
    if let Some(image) = env("MESHTRACE_IMAGE").filter(|image| !image.trim().is_empty()) {
        let taken = settings.defaults.set("proxy-image", &image);
        taken.map_err(|invalid| Error::new(Origin::Variable("MESHTRACE_IMAGE"), invalid.to_string()))?;
    }
    let image = flags.image.iter().map(|image| ("--image", format!("proxy-image={image}")));
    let set = flags.set.iter().map(|text| ("--set", text.clone()));
    for (flag, text) in image.chain(set) {
        let origin = Origin::Flag(flag);
        let Some((key, value)) = text.split_once('=') else {
            return Err(Error::value(origin, &text, &"KEY=VALUE".into()));
        };
        match settings.defaults.set(key.trim(), value) {
            Ok(true) => {}
            Ok(false) => return Err(Error::new(origin, format!("{}: there is no such key", quote(key)))),
            Err(invalid) => return Err(Error::new(origin, invalid.to_string())),
        }
    }
    settings.defaults.check().map_err(|invalid| Error::new(Origin::Flag("--set"), invalid.to_string()))?;
    settings.kubernetes = flags.kubernetes_version.as_deref().map(version).transpose()?;
    let uid = value::uid(flags.uid.trim());
    settings.uid = uid.map_err(|expected| Error::value(Origin::Flag("--uid"), &flags.uid, &expected))?;
    Ok(settings)
}

/// The flags of `meshtrace injector`, as they were typed.
#[derive(Clone, Debug, Default)]
pub struct InjectorFlags {
    /// `--listen`
    pub listen: String,
    /// `--admin`
    pub admin: Option<String>,
    /// `--certificate` and `--key`
    pub files: Option<(PathBuf, PathBuf)>,
    /// `--name`
    pub name: String,
    /// `--namespace`
    pub namespace: Option<String>,
    /// What is added to pods.
    pub injection: Flags,
}

/// What the injector needs to start.
#[derive(Debug)]
pub struct Injector {
    /// Where API servers reach it.
    pub listen: SocketAddr,
    /// The admin port, if any.
    pub admin: Option<SocketAddr>,
    /// Where its certificate comes from.
    pub source: Source,
    /// The API server, where it runs in a cluster: host and port.
    pub api: Option<(String, u16)>,
    /// What is added to pods.
    pub settings: Settings,
    /// What is logged.
    pub log_level: LevelFilter,
}

/// Where Kubernetes mounts the account of a pod.
pub const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reads the flags of `meshtrace injector`, and the variables that Kubernetes sets in every pod.
///
/// # Errors
/// For the first that cannot be used.
pub fn injector(flags: &InjectorFlags, env: Environment<'_>) -> Result<Injector, Error> {
    let listen = value::listen(flags.listen.trim());
    let listen =
        listen.map_err(|expected| Error::value(Origin::Flag("--listen"), &flags.listen, &expected))?;
    let source = match &flags.files {
        Some((certificate, key)) => Source::Files { certificate: certificate.clone(), key: key.clone() },
        None => Source::Own(names(flags)?),
    };
    Ok(Injector {
        listen,
        admin: listeners::admin(flags.admin.as_deref(), env)?,
        source,
        api: api(env)?,
        settings: load(&flags.injection, env)?,
        log_level: variables::log_level(env, &mut Vec::new()),
    })
}

fn names(flags: &InjectorFlags) -> Result<Names, Error> {
    let name = kubernetes_name("--name", &flags.name)?;
    let namespace = match &flags.namespace {
        Some(namespace) => kubernetes_name("--namespace", namespace)?,
        None => {
            let path = Path::new(ACCOUNT).join("namespace");
            let read = std::fs::read_to_string(&path).map_err(|error| {
                let problem = format!("give --namespace NAME: {}: {error}", path.display());
                Error::new(Origin::Whole, problem)
            })?;
            kubernetes_name("--namespace", &read)?
        }
    };
    Ok(Names { namespace, secret: name.clone(), configuration: name.clone(), service: name })
}

fn api(env: Environment<'_>) -> Result<Option<(String, u16)>, Error> {
    let Some(host) = env("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty()) else {
        return Ok(None);
    };
    let text = env("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let port = value::count(text.trim(), 1..=65_535);
    let port = port.map_err(|e| Error::value(Origin::Variable("KUBERNETES_SERVICE_PORT"), &text, &e))?;
    Ok(Some((host, u16::try_from(port).unwrap_or(443))))
}

/// A DNS label, which the names of namespaces and Services are (RFC 1123).
fn kubernetes_name(flag: &'static str, text: &str) -> Result<String, Error> {
    let text = text.trim();
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = [text.as_bytes().first(), text.as_bytes().last()];
    let good =
        text.len() <= 63 && text.bytes().all(inner) && edges.iter().all(|b| b.is_some_and(|b| *b != b'-'));
    let expected = "at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit".into();
    if good { Ok(text.to_owned()) } else { Err(Error::value(Origin::Flag(flag), text, &expected)) }
}

/// The flags of `meshtrace install`, as they were typed.
#[derive(Clone, Debug, Default)]
pub struct InstallFlags {
    /// `--mode`
    pub mode: String,
    /// `--namespace`
    pub namespace: String,
    /// What is added to pods.
    pub injection: Flags,
}

/// Reads the flags of `meshtrace install`.
///
/// # Errors
/// For the first that cannot be used.
pub fn install(flags: &InstallFlags, env: Environment<'_>) -> Result<Install, Error> {
    let mode = Mode::ALL.iter().find(|(name, _)| *name == flags.mode.trim()).map(|(_, mode)| *mode);
    let expected = "webhook, cert-manager or policy".into();
    let mode = mode.ok_or_else(|| Error::value(Origin::Flag("--mode"), &flags.mode, &expected))?;
    let settings = load(&flags.injection, env)?;
    let mut args: Vec<String> = flags.injection.set.iter().map(|set| format!("--set={set}")).collect();
    args.extend(
        flags.injection.kubernetes_version.iter().map(|version| format!("--kubernetes-version={version}")),
    );
    if settings.uid != crate::admission::UID {
        args.push(format!("--uid={}", settings.uid));
    }
    let namespace = kubernetes_name("--namespace", &flags.namespace)?;
    Ok(Install { mode, namespace, settings, flags: args })
}

/// `1.34`, and what clusters make of it: `v1.34.2-gke.1`.
fn version(text: &str) -> Result<(u32, u32), Error> {
    let mut parts = text.trim().trim_start_matches('v').split('.');
    let mut number = || parts.next().and_then(|part| part.trim_end_matches('+').parse().ok());
    let version = number().zip(number());
    let expected =
        || Error::value(Origin::Flag("--kubernetes-version"), text, &"a version such as 1.34".into());
    version.ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(set: &[&str]) -> Flags {
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        Flags { set, uid: "14100".to_owned(), ..Flags::default() }
    }

    #[test]
    fn what_is_set_is_what_an_annotation_would_say() {
        let mut flags = flags(&["otlp-endpoint=http://collector:4318", "proxy-cpu-request="]);
        flags.kubernetes_version = Some("v1.34.2-gke.1".to_owned());
        flags.image = Some("registry:5000/meshtrace:2".to_owned());
        let settings = load(&flags, &|_| None).unwrap();
        assert_eq!(settings.defaults.otlp_endpoint.as_deref(), Some("http://collector:4318"));
        assert_eq!(settings.defaults.resources.cpu_request, None);
        assert_eq!(settings.defaults.proxy_image, "registry:5000/meshtrace:2");
        assert_eq!(settings.kubernetes, Some((1, 34)));
    }

    /// A pod must not get a sidecar that refuses its own environment.
    #[test]
    fn hosts_that_an_annotation_takes_are_taken_by_the_sidecar() {
        for text in [
            "a",
            "api.example.com:8443",
            "*.b-c_d",
            "10.?.2.3",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "a:1, b:65535",
        ] {
            let defaults =
                load(&flags(&[&format!("egress-tls-origination={text}")]), &|_| None).unwrap().defaults;
            let hosts = defaults.egress_tls_origination.join(",");
            for host in hosts.split(',') {
                assert!(value::originate(host).is_ok(), "{host}");
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_flag() {
        let wrong = |flags: &Flags| load(flags, &|_| None).unwrap_err().to_string();
        assert_eq!(wrong(&flags(&["capture"])), "--set \"capture\": expected KEY=VALUE");
        assert_eq!(wrong(&flags(&["captur=auto"])), "--set \"captur\": there is no such key");
        let text = wrong(&flags(&["capture=all"]));
        assert_eq!(text, "--set meshtrace.io/capture \"all\": expected auto, redirect, explicit or none");
        let text = wrong(&flags(&["proxy-memory-request=1Gi"]));
        assert!(text.contains("proxy-memory-limit \"256Mi\""), "{text}");
        for uid in ["0", "root", "4294967295", "-1"] {
            assert!(wrong(&Flags { uid: uid.to_owned(), ..flags(&[]) }).starts_with("--uid "), "{uid}");
        }
        for version in ["", "1", "latest", "one.two"] {
            let kubernetes_version = Some(version.to_owned());
            assert!(wrong(&Flags { kubernetes_version, ..flags(&[]) }).starts_with("--kubernetes-version "));
        }
    }
}
