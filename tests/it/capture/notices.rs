//! Two pods whose traffic is captured tell each other of a kept trace: what
//! one of them learns when the head of the answer has long left reaches the
//! other as a packet, past the rules of both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::{AGENT, FAMILIES, Net, PEER};
use super::sidecar::{Collector, asked, call};
use crate::support::mesh::Scratch;

/// Nothing is sampled; one side takes a failure for a reason to keep, and the
/// other holds its span and learns it from nobody but its neighbour.
const SEES: &str = "sampling: { rules: [{ sample: 0% }], keep: { errors: true } }";
const HOLDS: &str = "sampling: { rules: [{ sample: 0% }], keep: { slower_than: 1h } }";

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nconnection: close\r\n\r\n";
const FAILED: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[],\"isError\":true}}\n\n";

/// Addresses of a service, in the place of which the node of the caller puts that of the called pod.
const SERVICES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 1))];
const NODE: &str = "table inet node {
    chain out { type nat hook output priority -100;
        ip daddr 10.96.0.1 tcp dport 80 dnat ip to 10.77.0.1:9090;
        ip6 daddr fd96::1 tcp dport 80 dnat ip6 to [fd77::1]:9090; }
}";

#[test]
fn a_late_failure_is_told_between_captured_pods() {
    for (of_caller, of_called) in [(HOLDS, SEES), (SEES, HOLDS)] {
        let Some(caller) = Net::new() else { return };
        let Some(()) = caller.nft(true, NODE) else { return };
        let called = caller.turned();
        let start = |net: &Net, yaml| {
            net.install("");
            let (config, collector) = (Scratch::new(yaml), Collector::start(net));
            let sidecar = collector.sidecar(net, &format!("--config {}", config.0.display()));
            (collector, sidecar, config)
        };
        let (at_caller, at_called) = (start(&caller, of_caller), start(&called, of_called));
        let ways = FAMILIES.map(|family| [(family, PEER[family], 9090), (family, SERVICES[family], 80)]);
        for (number, (family, to, port)) in ways.into_iter().flatten().enumerate() {
            let server = called.serve_in_pod((PEER[family], 9090));
            let mut client = caller.pod_connects(AGENT, (to, port)).unwrap();
            client.send(call("weather.example", ""));
            let mut inside = server.accept();
            assert!(asked(&mut inside).unwrap().ends_with("-02"), "nobody samples it");
            inside.send(HEAD);
            assert!(!client.head().contains("meshtrace"), "what sidecars say stays between them");
            inside.send(FAILED);
            drop(inside);
            let _ = client.end();
            for (side, yaml) in [(&at_caller, of_caller), (&at_called, of_called)] {
                let spans = side.0.spans(number + 1);
                assert_eq!(spans.len(), number + 1);
                let why = if yaml == SEES { "error" } else { "trace" };
                for span in spans {
                    assert_eq!(span.attribute("meshtrace.sampling.reason"), why, "{to}: {span:#?}");
                }
            }
        }
    }
}
