//! Tells what a redirected connection carries, from whoever speaks first, and
//! without keeping either side waiting for the other.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::FIRST_READ;
use super::judge::{Carries, is_settings, judge};

/// What was found, and what was read to find it.
#[derive(Debug)]
pub struct Found {
    /// What the connection carries.
    pub carries: Carries,
    /// What the client has said; it has to be read again before its socket.
    pub from_client: Bytes,
    /// What the server has said.
    pub from_server: Bytes,
}

impl Found {
    /// Nothing was looked at.
    pub fn nothing() -> Self {
        Found { carries: Carries::Other, from_client: Bytes::new(), from_server: Bytes::new() }
    }
}

/// How long a first line may stay unfinished before it is passed on: what
/// waits for an answer to less than a line is no HTTP.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until one side speaks or ends. `names` says whether the server name
/// of a TLS handshake is wanted, for which all of it has to be there.
///
/// # Errors
/// When one side breaks off.
pub async fn between(client: &TcpStream, server: &TcpStream, names: bool) -> io::Result<Found> {
    let (mut said, mut held) = (BytesMut::new(), Bytes::new());
    let mut buffer = [0; FIRST_READ];
    loop {
        let ready = either(client, server);
        let speaker = if said.is_empty() {
            ready.await?
        } else {
            match tokio::time::timeout(PATIENCE, ready).await {
                Ok(speaker) => speaker?,
                Err(_) => return Ok(found(Carries::Other, said, held)),
            }
        };
        let read = match speaker {
            Side::Client => client.try_read(&mut buffer),
            Side::Server => server.try_read(&mut buffer),
        };
        let length = match read {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let data = &buffer[..length];
        match speaker {
            Side::Client => {
                said.extend_from_slice(data);
                let judged = if length == 0 { Some(Carries::Other) } else { judge(&said, names) };
                if let Some(carries) = judged {
                    return Ok(found(carries, said, held));
                }
            }
            // An HTTP/2 server may greet before it has heard the preface.
            Side::Server if held.is_empty() && said.is_empty() && is_settings(data) => {
                held = Bytes::copy_from_slice(data);
            }
            Side::Server => {
                let mut heard = BytesMut::from(&held[..]);
                heard.extend_from_slice(data);
                return Ok(found(Carries::Other, said, heard.freeze()));
            }
        }
    }
}

fn found(carries: Carries, said: BytesMut, from_server: Bytes) -> Found {
    Found { carries, from_client: said.freeze(), from_server }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

async fn either(client: &TcpStream, server: &TcpStream) -> io::Result<Side> {
    poll_fn(|cx| {
        if let Poll::Ready(ready) = client.poll_read_ready(cx) {
            return Poll::Ready(ready.map(|()| Side::Client));
        }
        server.poll_read_ready(cx).map(|ready| ready.map(|()| Side::Server))
    })
    .await
}
