//! The same promises over HTTP/2 with prior knowledge.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::support::raw::h2::{read, read_all, soon, status, write};
use crate::support::raw::{ALL, Direction, Mesh};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"other":1}}}"#;

/// Names and values in their order, without the trace fields.
fn plain(headers: &HeaderMap) -> Vec<(String, String)> {
    let ours = ["traceparent", "tracestate", "baggage"];
    let show = |v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let fields = headers.iter().filter(|(name, _)| !ours.contains(&name.as_str()));
    fields.map(|(name, value)| (name.to_string(), show(value))).collect()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn heads_pass_as_they_came() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let fields = [
            ("user-agent", "odd"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("origin", "https://Example.COM"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("te", "trailers"),
            ("x-empty", ""),
            ("accept", "*/*"),
        ];
        let mut request = mesh.request("GET", "/a//b?x=%2F&y=[z]");
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let (response, _) = client.send(request, true).await;
        let mut server = mesh.accept_h2().await;
        let (request, mut answer) = server.stream().await;
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri().to_string(), format!("http://{}/a//b?x=%2F&y=[z]", mesh.host()));
        assert!(request.headers().contains_key("traceparent"), "{direction:?}");
        assert!(request.body().is_end_stream(), "{direction:?}");
        assert_eq!(plain(request.headers()), pairs(&fields), "{direction:?}");
        let fields = [
            ("server", "x"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("traceparent", "theirs"),
            ("x-empty", ""),
        ];
        let mut head = status(299);
        for (name, value) in fields {
            head = head.header(name, value);
        }
        let mut body = answer.send_response(head.body(()).unwrap(), false).unwrap();
        write(&mut body, "ok", true).await;
        let response = soon("the response", response).await.unwrap();
        assert_eq!(response.status().as_u16(), 299);
        let got: Vec<_> = response.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(got, fields, "{direction:?}: and no date, no length");
        assert_eq!(read_all(response.into_body()).await.unwrap().0, b"ok");
    }
}

#[tokio::test]
async fn messages_without_a_body_end_with_their_head() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let mut server = None;
        let cases = [
            ("HEAD", 200, Some("1234")),
            ("HEAD", 200, None),
            ("GET", 204, None),
            ("GET", 304, Some("7")),
            ("DELETE", 200, Some("0")),
            ("POST", 202, None),
        ];
        for (method, code, length) in cases {
            let (response, _) = client.send(mesh.request(method, "/"), true).await;
            if server.is_none() {
                server = Some(mesh.accept_h2().await);
            }
            let (request, mut answer) = server.as_mut().unwrap().stream().await;
            assert!(request.body().is_end_stream(), "{direction:?} {method}");
            assert_eq!(plain(request.headers()), [], "{direction:?} {method}: nothing was there, nothing is");
            let mut head = status(code);
            if let Some(length) = length {
                head = head.header("content-length", length);
            }
            answer.send_response(head.body(()).unwrap(), true).unwrap();
            let response = soon("the response", response).await.unwrap();
            assert_eq!(
                response.headers().get("content-length").map(|v| v.to_str().unwrap()),
                length,
                "{method} {code}"
            );
            assert!(response.body().is_end_stream(), "{direction:?} {method}");
        }
    }
}

#[tokio::test]
async fn both_directions_flow_at_once_and_trailers_follow() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, mut up) = client.send(mesh.request("POST", "/"), false).await;
        let mut server = mesh.accept_h2().await;
        let (request, mut answer) = server.stream().await;
        let mut got = request.into_body();
        let mut down = answer.send_response(status(200).body(()).unwrap(), false).unwrap();
        let mut body = soon("the head", response).await.unwrap().into_body();
        for turn in 0..20_u8 {
            write(&mut up, vec![turn; 3], false).await;
            assert_eq!(read(&mut got, 3).await, [turn; 3], "{direction:?}");
            write(&mut down, vec![turn; 5], false).await;
            assert_eq!(read(&mut body, 5).await, [turn; 5], "{direction:?}");
        }
        let trailers =
            |value: &str| HeaderMap::from_iter([("x-sum".parse().unwrap(), value.parse().unwrap())]);
        up.send_trailers(trailers("up")).unwrap();
        assert_eq!(read_all(got).await.unwrap(), (Vec::new(), Some(trailers("up"))), "{direction:?}");
        down.send_trailers(trailers("down")).unwrap();
        assert_eq!(read_all(body).await.unwrap(), (Vec::new(), Some(trailers("down"))), "{direction:?}");
    }
}

#[tokio::test]
async fn a_call_is_spliced_and_its_length_is_right() {
    for direction in ALL {
        for with_length in [true, false] {
            let mesh = Mesh::start(direction);
            let mut client = mesh.connect_h2().await;
            let mut head = mesh.request("POST", "/mcp").header("content-type", "application/json");
            if with_length {
                head = head.header("content-length", CALL.len());
            }
            let (_response, mut up) = client.send(head, false).await;
            write(&mut up, CALL, true).await;
            let mut server = mesh.accept_h2().await;
            let (request, _answer) = server.stream().await;
            let length = request.headers().get("content-length").map(|v| v.to_str().unwrap().to_owned());
            let (body, _) = read_all(request.into_body()).await.unwrap();
            assert!(body.len() > CALL.len() && body.ends_with(br#""other":1}}}"#), "{direction:?}");
            assert_eq!(length, with_length.then(|| body.len().to_string()), "{direction:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_pauses_streams_through() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let head = mesh.request("POST", "/mcp").header("content-type", "application/json");
        let (_response, mut up) = client.send(head, false).await;
        write(&mut up, &CALL[..20], false).await;
        let mut server = mesh.accept_h2().await;
        let (request, _answer) = server.stream().await;
        let mut got = request.into_body();
        assert_eq!(read(&mut got, 20).await, &CALL.as_bytes()[..20], "{direction:?}");
        write(&mut up, &CALL[20..], true).await;
        assert_eq!(read_all(got).await.unwrap().0, &CALL.as_bytes()[20..]);
    }
}

/// hyper's server cannot send the interim answer over HTTP/2, so a client that
/// waits for it goes on by its own clock, as RFC 9110, 10.1.1 has it.
#[tokio::test]
async fn an_expectation_passes_and_the_body_follows() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let head = mesh.request("PUT", "/").header("expect", "100-continue");
        let (response, mut up) = client.send(head, false).await;
        let mut server = mesh.accept_h2().await;
        let (request, mut answer) = server.stream().await;
        assert_eq!(request.headers()["expect"], "100-continue", "{direction:?}");
        answer.send_informational(http::Response::builder().status(100).body(()).unwrap()).unwrap();
        write(&mut up, "hello", true).await;
        assert_eq!(read_all(request.into_body()).await.unwrap().0, b"hello", "{direction:?}");
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        assert_eq!(soon("the response", response).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_answer_may_end_before_its_request() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, mut up) = client.send(mesh.request("POST", "/"), false).await;
        write(&mut up, "abc", false).await;
        let mut server = mesh.accept_h2().await;
        let (request, mut answer) = server.stream().await;
        let mut got = request.into_body();
        read(&mut got, 3).await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        let response = soon("the response", response).await.unwrap();
        assert!(read_all(response.into_body()).await.unwrap().0.is_empty());
        write(&mut up, "def", true).await;
        assert_eq!(read_all(got).await.unwrap().0, b"def", "{direction:?}");
    }
}

#[tokio::test]
async fn a_large_body_waits_for_whoever_reads_it() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, mut up) = client.send(mesh.request("POST", "/"), false).await;
        let mut server = mesh.accept_h2().await;
        let (request, mut answer) = server.stream().await;
        let mut down = answer.send_response(status(200).body(()).unwrap(), false).unwrap();
        let body = soon("the head", response).await.unwrap().into_body();
        let part = Bytes::from(vec![7; 4 * 1024 * 1024]);
        write(&mut up, part.clone(), true).await;
        write(&mut down, part.clone(), true).await;
        let (got, back) = tokio::join!(read_all(request.into_body()), read_all(body));
        assert!(got.unwrap().0 == part && back.unwrap().0 == part, "{direction:?}");
    }
}

#[tokio::test]
async fn a_forward_proxy_opens_a_tunnel_in_a_stream() {
    let mesh = Mesh::start(Direction::Forward);
    let mut client = mesh.connect_h2().await;
    let request = http::Request::builder().method("CONNECT").uri(mesh.host());
    let (response, mut up) = client.send(request, false).await;
    let response = soon("the tunnel", response).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let mut server = mesh.accept();
    write(&mut up, "\0ping", false).await;
    let mut server = tokio::task::spawn_blocking(move || {
        server.expect("\0ping");
        server.send("\0pong");
        server
    })
    .await
    .unwrap();
    assert_eq!(read(&mut body, 5).await, b"\0pong");
    write(&mut up, "", true).await;
    tokio::task::spawn_blocking(move || server.closes()).await.unwrap();
}

#[tokio::test]
async fn each_side_speaks_the_version_of_the_client() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        soon("the response", response).await.unwrap();
        let old = tokio::task::spawn_blocking(move || {
            mesh.pair();
        });
        old.await.unwrap();
    }
}
