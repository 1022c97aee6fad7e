//! The same over HTTP/2.

use std::sync::Arc;

use h2::Reason;
use http::Response;

use super::{refusing, towards};
use crate::support::raw::h2::{read_all, soon, status};
use crate::support::raw::{ALL, Direction, Mesh, frames};

/// Checks the proxy's own answer.
async fn failure(response: Response<h2::RecvStream>, status: u16, word: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let line = String::from_utf8(read_all(response.into_body()).await.unwrap().0).unwrap();
    assert!(
        line.starts_with("meshtrace: upstream ") && line.lines().count() == 1 && line.contains(word),
        "{line}"
    );
}

#[tokio::test]
async fn a_refused_connection_is_503() {
    for direction in ALL {
        let (_kept, at) = refusing();
        let mesh = towards(direction, &at.to_string(), "");
        let mut client = mesh.connect_h2().await;
        let request = http::Request::builder().uri(format!("http://{at}/"));
        let (response, _) = client.send(request, true).await;
        failure(soon("the answer", response).await.unwrap(), 503, "refused").await;
    }
}

#[tokio::test]
async fn silence_is_504() {
    for direction in ALL {
        let mesh = Mesh::with(direction, "limits: { response_timeout: 10ms }");
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_request, mut answer) = server.stream().await;
        failure(soon("the answer", response).await.unwrap(), 504, "no response within").await;
        soon("the reset", std::future::poll_fn(|cx| answer.poll_reset(cx))).await.unwrap();
    }
}

#[tokio::test]
async fn a_close_before_the_head_is_502() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let stream = server.stream().await;
        server.leave();
        drop(stream);
        failure(soon("the answer", response).await.unwrap(), 502, "").await;
    }
}

/// A stream that the server resets is one that it does not answer: the
/// client hears the same, or that the upstream reset it.
#[tokio::test]
async fn a_reset_before_the_head_is_passed_on_or_502() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let mut server = None;
        for _ in 0..2 {
            let (response, _) = client.send(mesh.request("GET", "/"), true).await;
            if server.is_none() {
                server = Some(mesh.accept_h2().await);
            }
            let (_request, mut answer) = server.as_mut().unwrap().stream().await;
            answer.send_reset(Reason::INTERNAL_ERROR);
            match soon("the answer", response).await {
                Ok(response) => failure(response, 502, "reset").await,
                Err(error) => assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{direction:?}"),
            }
        }
        // The connection serves on.
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let (_, mut answer) = server.as_mut().unwrap().stream().await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        assert_eq!(soon("the answer", response).await.unwrap().status(), 200);
    }
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;

#[tokio::test]
async fn what_the_server_did_not_handle_is_sent_once_more_on_a_new_connection() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let request = mesh.request("POST", "/").header("content-type", "application/json");
        let (response, mut sending) = client.send(request, false).await;
        sending.send_data(CALL.into(), true).unwrap();
        let mut first = mesh.accept_h2().await;
        let (_request, mut answer) = first.stream().await;
        answer.send_reset(Reason::REFUSED_STREAM);
        let mut second = mesh.accept_h2().await;
        let (request, mut answer) = second.stream().await;
        let body = read_all(request.into_body()).await.unwrap().0;
        assert!(String::from_utf8(body).unwrap().contains("tools/call"), "{direction:?}");
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        assert_eq!(soon("the answer", response).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_twice_or_has_partly_gone_is_502() {
    let mesh = Mesh::start(Direction::Inbound);
    let mut client = mesh.connect_h2().await;
    let (response, _) = client.send(mesh.request("GET", "/"), true).await;
    for _ in 0..2 {
        let mut server = mesh.accept_h2().await;
        let (_request, mut answer) = server.stream().await;
        answer.send_reset(Reason::REFUSED_STREAM);
        // The reset leaves before the connection does.
        soon("the reset", std::future::poll_fn(|cx| answer.poll_reset(cx))).await.unwrap();
    }
    failure(soon("the answer", response).await.unwrap(), 502, "reset").await;
    // The first client is told to leave with its upstream.
    let mut client = mesh.connect_h2().await;
    let (response, mut sending) = client.send(mesh.request("PUT", "/"), false).await;
    sending.send_data("a".into(), false).unwrap();
    let mut server = mesh.accept_h2().await;
    let (_request, mut answer) = server.stream().await;
    answer.send_reset(Reason::REFUSED_STREAM);
    failure(soon("the answer", response).await.unwrap(), 502, "reset").await;
}

#[tokio::test]
async fn a_server_that_leaves_before_a_stream_is_dialled_anew() {
    let mesh = Arc::new(Mesh::start(Direction::Inbound));
    let mut client = mesh.connect_h2().await;
    let (response, _) = client.send(mesh.request("GET", "/"), true).await;
    let beside = Arc::clone(&mesh);
    let server = tokio::task::spawn_blocking(move || {
        let mut server = beside.accept();
        server.take(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len());
        server.send(frames::frame(frames::SETTINGS, 0, 0, &[]));
        server.frame_of(|frame| frame.kind == frames::HEADERS);
        // The last stream that it handled is none, and there was no error.
        server.send(frames::frame(frames::GOAWAY, 0, 0, &[0; 8]));
        server
    });
    let _leaving = server.await.unwrap();
    let mut second = mesh.accept_h2().await;
    let (_, mut answer) = second.stream().await;
    answer.send_response(status(200).body(()).unwrap(), true).unwrap();
    assert_eq!(soon("the answer", response).await.unwrap().status(), 200);
}

/// An upstream that only speaks HTTP/1 answers the preface with a 400, or
/// with nothing that HTTP/2 knows.
#[tokio::test]
async fn an_upstream_without_http2_is_502() {
    for direction in ALL {
        let mesh = Arc::new(Mesh::start(direction));
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let beside = Arc::clone(&mesh);
        let server = tokio::task::spawn_blocking(move || {
            let mut server = beside.accept();
            server.take(frames::HELLO.len());
            server.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            server
        });
        let _server = server.await.unwrap();
        failure(soon("the answer", response).await.unwrap(), 502, "").await;
    }
}

#[tokio::test]
async fn an_upstream_that_closes_between_two_exchanges_is_dialled_anew() {
    let mesh = Mesh::start(Direction::Forward);
    let mut client = mesh.connect_h2().await;
    for _ in 0..2 {
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        soon("the answer", response).await.unwrap();
        server.leave();
        // The sidecar learns of it in its own time.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
