//! Heads: fields, their case and order, targets, reasons.

use crate::support::raw::{ALL, Direction, FIXED, Mesh, field, without_trace};

/// Sends a request head without a body and gives what the upstream got.
fn through(mesh: &Mesh, head: &str) -> String {
    let mut client = mesh.connect();
    client.send(head);
    let mut server = mesh.accept();
    let got = server.head();
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.head();
    got
}

#[test]
fn a_request_head_keeps_case_order_host_and_origin() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let head = format!(
            "GET /a//b/../c?x=%2F&y=[z]|~ HTTP/1.1\r\nuser-AGENT: Odd/1.0 (x; y)\r\nHOST: {}\r\n\
             X-Many: 1\r\nX-Many: 2\r\nx-empty: \r\norigin: https://Example.COM\r\n\
             Cookie: a=b; c=\"d\"\r\nCookie: e=f\r\nX-Text: caf\u{e9} \"\\ \t;,=\r\n\
             accept-ENCODING: gzip, br\r\nAccept: */*\r\nTE: trailers\r\nReferer: x\r\n\r\n",
            mesh.host()
        );
        let got = through(&mesh, &head);
        assert_eq!(without_trace(&got), head, "{direction:?}");
        assert!(field(&got, "traceparent").is_some(), "{direction:?}: {got}");
    }
}

#[test]
fn values_of_one_name_keep_their_order_when_others_stand_between() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let host = mesh.host();
        let got = through(
            &mesh,
            &format!("GET / HTTP/1.1\r\nA: 1\r\nHost: {host}\r\nB: 2\r\nA: 3\r\nC: 4\r\na: 5\r\n\r\n"),
        );
        let wanted =
            format!("GET / HTTP/1.1\r\nA: 1\r\nA: 3\r\na: 5\r\nHost: {host}\r\nB: 2\r\nC: 4\r\n\r\n");
        assert_eq!(without_trace(&got), wanted, "{direction:?}");
    }
}

#[test]
fn a_response_head_keeps_everything_and_gets_nothing() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        let mut server = mesh.accept();
        server.head();
        let response = "HTTP/1.1 200 Fine by me\r\nsErVeR: x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                        X-EMPTY: \r\ncontent-length: 2\r\nwww-authenticate: A\r\nETag: W/\"x\"\r\n\
                        traceparent: not ours\r\n\r\nok";
        server.send(response);
        client.expect(response);
        client.is_quiet();
    }
}

#[test]
fn reasons_and_unusual_statuses_stay() {
    let mesh = Mesh::start(Direction::Inbound);
    let (mut client, mut server) = mesh.pair();
    for line in ["404 Gone Fishing", "299 ", "599 Odd", "799 Odder", "200 ok", "418 I'm a teapot"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        let response = format!("HTTP/1.1 {line}\r\nX: y\r\nContent-Length: 1\r\n\r\nx");
        server.send(&response);
        client.expect(&response);
    }
}

#[test]
fn a_status_line_without_reason_gets_its_space() {
    let mesh = Mesh::start(Direction::Inbound);
    let (mut client, mut server) = mesh.pair();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    server.head();
    server.send("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx");
    client.expect("HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx");
}

/// httparse gives an empty text for a reason that is not ASCII.
#[test]
fn a_reason_beyond_ascii_is_left_out() {
    let mesh = Mesh::start(Direction::Inbound);
    let (mut client, mut server) = mesh.pair();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    server.head();
    server.send("HTTP/1.1 500 Caf\u{e9}\r\nContent-Length: 1\r\n\r\nx");
    client.expect("HTTP/1.1 500 \r\nContent-Length: 1\r\n\r\nx");
}

#[test]
fn a_length_of_zero_stays_where_it_stood() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: {}\r\nX: y\r\n\r\n", mesh.host()));
        assert_eq!(
            server.plain_head(),
            format!("POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: {}\r\nX: y\r\n\r\n", mesh.host())
        );
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: y\r\nZ: z\r\n\r\n";
        server.send(response);
        client.expect(response);
    }
}

#[test]
fn trace_fields_are_replaced_where_they_stood() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let host = mesh.host();
        let got = through(
            &mesh,
            &format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nTraceParent: {parent}\r\nX: 1\r\nTraceState: a=b\r\nY: 2\r\n\r\n"
            ),
        );
        let names: Vec<_> = got.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
        assert_eq!(names[..5], ["Host", "TraceParent", "X", "TraceState", "Y"], "{direction:?}");
        let ours = field(&got, "traceparent").unwrap();
        assert!(ours.starts_with(&parent[..36]) && ours != parent, "{direction:?}: {ours}");
        let state = field(&got, "tracestate").unwrap();
        assert!(state.starts_with("mt=") && state.ends_with(",a=b"), "{direction:?}: {state}");
    }
}

#[test]
fn fields_that_connection_names_stay_behind_and_the_rest_keeps_its_order() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let host = mesh.host();
        let got = through(
            &mesh,
            &format!(
                "GET / HTTP/1.1\r\nX-A: 1\r\nhost: {host}\r\nx-hop: 1\r\nCONNECTION: keep-alive, X-Hop\r\nX-B: 2\r\nX-HOP: 2\r\nX-c: 3\r\n\r\n"
            ),
        );
        let wanted = format!(
            "GET / HTTP/1.1\r\nX-A: 1\r\nhost: {host}\r\nCONNECTION: keep-alive\r\nX-B: 2\r\nX-c: 3\r\n\r\n"
        );
        assert_eq!(without_trace(&got), wanted, "{direction:?}");
    }
}

#[test]
fn fields_that_a_response_connection_names_stay_behind() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        server.send("HTTP/1.1 200 OK\r\nX-A: 1\r\nx-hop: 1\r\nConnection: keep-alive, X-Hop\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok");
        client.expect(
            "HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: keep-alive\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok",
        );
    }
}

#[test]
fn a_target_for_all_passes() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let head = format!("OPTIONS * HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host());
        assert_eq!(without_trace(&through(&mesh, &head)), head, "{direction:?}");
    }
}

#[test]
fn an_absolute_target_passes_to_a_fixed_upstream_as_it_came() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let head = format!("GET http://{0}/x?y HTTP/1.1\r\nHost: {0}\r\n\r\n", mesh.host());
        let got = without_trace(&through(&mesh, &head));
        let origin = head.replacen(&format!("http://{}", mesh.host()), "", 1);
        assert!(got == head || got == origin, "{direction:?}: {got}");
    }
}

#[test]
fn an_absolute_target_becomes_an_origin_target_behind_a_forward_proxy() {
    let mesh = Mesh::start(Direction::Forward);
    let host = mesh.host();
    let got = through(
        &mesh,
        &format!(
            "GET http://user:secret@{host}/x?y=http://z HTTP/1.1\r\nX-A: 1\r\nHost: elsewhere.example\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\nX-b: 2\r\n\r\n"
        ),
    );
    let wanted = format!("GET /x?y=http://z HTTP/1.1\r\nX-A: 1\r\nHost: {host}\r\nX-b: 2\r\n\r\n");
    assert_eq!(without_trace(&got), wanted);
    let got = through(&mesh, &format!("GET http://{host} HTTP/1.1\r\nhOst: {host}\r\n\r\n"));
    assert_eq!(without_trace(&got), format!("GET / HTTP/1.1\r\nhOst: {host}\r\n\r\n"));
}

/// hyper's server has no way to send an interim answer other than its own 100.
#[test]
fn early_hints_are_left_out_and_the_answer_follows() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        server.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

/// hyper writes the values of these three names as one list.
#[test]
fn a_list_in_several_lines_of_connection_becomes_one_line() {
    let mesh = Mesh::start(Direction::Inbound);
    let (mut client, mut server) = mesh.pair();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    server.head();
    server.send(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    );
    client.expect("HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok");
    client.closes();
}

#[test]
fn requests_that_are_sent_without_waiting_keep_their_spelling() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let host = mesh.host();
        // The bodies look like heads.
        let requests = [
            format!("POST /1 HTTP/1.1\r\nHOST: {host}\r\nX-One: 1\r\nContent-LENGTH: 6\r\n\r\nA: b\r\n"),
            format!(
                "POST /2 HTTP/1.1\r\nhOst: {host}\r\nTransfer-Encoding: chunked\r\nx-TWO: 2\r\n\r\n\
                 4\r\n\r\n\r\n\r\n0\r\n\r\n"
            ),
            format!("GET /3 HTTP/1.1\r\nHost: {host}\r\nX-thRee: 3\r\n\r\n"),
        ];
        let mut client = mesh.connect();
        client.send(requests.concat());
        let mut server = mesh.accept();
        for (at, request) in requests.iter().enumerate() {
            let head = &request[..request.find("\r\n\r\n").unwrap() + 4];
            assert_eq!(without_trace(&server.head()), head, "{direction:?}");
            server.expect(&request[head.len()..]);
            let response = format!("HTTP/1.1 200 OK\r\nX-Odd-{at}: x\r\ncontent-Length: 1\r\n\r\n{at}");
            server.send(&response);
            client.expect(&response);
        }
    }
}
