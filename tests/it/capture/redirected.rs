//! Redirected connections that are passed on: where they go, who is seen
//! there, and what is said about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::net::{AGENT, FAMILIES, Net, PEER, POD};
use super::sidecar::{ANSWER, Collector, Sidecar, asked, call, exchange};
use crate::support::mesh::tree;

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[test]
fn a_call_through_the_pod_is_one_trace() {
    let Some(net) = Net::new() else { return };
    net.install("");
    for family in FAMILIES {
        let (pod, peer) = (POD[family], PEER[family]);
        let collector = Collector::start(&net);
        let _sidecar = collector.sidecar(&net, "");
        let (agent, far) = (net.serve_in_pod((pod, 8080)), net.serve_in_peer((peer, 9090)));

        let mut caller = net.peer_connects((pod, 8080)).unwrap();
        caller.send(call("research.example:8080", ""));
        let mut inbound = agent.accept();
        assert_eq!(inbound.socket().peer_addr().unwrap().ip(), pod, "dialled from and at the pod's address");
        let context = asked(&mut inbound).expect("the agent gets a context");

        let mut outbound = net.pod_connects(AGENT, (peer, 9090)).unwrap();
        outbound.send(call("weather.example:9090", &format!("traceparent: {context}\r\n")));
        let mut server = far.accept();
        assert_eq!(server.socket().peer_addr().unwrap().ip(), pod);
        let passed = asked(&mut server).expect("the other server gets a context");
        assert_ne!(passed, context);
        server.send(ANSWER);
        outbound.expect(ANSWER);
        inbound.send(ANSWER);
        caller.expect(ANSWER);

        let spans = collector.spans(2);
        assert_eq!(tree(&spans), ["agent SERVER tools/call add", "agent CLIENT tools/call add"]);
        let client = &spans[1];
        assert_eq!(client.attribute("server.address"), "weather.example", "as the agent calls it");
        assert_eq!(client.attribute("server.port"), 9090);
        assert_eq!(client.attribute("network.peer.address"), peer.to_string(), "where it went");
        assert_eq!(client.attribute("network.peer.port"), 9090);
        assert_eq!(spans[0].attribute("client.address"), peer.to_string());
    }
}

#[test]
fn the_way_is_the_connections_whatever_host_says() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    let (wanted, other) = (net.serve_in_peer((PEER[0], 9090)), net.serve_in_peer((PEER[0], 9091)));
    let mut client = net.pod_connects(AGENT, (PEER[0], 9090)).unwrap();
    let mut server = None;
    for host in ["10.77.0.1:9091", "nowhere.invalid", "127.0.0.1:14001"] {
        client.send(call(host, ""));
        let server = server.get_or_insert_with(|| wanted.accept());
        assert!(exchange(&mut client, server), "{host}");
    }
    // What a client says to a proxy of its own passes as it came.
    client.send(
        "GET http://10.77.0.1:9091/x HTTP/1.1\r\nHost: 10.77.0.1:9091\r\nProxy-Authorization: a\r\n\r\n",
    );
    let server = server.as_mut().unwrap();
    let head = server.plain_head();
    assert!(head.starts_with("GET http://10.77.0.1:9091/x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: a\r\n"), "{head}");
    assert!(wanted.try_accept().is_none() && other.try_accept().is_none(), "one connection for one");
}

#[test]
fn a_claimed_name_opens_no_border() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    // 203.0.113.0/24 is public; the peer answers for it.
    let public: IpAddr = [203, 0, 113, 7].into();
    net.peer(|| {
        let ip =
            std::process::Command::new("ip").args(["address", "add", "203.0.113.7/32", "dev", "lo"]).status();
        assert!(ip.unwrap().success());
    });
    let far = net.serve_in_peer((public, 80));
    let mut client = net.pod_connects(AGENT, (public, 80)).unwrap();
    client.send(call("weather.default.svc", ""));
    let mut server = far.accept();
    assert!(!exchange(&mut client, &mut server), "the address is public, whatever it is called");
}

#[test]
fn calls_to_oneself_come_back() {
    let Some(net) = Net::new() else { return };
    let _sidecar = {
        net.install("");
        Sidecar::start(&net, "")
    };
    for family in FAMILIES {
        for at in [POD[family], LOOPBACK[family]] {
            let server = net.serve_in_pod((at, 8080));
            let mut client = net.pod_connects(AGENT, (at, 8080)).unwrap();
            client.send(call("self", ""));
            assert!(!exchange(&mut client, &mut server.accept()), "{at}: directly");
        }
    }
    net.install("--capture-loopback-ports 8080");
    for family in FAMILIES {
        for at in [POD[family], LOOPBACK[family]] {
            let server = net.serve_in_pod((at, 8080));
            let mut client = net.pod_connects(AGENT, (at, 8080)).unwrap();
            client.send(call("self", ""));
            assert!(exchange(&mut client, &mut server.accept()), "{at}: through the sidecar");
        }
    }
}

#[test]
fn a_service_address_that_leads_back_is_traced_on_both_ways() {
    let Some(net) = Net::new() else { return };
    // The peer is the node: it hands the service's address to the pod again.
    let node = "table inet node {
        chain pre { type nat hook prerouting priority -100;
            ip daddr 10.96.0.1 tcp dport 80 dnat ip to 10.77.0.2:8080;
            ip6 daddr fd96::1 tcp dport 80 dnat ip6 to [fd77::2]:8080; }
        chain post { type nat hook postrouting priority 100;
            ip saddr 10.77.0.2 ip daddr 10.77.0.2 masquerade;
            ip6 saddr fd77::2 ip6 daddr fd77::2 masquerade; }
    }";
    let Some(()) = net.nft(false, node) else { return };
    net.peer(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    net.install("");
    let services = [IpAddr::from([10, 96, 0, 1]), IpAddr::from(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 1))];
    for family in FAMILIES {
        let collector = Collector::start(&net);
        let _sidecar = collector.sidecar(&net, "");
        let agent = net.serve_in_pod((POD[family], 8080));
        let mut client = net.pod_connects(AGENT, (services[family], 80)).unwrap();
        client.send(call("research", ""));
        assert!(exchange(&mut client, &mut agent.accept()));
        let spans = collector.spans(2);
        assert_eq!(tree(&spans), ["agent CLIENT tools/call add", "agent SERVER tools/call add"]);
        assert!(agent.try_accept().is_none(), "no loop");
    }
}

#[test]
fn without_ipv6_the_other_family_suffices() {
    let Some(net) = Net::new() else { return };
    net.pod(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")).unwrap();
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    let (agent, far) = (net.serve_in_pod((POD[0], 8080)), net.serve_in_peer((PEER[0], 9090)));
    let mut client = net.peer_connects((POD[0], 8080)).unwrap();
    client.send(call("a", ""));
    assert!(exchange(&mut client, &mut agent.accept()));
    let mut client = net.pod_connects(AGENT, (PEER[0], 9090)).unwrap();
    client.send(call("a", ""));
    assert!(exchange(&mut client, &mut far.accept()));
}

#[test]
fn a_sidecar_that_comes_back_serves_again() {
    let Some(net) = Net::new() else { return };
    net.install("");
    for family in FAMILIES {
        let far = net.serve_in_peer((PEER[family], 9090));
        let near = net.serve_in_pod((POD[family], 8080));
        let to = SocketAddr::from((PEER[family], 9090));
        let sidecar = Sidecar::start(&net, "");
        let mut client = net.pod_connects(AGENT, to).unwrap();
        client.send(call("a", ""));
        let mut server = far.accept();
        assert!(exchange(&mut client, &mut server));
        sidecar.crash();
        client.is_gone();
        server.is_gone();
        for refused in [net.pod_connects(AGENT, to), net.peer_connects((POD[family], 8080))] {
            let refused = refused.err().map(|error| error.kind());
            assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused), "nothing slips by");
        }
        let _sidecar = Sidecar::start(&net, "");
        let mut client = net.pod_connects(AGENT, to).unwrap();
        client.send(call("a", ""));
        assert!(exchange(&mut client, &mut far.accept()));
        let mut client = net.peer_connects((POD[family], 8080)).unwrap();
        client.send(call("a", ""));
        assert!(exchange(&mut client, &mut near.accept()));
    }
}
