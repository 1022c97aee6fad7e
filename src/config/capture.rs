//! What is captured: flags and variables become the rules of a network
//! namespace. The words are those of the annotations of a pod.

use super::error::{Error, Expected, Origin};
use super::{Environment, Flags, value};
use crate::capture::rules::{self, Ports, Rules};
use crate::proxy::settings::Redirected;

/// The values of the flags about capture, as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureFlags {
    /// `--inbound-ports PORTS`, `*` or `none`.
    pub inbound_ports: Option<String>,
    /// `--skip-inbound-ports PORTS`.
    pub skip_inbound_ports: Option<String>,
    /// `--skip-outbound-ports PORTS`.
    pub skip_outbound_ports: Option<String>,
    /// `--outbound-cidrs CIDRS`, `*` or `none`.
    pub outbound_cidrs: Option<String>,
    /// `--skip-outbound-cidrs CIDRS`.
    pub skip_outbound_cidrs: Option<String>,
    /// `--capture-loopback-ports PORTS`.
    pub capture_loopback_ports: Option<String>,
    /// `--mesh-uid UID`.
    pub mesh_uid: Option<String>,
    /// `--uid UID`.
    pub uid: Option<String>,
    /// `--redirected-inbound PORT`.
    pub redirected_inbound: Option<String>,
    /// `--redirected-outbound PORT`.
    pub redirected_outbound: Option<String>,
}

/// The rules that these flags and variables ask for. `admin` is the port that
/// probes reach the sidecar at.
///
/// # Errors
/// The first value that cannot be used.
pub(super) fn rules(flags: &CaptureFlags, admin: Option<u16>, env: Environment<'_>) -> Result<Rules, Error> {
    let f = flags;
    let default = Rules { admin, ..Rules::default() };
    let rules = Rules {
        inbound_ports: one(INBOUND_PORTS, &f.inbound_ports, env, all_or(value::ports))?.unwrap_or_default(),
        skip_inbound_ports: one(SKIP_INBOUND_PORTS, &f.skip_inbound_ports, env, value::ports)?
            .unwrap_or_default(),
        skip_outbound_ports: one(SKIP_OUTBOUND_PORTS, &f.skip_outbound_ports, env, value::ports)?
            .unwrap_or(default.skip_outbound_ports),
        outbound_cidrs: one(OUTBOUND_CIDRS, &f.outbound_cidrs, env, all_or(value::networks))?
            .unwrap_or_default(),
        skip_outbound_cidrs: one(SKIP_OUTBOUND_CIDRS, &f.skip_outbound_cidrs, env, value::networks)?
            .unwrap_or_default(),
        capture_loopback_ports: one(LOOPBACK_PORTS, &f.capture_loopback_ports, env, value::ports)?
            .unwrap_or_default(),
        mesh_uid: one(MESH_UID, &f.mesh_uid, env, value::uid)?,
        uid: uid(&f.uid, env)?,
        redirected_inbound: listener(REDIRECTED_INBOUND, &f.redirected_inbound, env)?
            .unwrap_or(default.redirected_inbound),
        redirected_outbound: listener(REDIRECTED_OUTBOUND, &f.redirected_outbound, env)?
            .unwrap_or(default.redirected_outbound),
        admin,
    };
    check(&rules)?;
    Ok(rules)
}

/// What `meshtrace proxy` has to do with capture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OfProxy {
    /// The listeners for redirected connections, if there are to be any.
    pub(crate) redirected: Option<Redirected>,
    /// The rules to be installed, if it is to install any.
    pub(crate) install: Option<Rules>,
    /// The user that rules spare.
    pub(crate) uid: u32,
}

/// Reads `--redirected`, `--capture` and what belongs to them.
pub(crate) fn of_proxy(flags: &Flags, admin: Option<u16>, env: Environment<'_>) -> Result<OfProxy, Error> {
    let rules = rules(&flags.rules, admin, env)?;
    let install = flags.capture || switch("MESHTRACE_CAPTURE", env)?;
    let redirected = install || flags.redirected || switch("MESHTRACE_REDIRECTED", env)?;
    if install {
        refuse_host_network(env)?;
    } else if let Some(flag) = flags.rules.first_of_install() {
        let problem = format!(
            "{flag} says what to capture, and needs --capture; or give it to meshtrace capture install"
        );
        return Err(Error::new(Origin::Whole, problem));
    }
    let listeners = Redirected {
        inbound: rules.redirected_inbound,
        outbound: rules.redirected_outbound,
        opaque_ports: Vec::new(),
    };
    Ok(OfProxy {
        redirected: redirected.then_some(listeners),
        uid: rules.uid,
        install: install.then_some(rules),
    })
}

/// `--opaque-ports`, if it or its variable is given.
pub(crate) fn opaque_ports(flags: &Flags, env: Environment<'_>) -> Result<Option<Ports>, Error> {
    one(OPAQUE_PORTS, &flags.opaque_ports, env, value::ports)
}

/// A variable that switches something on.
fn switch(variable: &'static str, env: Environment<'_>) -> Result<bool, Error> {
    Ok(one(("", variable), &None, env, value::boolean)?.unwrap_or(false))
}

impl CaptureFlags {
    /// The first flag that only installing rules has a use for.
    fn first_of_install(&self) -> Option<&'static str> {
        let flags = [
            (INBOUND_PORTS, &self.inbound_ports),
            (SKIP_INBOUND_PORTS, &self.skip_inbound_ports),
            (SKIP_OUTBOUND_PORTS, &self.skip_outbound_ports),
            (OUTBOUND_CIDRS, &self.outbound_cidrs),
            (SKIP_OUTBOUND_CIDRS, &self.skip_outbound_cidrs),
            (LOOPBACK_PORTS, &self.capture_loopback_ports),
            (MESH_UID, &self.mesh_uid),
        ];
        flags.into_iter().find_map(|((flag, _), typed)| typed.is_some().then_some(flag))
    }
}

/// The user of the sidecar.
fn uid(flag: &Option<String>, env: Environment<'_>) -> Result<u32, Error> {
    Ok(one(UID, flag, env, value::uid)?.unwrap_or(rules::UID))
}

/// Refuses what would take the network from a whole machine: rules belong to
/// a pod that has a network of its own.
///
/// # Errors
/// When `POD_IP` and `HOST_IP`, which Kubernetes fills in, are the same.
pub fn refuse_host_network(env: Environment<'_>) -> Result<(), Error> {
    let address = |name: &str| env(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match (address("POD_IP"), address("HOST_IP")) {
        (Some(pod), Some(host)) if pod == host => Err(Error::new(
            Origin::Whole,
            format!(
                "POD_IP and HOST_IP are both {pod}: this pod is on the network of its node, whose whole traffic \
                 would be captured. Use --inbound and --outbound there"
            ),
        )),
        _ => Ok(()),
    }
}

/// A flag and its variable.
type Setting = (&'static str, &'static str);

const INBOUND_PORTS: Setting = ("--inbound-ports", "MESHTRACE_INBOUND_PORTS");
const SKIP_INBOUND_PORTS: Setting = ("--skip-inbound-ports", "MESHTRACE_SKIP_INBOUND_PORTS");
const SKIP_OUTBOUND_PORTS: Setting = ("--skip-outbound-ports", "MESHTRACE_SKIP_OUTBOUND_PORTS");
const OUTBOUND_CIDRS: Setting = ("--outbound-cidrs", "MESHTRACE_OUTBOUND_CIDRS");
const SKIP_OUTBOUND_CIDRS: Setting = ("--skip-outbound-cidrs", "MESHTRACE_SKIP_OUTBOUND_CIDRS");
const LOOPBACK_PORTS: Setting = ("--capture-loopback-ports", "MESHTRACE_CAPTURE_LOOPBACK_PORTS");
const MESH_UID: Setting = ("--mesh-uid", "MESHTRACE_MESH_UID");
const UID: Setting = ("--uid", "MESHTRACE_UID");
const OPAQUE_PORTS: Setting = ("--opaque-ports", "MESHTRACE_OPAQUE_PORTS");
const REDIRECTED_INBOUND: Setting = ("--redirected-inbound", "MESHTRACE_REDIRECTED_INBOUND");
const REDIRECTED_OUTBOUND: Setting = ("--redirected-outbound", "MESHTRACE_REDIRECTED_OUTBOUND");

/// The value of a flag, else of its variable, if there is either.
fn one<T>(
    (flag, variable): Setting,
    typed: &Option<String>,
    env: Environment<'_>,
    parse: impl Fn(&str) -> Result<T, Expected>,
) -> Result<Option<T>, Error> {
    let (origin, text) = match typed {
        Some(text) => (Origin::Flag(flag), text.trim().to_owned()),
        None => match env(variable).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
            Some(text) => (Origin::Variable(variable), text),
            None => return Ok(None),
        },
    };
    parse(&text).map(Some).map_err(|expected| Error::value(origin, &text, &expected))
}

/// Everything, said as `*`, or what the parser takes.
fn all_or<T>(
    parse: impl Fn(&str) -> Result<Vec<T>, Expected>,
) -> impl Fn(&str) -> Result<Option<Vec<T>>, Expected> {
    move |text| match text {
        "*" => Ok(None),
        _ => parse(text).map(Some).map_err(|expected| format!("{expected}, or *").into()),
    }
}

fn listener(setting: Setting, typed: &Option<String>, env: Environment<'_>) -> Result<Option<u16>, Error> {
    one(setting, typed, env, value::port)
}

/// Refuses rules that would bite each other.
fn check(rules: &Rules) -> Result<(), Error> {
    let Rules { redirected_inbound, redirected_outbound, admin, uid, mesh_uid, .. } = rules;
    let problem = if redirected_inbound == redirected_outbound {
        format!(
            "--redirected-inbound and --redirected-outbound are both {redirected_inbound}: each needs its own port"
        )
    } else if admin.is_some_and(|port| [redirected_inbound, redirected_outbound].contains(&&port)) {
        "--admin has the port of a redirected listener: each needs its own port".to_owned()
    } else if *mesh_uid == Some(*uid) {
        format!("--mesh-uid and --uid are both {uid}: the other proxy has to run as a user of its own")
    } else {
        return Ok(());
    };
    Err(Error::new(Origin::Whole, problem))
}
