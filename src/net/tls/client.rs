//! The client's side: configurations, handshakes, and what a failed handshake
//! says of the server.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::reload::{Reloading, Source};
use super::{Alpn, Contents, Identity, TlsError, provider};

/// Whom a client trusts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Roots {
    /// The authorities of the system; where there are none, as in an image
    /// from scratch, those of Mozilla.
    #[default]
    System,
    /// These and the ones in this file.
    SystemAnd(PathBuf),
    /// The ones in this file and no others.
    Only(PathBuf),
}

/// What a client's configuration is made of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientFiles {
    /// Whom it trusts.
    pub roots: Roots,
    /// Who it is, to servers that ask.
    pub identity: Option<Identity>,
}

impl Source for ClientFiles {
    type Config = ClientConfig;

    fn paths(&self) -> Vec<&Path> {
        let roots = match &self.roots {
            Roots::System => None,
            Roots::SystemAnd(file) | Roots::Only(file) => Some(file.as_path()),
        };
        let identity = self.identity.iter().flat_map(|pair| [pair.certificate.as_path(), &pair.key]);
        roots.into_iter().chain(identity).collect()
    }

    /// TLS 1.2 and 1.3; no application protocol is offered unless a handshake says so.
    fn make(&self, contents: &Contents) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.trusted(contents)?);
        let Some(Identity { certificate, key }) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = contents.certificates(certificate)?;
        let config = builder.with_client_auth_cert(chain, contents.key(key)?);
        config.map_err(|error| super::unusable(key, error))
    }
}

impl ClientFiles {
    /// Reads the files and makes a configuration for one application protocol.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn config(&self, alpn: Alpn) -> Result<ClientConfig, TlsError> {
        let mut config = self.make(&Contents::read(&self.paths())?)?;
        config.alpn_protocols = vec![alpn.id().to_vec()];
        Ok(config)
    }

    fn trusted(&self, contents: &Contents) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if !matches!(self.roots, Roots::Only(_)) {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
        }
        if let Roots::SystemAnd(file) | Roots::Only(file) = &self.roots {
            contents.add_authorities(file, &mut roots)?;
        }
        Ok(roots)
    }
}

/// Opens TLS towards servers. All connections share the tickets that servers
/// give out, so that a second connection to one of them resumes a session.
#[derive(Debug)]
pub struct Connector(Reloading<ClientFiles>);

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be used.
    pub fn new(files: ClientFiles) -> Result<Self, TlsError> {
        Reloading::new(files).map(Connector)
    }

    /// The files, to look for changes in.
    pub fn files(&self) -> &Reloading<ClientFiles> {
        &self.0
    }

    /// Carries out the handshake with the server of this name, which has to
    /// prove that it is that server. Only the one protocol is offered, so what
    /// the two sides speak to us stays the same.
    ///
    /// # Errors
    /// What the server did wrong.
    pub async fn connect(
        &self,
        host: &str,
        tcp: TcpStream,
        alpn: Alpn,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        // A name with its root dot is the same server; certificates omit the dot.
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Name)?;
        let connector = TlsConnector::from(self.0.current());
        let stream = connector.with_alpn(vec![alpn.id().to_vec()]).connect(name, tcp).await;
        let stream = stream.map_err(HandshakeError::of)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        match alpn {
            // A server that knows no ALPN speaks HTTP/1.1 (RFC 9113, 3.2).
            Alpn::Http2 if agreed != Some(Alpn::Http2.id()) => Err(HandshakeError::Protocol),
            _ => Ok(stream.into()),
        }
    }
}

/// Why a server was not spoken to although it was reached.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What is to be proved is not a name or an address.
    #[error("TLS: its host is not a name that a certificate can be for")]
    Name,
    /// Its certificate is not valid any more, or not yet.
    #[error("TLS: its certificate is out of date: {0}")]
    Expired(CertificateError),
    /// Nobody whom we trust vouches for its certificate.
    #[error("TLS: its certificate is from an issuer that is not trusted (tls.ca adds one)")]
    UnknownIssuer,
    /// Its certificate is for somebody else.
    #[error("TLS: its certificate is for another name: {0}")]
    WrongName(String),
    /// Its certificate cannot be trusted for another reason.
    #[error("TLS: its certificate is not valid: {0}")]
    Certificate(CertificateError),
    /// It broke the handshake off and said why.
    #[error("TLS: it refused the handshake: {0:?}")]
    Alert(AlertDescription),
    /// What it sent is not TLS.
    #[error("TLS: it does not speak TLS")]
    NotTls,
    /// It does not speak the protocol that the downstream speaks.
    #[error("TLS: it does not speak HTTP/2, which the client does")]
    Protocol,
    /// The connection broke.
    #[error("TLS: the handshake broke off: {0}")]
    Io(io::Error),
    /// Anything else.
    #[error("TLS: {0}")]
    Other(Error),
}

impl HandshakeError {
    fn of(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return HandshakeError::Io(error);
        };
        match tls.clone() {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            // That is how a server says that no protocol suits it.
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => HandshakeError::Protocol,
            Error::AlertReceived(alert) => HandshakeError::Alert(alert),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => HandshakeError::NotTls,
            other => HandshakeError::Other(other),
        }
    }

    fn of_certificate(error: CertificateError) -> Self {
        use CertificateError as C;
        match error {
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                HandshakeError::Expired(error)
            }
            C::UnknownIssuer => HandshakeError::UnknownIssuer,
            C::NotValidForNameContext { presented, .. } => HandshakeError::WrongName(few(&presented)),
            C::NotValidForName => HandshakeError::WrongName(few(&[])),
            error => HandshakeError::Certificate(error),
        }
    }

    /// The value of `error.type`, from a fixed and small set.
    pub fn error_type(&self) -> &'static str {
        match self {
            HandshakeError::Expired(_) => "tls_certificate_expired",
            HandshakeError::UnknownIssuer => "tls_unknown_issuer",
            HandshakeError::WrongName(_) => "tls_name_mismatch",
            HandshakeError::Certificate(_) => "tls_certificate",
            HandshakeError::Alert(_) => "tls_alert",
            HandshakeError::NotTls => "tls_not_spoken",
            HandshakeError::Protocol => "tls_protocol",
            HandshakeError::Name | HandshakeError::Io(_) | HandshakeError::Other(_) => "tls_handshake",
        }
    }
}

/// The first names of a certificate on one short line; a stranger wrote them.
fn few(names: &[String]) -> String {
    const SHOWN: (usize, usize) = (3, 64);
    let name = |name: &String| name.chars().filter(|c| !c.is_control()).take(SHOWN.1).collect::<String>();
    let mut text = names.iter().take(SHOWN.0).map(name).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".clone_into(&mut text),
        n if n > SHOWN.0 => text.push_str(", …"),
        _ => {}
    }
    text
}
