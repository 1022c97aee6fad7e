//! The same over HTTP/2, where a connection carries many exchanges.

use h2::Reason;

use crate::support::raw::h2::{read, read_all, soon, status, write};
use crate::support::raw::{ALL, FIXED, Mesh};

#[tokio::test]
async fn streams_that_begin_together_share_one_upstream_connection() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let mut responses = Vec::new();
        for turn in 0..50 {
            responses.push(client.send(mesh.request("GET", &format!("/{turn}")), true).await.0);
        }
        let mut server = mesh.accept_h2().await;
        let mut paths = Vec::new();
        for _ in 0..50 {
            let (request, mut answer) = server.stream().await;
            let head = status(200).header("x-path", request.uri().path());
            answer.send_response(head.body(()).unwrap(), true).unwrap();
            paths.push(request.uri().path().to_owned());
        }
        for (turn, response) in responses.into_iter().enumerate() {
            let response = soon("the response", response).await.unwrap();
            assert_eq!(response.headers()["x-path"], format!("/{turn}"), "{direction:?}");
        }
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[tokio::test]
async fn a_stream_that_waits_does_not_hold_up_another() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (slow, mut up) = client.send(mesh.request("POST", "/slow"), false).await;
        let mut server = mesh.accept_h2().await;
        let (_slow_request, mut slow_answer) = server.stream().await;
        for _ in 0..5 {
            let (quick, _) = client.send(mesh.request("GET", "/quick"), true).await;
            let (_, mut answer) = server.stream().await;
            answer.send_response(status(200).body(()).unwrap(), true).unwrap();
            soon("the quick one", quick).await.unwrap();
        }
        slow_answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        soon("the slow one", slow).await.unwrap();
        write(&mut up, "late", true).await;
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[tokio::test]
async fn a_stream_that_the_client_resets_is_reset_upstream() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        // Before the head, and during the body of the answer.
        let (response, mut up) = client.send(mesh.request("POST", "/"), false).await;
        let mut server = mesh.accept_h2().await;
        let (_request, mut answer) = server.stream().await;
        up.send_reset(Reason::CANCEL);
        drop(response);
        soon("the reset", std::future::poll_fn(|cx| answer.poll_reset(cx))).await.unwrap();
        let (response, mut up) = client.send(mesh.request("GET", "/"), true).await;
        let (_request, mut answer) = server.stream().await;
        let mut down = answer.send_response(status(200).body(()).unwrap(), false).unwrap();
        write(&mut down, "abc", false).await;
        let mut body = soon("the head", response).await.unwrap().into_body();
        read(&mut body, 3).await;
        up.send_reset(Reason::CANCEL);
        drop(body);
        soon("the reset", std::future::poll_fn(|cx| down.poll_reset(cx))).await.unwrap();
        // The connection is not the worse for it.
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let (_, mut answer) = server.stream().await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        soon("the next", response).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_felt() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (_response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_request, mut answer) = server.stream().await;
        client.leave();
        let felt = soon("the end", std::future::poll_fn(|cx| answer.poll_reset(cx))).await;
        drop((felt, answer));
        server.closed().await;
    }
}

#[tokio::test]
async fn an_idle_client_that_leaves_takes_its_upstream_connection_along() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        soon("the response", response).await.unwrap();
        client.leave();
        server.closed().await;
    }
}

#[tokio::test]
async fn an_idle_upstream_that_closes_closes_the_client_of_a_fixed_route() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        answer.send_response(status(200).body(()).unwrap(), true).unwrap();
        drop(soon("the response", response).await.unwrap());
        server.leave();
        let _ = client.closed().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_never_looks_whole() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        let mut down = answer.send_response(status(200).body(()).unwrap(), false).unwrap();
        write(&mut down, "abc", false).await;
        let mut body = soon("the head", response).await.unwrap().into_body();
        assert_eq!(read(&mut body, 3).await, b"abc");
        down.send_reset(Reason::ENHANCE_YOUR_CALM);
        let error = read_all(body).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{direction:?}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_leaves_during_its_answer_never_ends_it() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        let mut down = answer.send_response(status(200).body(()).unwrap(), false).unwrap();
        write(&mut down, "abc", false).await;
        let mut body = soon("the head", response).await.unwrap().into_body();
        assert_eq!(read(&mut body, 3).await, b"abc");
        server.leave();
        assert!(read_all(body).await.is_err(), "{direction:?}");
    }
}

#[tokio::test]
async fn a_client_that_resets_its_request_never_ends_it() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (_response, mut up) = client.send(mesh.request("POST", "/"), false).await;
        write(&mut up, "abc", false).await;
        let mut server = mesh.accept_h2().await;
        let (request, _answer) = server.stream().await;
        let mut got = request.into_body();
        assert_eq!(read(&mut got, 3).await, b"abc");
        up.send_reset(Reason::CANCEL);
        assert!(read_all(got).await.is_err(), "{direction:?}");
    }
}

#[tokio::test]
async fn a_stop_lets_streams_finish_and_tells_the_client() {
    for direction in ALL {
        let mut mesh = Mesh::start(direction);
        let mut client = mesh.connect_h2().await;
        let (response, _) = client.send(mesh.request("GET", "/"), true).await;
        let mut server = mesh.accept_h2().await;
        let (_, mut answer) = server.stream().await;
        let mut down = answer.send_response(status(200).body(()).unwrap(), false).unwrap();
        write(&mut down, "abc", false).await;
        let mut body = soon("the head", response).await.unwrap().into_body();
        assert_eq!(read(&mut body, 3).await, b"abc");
        let stopping = mesh.stop_beside();
        soon("the listener to refuse", async {
            while tokio::net::TcpStream::connect(mesh.address()).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
        write(&mut down, "def", true).await;
        assert_eq!(read_all(body).await.unwrap().0, b"def", "{direction:?}");
        client.closed().await.unwrap();
        tokio::task::spawn_blocking(move || stopping.join().unwrap()).await.unwrap();
    }
}
