//! TLS around the plain peers of the tests: in front of a server, and behind
//! a client.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::authority::Authority;

/// What a server saw of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The name that the client asked for.
    pub name: Option<String>,
    /// The protocol that both agreed on.
    pub alpn: Option<String>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Whether the client showed a certificate.
    pub client: bool,
}

/// Speaks TLS to clients and plain TCP to a server. It stops when it is dropped.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Handshake>>>,
    task: JoinHandle<()>,
}

impl Front {
    /// In front of this server.
    pub async fn start(acceptor: TlsAcceptor, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Handshake>>>::default();
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    // A client that does not like us is part of the tests.
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let session = tls.get_ref().1;
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(Handshake {
                        name: session.server_name().map(str::to_owned),
                        alpn: session.alpn_protocol().map(|id| String::from_utf8(id.to_vec()).unwrap()),
                        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                        client: session.peer_certificates().is_some(),
                    });
                    let mut plain = TcpStream::connect(server).await.unwrap();
                    let _ = copy_bidirectional(&mut tls, &mut plain).await;
                });
            }
        });
        Front { address, seen, task }
    }

    /// The handshakes so far.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client's configuration that trusts this authority and speaks these
/// application protocols.
pub fn client(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(authority.roots()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Takes plain connections and carries them on in TLS to `localhost` at this
/// address. Where the handshake fails, the plain connection closes.
pub async fn relay(config: Arc<ClientConfig>, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = TlsConnector::from(Arc::clone(&config));
            tokio::spawn(async move {
                let tcp = TcpStream::connect(to).await.unwrap();
                let name = "localhost".try_into().unwrap();
                if let Ok(mut tls) = connector.connect(name, tcp).await {
                    let _ = copy_bidirectional(&mut plain, &mut tls).await;
                }
            });
        }
    });
    address
}
