//! The server's side: a listener's certificate, and its handshakes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{Error, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::reload::{Reloading, Source};
use super::{Alpn, Contents, Identity, TlsError, provider};

/// What a server's configuration is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerFiles {
    /// Who it is.
    pub identity: Identity,
    /// The authorities that have to vouch for clients; without them any
    /// client may come.
    pub client_ca: Option<PathBuf>,
}

impl Source for ServerFiles {
    type Config = ServerConfig;

    fn paths(&self) -> Vec<&Path> {
        let Identity { certificate, key } = &self.identity;
        [certificate.as_path(), key].into_iter().chain(self.client_ca.as_deref()).collect()
    }

    /// TLS 1.2 and 1.3, with tickets that need no memory here. A client that
    /// speaks both versions of HTTP gets 1.1, which every application hears.
    fn make(&self, contents: &Contents) -> Result<ServerConfig, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                contents.add_authorities(file, &mut roots)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let verifier = verifier.map_err(|error| super::unusable(file, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let Identity { certificate, key } = &self.identity;
        let config = builder.with_single_cert(contents.certificates(certificate)?, contents.key(key)?);
        let mut config = config.map_err(|error| super::unusable(key, error))?;
        config.alpn_protocols = vec![Alpn::Http1.id().to_vec(), Alpn::Http2.id().to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(config)
    }
}

/// Terminates TLS for a listener.
#[derive(Debug)]
pub struct Acceptor(Reloading<ServerFiles>);

/// Why a client did not get in.
#[derive(Debug, thiserror::Error)]
pub enum NotTls {
    /// What it sent is not TLS.
    #[error("the client does not speak TLS")]
    Plaintext,
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// It left before the handshake was over.
    #[error("the client left during the TLS handshake: {0}")]
    Left(io::Error),
}

impl NotTls {
    /// The value of the label `reason`, from a fixed and small set.
    pub fn reason(&self) -> &'static str {
        match self {
            NotTls::Plaintext => "plaintext",
            NotTls::Handshake(_) => "handshake",
            NotTls::Left(_) => "left",
        }
    }
}

/// The first byte of every TLS connection: a record of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What a client is told in plain HTTP that speaks it to a TLS listener.
const USE_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 63\r\nconnection: close\r\n\r\n\
    meshtrace: this listener speaks TLS: send the request to https\n";

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be used.
    pub fn new(files: ServerFiles) -> Result<Self, TlsError> {
        Reloading::new(files).map(Acceptor)
    }

    /// The files, to look for changes in.
    pub fn files(&self) -> &Reloading<ServerFiles> {
        &self.0
    }

    /// Carries out the handshake and says which protocol was agreed on. What
    /// the client did wrong concerns nobody but this client.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub async fn accept(&self, mut tcp: TcpStream) -> Result<(TlsStream<TcpStream>, Alpn), NotTls> {
        let mut first = [0];
        match tcp.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE => {}
            Ok(1) => {
                refuse(&mut tcp, first[0]).await;
                return Err(NotTls::Plaintext);
            }
            Ok(_) => return Err(NotTls::Left(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(NotTls::Left(error)),
        }
        let accepted = TlsAcceptor::from(self.0.current()).accept(tcp).await;
        let stream = accepted.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<Error>() => NotTls::Handshake(error),
            _ => NotTls::Left(error),
        })?;
        // A client without ALPN speaks HTTP/1.1 (RFC 9113, 3.2).
        let h2 = stream.get_ref().1.alpn_protocol() == Some(Alpn::Http2.id());
        Ok((stream.into(), if h2 { Alpn::Http2 } else { Alpn::Http1 }))
    }
}

/// Answers what seems to be plain HTTP. Reads a little of it first: a close
/// with bytes unread would be a reset, which can overtake the answer.
async fn refuse(tcp: &mut TcpStream, first: u8) {
    if first.is_ascii_alphabetic() {
        let mut head = [0; 4096];
        // The client hears of it or it does not; there is no more to do.
        let _ = tcp.read(&mut head).await;
        let _ = tcp.write_all(USE_HTTPS).await;
        let _ = tcp.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(USE_HTTPS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}
