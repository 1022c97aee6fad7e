//! TLS by flag, variable and file: what listeners answer with, whom servers
//! have to be vouched for by, and which hosts are spoken to in TLS.

use std::path::PathBuf;

use super::error::{Error, Expected, Origin};
use super::listeners::{self, Listeners};
use super::{Environment, Flags, value};
use crate::net::tls::{ClientFiles, Identity, Roots, ServerFiles};
use crate::proxy::settings::Originate;

/// What is said about TLS, all of it optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who inbound listeners are that speak TLS, and whom they let in.
    pub inbound: Option<ServerFiles>,
    /// Hosts that are spoken to in TLS although the application says `http`.
    pub originate: Vec<Originate>,
    /// Authorities that vouch for servers beside those of the system.
    pub ca: Option<PathBuf>,
    /// Who we are to servers that ask.
    pub client: Option<Identity>,
}

impl Tls {
    /// What outbound connections are made of.
    pub fn client_files(&self) -> ClientFiles {
        let roots = self.ca.clone().map_or(Roots::System, Roots::SystemAnd);
        ClientFiles { roots, identity: self.client.clone() }
    }
}

/// Puts flags and variables over what the file says, and refuses what would
/// have no effect.
pub(crate) fn load(
    flags: &Flags,
    env: Environment<'_>,
    file: Tls,
    listeners: &Listeners,
) -> Result<Tls, Error> {
    let one = |flag, text: &Option<String>, variable| given(flag, text.as_deref(), variable, env);
    let inbound = one("--inbound-tls", &flags.inbound_tls, "MESHTRACE_INBOUND_TLS");
    let ca = one("--tls-ca", &flags.tls_ca, "MESHTRACE_TLS_CA");
    let client = one("--tls-client", &flags.tls_client, "MESHTRACE_TLS_CLIENT");
    let hosts = &flags.tls_originate;
    let originate =
        listeners::list("--tls-originate", hosts, "MESHTRACE_TLS_ORIGINATE", env, value::originate)?;
    let tls = Tls {
        inbound: parsed(inbound, server_files)?.or(file.inbound),
        originate: if originate.is_empty() { file.originate } else { originate },
        ca: parsed(ca, value::path)?.or(file.ca),
        client: parsed(client, value::identity)?.or(file.client),
    };
    let secure = listeners.inbound.iter().find(|inbound| inbound.secure);
    match (secure, &tls.inbound) {
        (Some(inbound), None) => Err(Error::new(
            Origin::Whole,
            format!(
                "--inbound https://{}: it needs a certificate: give --inbound-tls CERTIFICATE,KEY \
                 (or MESHTRACE_INBOUND_TLS, or tls.inbound in the file)",
                inbound.listen
            ),
        )),
        (None, Some(_)) => Err(Error::new(
            Origin::Whole,
            "a certificate for inbound TLS is given and no listener uses it: write --inbound https://LISTEN=APP",
        )),
        _ => Ok(tls),
    }
}

/// The text of a flag, or else of its variable, if either says something.
pub(super) fn given(
    flag: &'static str,
    text: Option<&str>,
    variable: &'static str,
    env: Environment<'_>,
) -> Option<(Origin, String)> {
    if let Some(text) = text {
        return Some((Origin::Flag(flag), text.trim().to_owned()));
    }
    let text = env(variable)?;
    let text = text.trim();
    (!text.is_empty()).then(|| (Origin::Variable(variable), text.to_owned()))
}

fn parsed<T>(
    given: Option<(Origin, String)>,
    parse: fn(&str) -> Result<T, Expected>,
) -> Result<Option<T>, Error> {
    let Some((origin, text)) = given else { return Ok(None) };
    parse(&text).map(Some).map_err(|expected| Error::value(origin, &text, &expected))
}

/// `CERTIFICATE,KEY[,CLIENT_CA]`
fn server_files(text: &str) -> Result<ServerFiles, Expected> {
    let expected = "CERTIFICATE,KEY or CERTIFICATE,KEY,CLIENT_CA: PEM files with commas between them";
    let mut parts = text.splitn(3, ',');
    let pair = [parts.next(), parts.next()].map(Option::unwrap_or_default).join(",");
    let identity = value::identity(&pair).map_err(|_| expected)?;
    let client_ca = parts.next().map(|file| value::path(file.trim())).transpose().map_err(|_| expected)?;
    Ok(ServerFiles { identity, client_ca })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_its_variable_and_both_beat_the_file() {
        let pair = |text| value::identity(text).unwrap();
        let host = |text| value::originate(text).unwrap();
        let file = Tls {
            inbound: Some(server_files("f,f,f").unwrap()),
            originate: vec![host("file")],
            ca: Some("file".into()),
            client: Some(pair("f,f")),
        };
        let inbound = vec!["https://0.0.0.0:1=a:1".to_owned()];
        let all = Flags {
            inbound,
            inbound_tls: Some("a, b, c".to_owned()),
            tls_originate: vec!["flag".to_owned()],
            tls_ca: Some("flag".to_owned()),
            tls_client: Some("a,b".to_owned()),
            ..Flags::default()
        };
        let none = Flags { inbound: all.inbound.clone(), ..Flags::default() };
        let variable = |name: &str| match name {
            "MESHTRACE_INBOUND_TLS" => Some("x,y".to_owned()),
            "MESHTRACE_TLS_ORIGINATE" => Some("one:8443, two".to_owned()),
            "MESHTRACE_TLS_CA" => Some(" variable ".to_owned()),
            "MESHTRACE_TLS_CLIENT" => Some("x,y".to_owned()),
            _ => None,
        };
        let listeners = listeners::load(&none, &|_| None).unwrap();
        let load = |flags, env: Environment<'_>| load(flags, env, file.clone(), &listeners).unwrap();
        assert_eq!(load(&none, &|_| None), file);
        let expect = Tls {
            inbound: Some(server_files("x,y").unwrap()),
            originate: vec![host("one:8443"), host("two")],
            ca: Some("variable".into()),
            client: Some(pair("x,y")),
        };
        assert_eq!(load(&none, &variable), expect);
        let expect = Tls {
            inbound: Some(server_files("a,b,c").unwrap()),
            originate: vec![host("flag")],
            ca: Some("flag".into()),
            client: Some(pair("a,b")),
        };
        assert_eq!(load(&all, &variable), expect);
    }
}
