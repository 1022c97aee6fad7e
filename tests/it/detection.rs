//! What a redirected connection carries is found by whoever speaks first,
//! between two ordinary sockets.

use std::io;
use std::net::Ipv4Addr;

use meshtrace::net::detect::first::{Found, between};
use meshtrace::net::detect::{Carries, Protocol};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::mesh::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A connection: the peer's end, and ours.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    peer.set_nodelay(true).unwrap();
    (peer, listener.accept().await.unwrap().0)
}

/// Both connections of a proxy, with a client and a server at their ends.
struct Between {
    client: TcpStream,
    server: TcpStream,
    found: tokio::task::JoinHandle<io::Result<Found>>,
}

impl Between {
    async fn start(names: bool) -> Between {
        let ((client, downstream), (server, upstream)) = (pair().await, pair().await);
        let found = tokio::spawn(async move { between(&downstream, &upstream, names).await });
        Between { client, server, found }
    }

    async fn found(self) -> io::Result<Found> {
        tokio::time::timeout(PATIENCE, self.found).await.expect("a decision").unwrap()
    }
}

#[tokio::test]
async fn the_client_decides_where_it_speaks_first() {
    let cases: [(&[u8], Carries); 4] = [
        (b"GET / HTTP/1.1\r\n", Carries::Http(Protocol::Http1)),
        (PREFACE, Carries::Http(Protocol::Http2)),
        (&[0x16, 3, 1, 0, 5, 1], Carries::Tls),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Carries::Other),
    ];
    for (bytes, carries) in cases {
        let mut talk = Between::start(false).await;
        talk.client.write_all(bytes).await.unwrap();
        let found = talk.found().await.unwrap();
        assert_eq!(
            (found.carries, &found.from_client[..], &found.from_server[..]),
            (carries, bytes, &b""[..])
        );
    }
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    for (bytes, carries) in [(&b"POST /x HTTP/1.1\r\n"[..], Protocol::Http1), (PREFACE, Protocol::Http2)] {
        let mut talk = Between::start(false).await;
        for byte in bytes {
            talk.client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let found = talk.found().await.unwrap();
        assert_eq!((found.carries, &found.from_client[..]), (Carries::Http(carries), bytes));
    }
}

#[tokio::test]
async fn the_server_decides_where_it_speaks_first() {
    let mut talk = Between::start(false).await;
    talk.server.write_all(b"220 mail ESMTP\r\n").await.unwrap();
    let found = talk.found().await.unwrap();
    assert_eq!((found.carries, &found.from_server[..]), (Carries::Other, &b"220 mail ESMTP\r\n"[..]));
}

#[tokio::test]
async fn the_greeting_of_an_http2_server_decides_nothing() {
    let mut talk = Between::start(false).await;
    talk.server.write_all(SETTINGS).await.unwrap();
    // Nothing tells when it was read, and either order has to come out the same.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    talk.client.write_all(PREFACE).await.unwrap();
    let found = talk.found().await.unwrap();
    assert_eq!(found.carries, Carries::Http(Protocol::Http2));
    assert_eq!((&found.from_client[..], &found.from_server[..]), (PREFACE, SETTINGS));
}

#[tokio::test]
async fn half_a_line_is_not_waited_for() {
    let mut talk = Between::start(false).await;
    talk.client.write_all(b"GET").await.unwrap();
    let found = talk.found().await.unwrap();
    assert_eq!((found.carries, &found.from_client[..]), (Carries::Other, &b"GET"[..]));
}

#[tokio::test]
async fn an_end_decides_and_a_reset_is_an_error() {
    let mut talk = Between::start(false).await;
    talk.client.shutdown().await.unwrap();
    assert_eq!(talk.found().await.unwrap().carries, Carries::Other);
    let mut talk = Between::start(false).await;
    talk.server.shutdown().await.unwrap();
    assert_eq!(talk.found().await.unwrap().carries, Carries::Other);
    for of_client in [true, false] {
        let Between { client, server, found } = Between::start(false).await;
        let (broken, _kept) = if of_client { (client, server) } else { (server, client) };
        SockRef::from(&broken).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(broken);
        assert!(tokio::time::timeout(PATIENCE, found).await.unwrap().unwrap().is_err());
    }
}
