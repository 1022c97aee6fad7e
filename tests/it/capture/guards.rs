//! Redirected connections that are not passed on: each ends as it would have
//! ended without the sidecar, in a reset, and nothing goes round.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::{AGENT, FAMILIES, Net, PEER, POD};
use super::sidecar::{Sidecar, call, exchange};
use crate::support::raw::{End, Raw, field};

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The connection is reset before a byte of an answer comes.
#[track_caller]
fn is_reset(client: std::io::Result<Raw>) {
    // So early that the client may not even have heard of its success.
    let Ok(mut client) = client else { return };
    assert_eq!(client.end(), End::Reset(Vec::new()));
}

/// A counter of the sidecar with this label.
fn counted(net: &Net, reason: &str) -> u64 {
    let mut admin = net.pod_connects(AGENT, (LOOPBACK[0], 14020)).unwrap();
    admin.send("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = admin.head();
    let body = admin.take(field(&head, "content-length").unwrap().parse().unwrap());
    let text = String::from_utf8(body).unwrap();
    let name = format!("meshtrace_redirected_refused_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

#[test]
fn who_connects_to_our_ports_is_refused() {
    let Some(net) = Net::new() else { return };
    net.install("--capture-loopback-ports 8080");
    let sidecar = Sidecar::start(&net, "");
    let mut tries = 0;
    for family in FAMILIES {
        is_reset(net.peer_connects((POD[family], 14006)));
        is_reset(net.pod_connects(AGENT, (LOOPBACK[family], 14001)));
        is_reset(net.pod_connects(AGENT, (LOOPBACK[family], 14006)));
        is_reset(net.pod_connects(AGENT, (POD[family], 14006)));
        tries += 4;
        assert!(net.peer_connects((POD[family], 14001)).is_err(), "it listens on loopback alone");
    }
    assert_eq!(counted(&net, "not_redirected"), tries);
    let said = sidecar.said();
    assert_eq!(said.matches("that was not redirected").count(), 2, "once for each port: {said}");
    assert!(said.contains("port=14006") && said.contains("port=14001"), "{said}");
}

#[test]
fn without_rules_nothing_is_passed_on() {
    let Some(net) = Net::new() else { return };
    let _sidecar = Sidecar::start(&net, "");
    for family in FAMILIES {
        is_reset(net.peer_connects((POD[family], 14006)));
        is_reset(net.pod_connects(AGENT, (LOOPBACK[family], 14001)));
    }
    assert_eq!(counted(&net, "not_redirected"), 4);
}

#[test]
fn a_closed_port_resets() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    for family in FAMILIES {
        is_reset(net.peer_connects((POD[family], 8080)));
        is_reset(net.pod_connects(AGENT, (PEER[family], 9090)));
    }
    assert_eq!(counted(&net, "unreached"), 4);
}

#[test]
fn a_port_of_the_loopback_interface_stays_there() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    for family in FAMILIES {
        let private = net.serve_in_pod((LOOPBACK[family], 8080));
        is_reset(net.peer_connects((POD[family], 8080)));
        assert!(private.try_accept().is_none());
    }
}

#[test]
fn another_pods_server_at_a_port_of_ours_is_reached() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    for family in FAMILIES {
        let far = net.serve_in_peer((PEER[family], 14006));
        let mut client = net.pod_connects(AGENT, (PEER[family], 14006)).unwrap();
        client.send(call("a", ""));
        assert!(exchange(&mut client, &mut far.accept()));
    }
}

#[test]
fn a_sidecar_of_the_wrong_user_notices_that_it_meets_itself() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let sidecar = Sidecar::run(&net, Some(15000), "proxy --redirected --workers 2", &[]);
    assert!(sidecar.said().contains("running as user 15000"), "{}", sidecar.said());
    for family in FAMILIES {
        let far = net.serve_in_peer((PEER[family], 9090));
        for _ in 0..20 {
            is_reset(net.pod_connects(AGENT, (PEER[family], 9090)));
        }
        // One that has spoken is not answered either.
        match net.pod_connects(AGENT, (PEER[family], 9090)) {
            Ok(mut client) => {
                if client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
                    client.is_gone();
                }
            }
            // The reset can be there before the connection is handed over.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        assert!(far.try_accept().is_none(), "nothing gets out");
    }
    sidecar.says("was redirected to itself");
    assert_eq!(sidecar.said().matches("was redirected to itself").count(), 1);
    let loops = counted(&net, "loop");
    assert!((42..420).contains(&loops), "{loops} for 42 connections");
}
