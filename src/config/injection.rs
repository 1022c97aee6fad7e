//! What is added to pods that do not say otherwise: flags become the settings of the admission room.

use super::error::{Error, Origin, quote};
use super::value;
use crate::admission::Settings;

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
pub fn load(flags: &Flags) -> Result<Settings, Error> {
    let mut settings = Settings::new(concat!("meshtrace:", env!("CARGO_PKG_VERSION")));
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
    let uid = value::count(flags.uid.trim(), 1..=65_533);
    let uid = uid.map_err(|expected| Error::value(Origin::Flag("--uid"), &flags.uid, &expected))?;
    settings.uid = u32::try_from(uid).unwrap_or(settings.uid);
    Ok(settings)
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
        let settings = load(&flags).unwrap();
        assert_eq!(settings.defaults.otlp_endpoint.as_deref(), Some("http://collector:4318"));
        assert_eq!(settings.defaults.resources.cpu_request, None);
        assert_eq!(settings.defaults.proxy_image, "registry:5000/meshtrace:2");
        assert_eq!(settings.kubernetes, Some((1, 34)));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_flag() {
        let wrong = |flags: &Flags| load(flags).unwrap_err().to_string();
        assert_eq!(wrong(&flags(&["capture"])), "--set \"capture\": expected KEY=VALUE");
        assert_eq!(wrong(&flags(&["captur=auto"])), "--set \"captur\": there is no such key");
        let text = wrong(&flags(&["capture=all"]));
        assert_eq!(text, "--set meshtrace.io/capture \"all\": expected auto, redirect, explicit or none");
        let text = wrong(&flags(&["proxy-memory-request=1Gi"]));
        assert!(text.contains("proxy-memory-limit \"256Mi\""), "{text}");
        for uid in ["0", "root", "65534", "-1"] {
            assert!(wrong(&Flags { uid: uid.to_owned(), ..flags(&[]) }).starts_with("--uid "), "{uid}");
        }
        for version in ["", "1", "latest", "one.two"] {
            let kubernetes_version = Some(version.to_owned());
            assert!(wrong(&Flags { kubernetes_version, ..flags(&[]) }).starts_with("--kubernetes-version "));
        }
    }
}
