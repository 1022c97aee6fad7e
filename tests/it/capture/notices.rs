//! Two pods whose traffic is captured tell each other of a kept trace: what
//! one of them learns when the head of the answer has long left reaches the
//! other as a packet, past the rules of both; also where the called pod sees
//! another address than that of the caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use super::neighbour::{ISTIO_NFTABLES, Neighbour};
use super::net::{AGENT, FAMILIES, ISTIO, Net, PEER, POD};
use super::sidecar::{Collector, call};
use crate::support::mesh::Scratch;
use crate::support::raw::field;

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

/// What stands between the two pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// A node that puts its own address in the place of the caller's, and takes packets for nobody.
    Translation,
    /// The proxy of a mesh in the called pod, which dials from an address of the loopback interface. Tried with IPv4.
    Mesh,
}

/// The addresses that take the place of the caller's are of nobody.
const TRANSLATION: &str = "table inet translation {
    chain post { type nat hook postrouting priority 100;
        ip saddr 10.77.0.2 tcp dport 9090 snat ip to 10.77.0.99;
        ip6 saddr fd77::2 tcp dport 9090 snat ip6 to fd77::99; }
}";
const BACK: [&str; 2] = ["route add 10.77.0.99/32 via 10.77.0.2", "route add fd77::99/128 via fd77::2"];

impl Between {
    fn install(self, caller: &Net, called: &Net) -> Option<()> {
        match self {
            Between::Nothing => Some(()),
            Between::Translation => {
                for line in BACK {
                    let done = called.pod(|| Command::new("ip").args(line.split(' ')).status());
                    assert!(done.unwrap().success(), "{line}");
                }
                caller.nft(true, TRANSLATION)
            }
            Between::Mesh => {
                if !ISTIO_NFTABLES.install(called) {
                    return None;
                }
                // Its threads go with the process of the tests.
                Neighbour::start(called, &ISTIO_NFTABLES);
                Some(())
            }
        }
    }
}

#[test]
fn a_late_failure_is_told_between_captured_pods() {
    told_between(Between::Nothing);
}

#[test]
fn a_late_failure_is_told_past_address_translation() {
    told_between(Between::Translation);
}

#[test]
fn a_late_failure_is_told_past_the_proxy_of_a_mesh() {
    told_between(Between::Mesh);
}

fn told_between(between: Between) {
    let families: &[usize] = if between == Between::Mesh { &FAMILIES[..1] } else { &FAMILIES };
    for (of_caller, of_called) in [(HOLDS, SEES), (SEES, HOLDS)] {
        let Some(caller) = Net::new() else { return };
        let Some(()) = caller.nft(true, NODE) else { return };
        let called = caller.turned();
        let Some(()) = between.install(&caller, &called) else { return };
        let start = |net: &Net, yaml| {
            net.install(&format!("--mesh-uid {ISTIO}"));
            let (config, collector) = (Scratch::new(yaml), Collector::start(net));
            let sidecar = collector.sidecar(net, &format!("--config {}", config.0.display()));
            (collector, sidecar, config)
        };
        let (at_caller, at_called) = (start(&caller, of_caller), start(&called, of_called));
        let ways =
            families.iter().map(|family| [(*family, PEER[*family], 9090), (*family, SERVICES[*family], 80)]);
        for (number, (family, to, port)) in ways.flatten().enumerate() {
            let server = called.serve_in_pod((PEER[family], 9090));
            let mut client = caller.pod_connects(AGENT, (to, port)).unwrap();
            client.send(call("weather.example", ""));
            let mut inside = server.accept();
            let head = inside.head();
            assert!(field(&head, "traceparent").unwrap().ends_with("-02"), "nobody samples it");
            let length = field(&head, "content-length").unwrap().parse().unwrap();
            let body = String::from_utf8(inside.take(length)).unwrap();
            let seen = format!("{} {body}", field(&head, "tracestate").unwrap());
            assert!(seen.contains("mt=") && !seen.contains(';'), "the mark is for sidecars: {seen}");
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
                    if span.kind == "SERVER" {
                        let from = span.attribute("client.address").as_str().unwrap().to_owned();
                        let own = POD.iter().any(|own| own.to_string() == from);
                        assert_eq!(own, between == Between::Nothing, "{between:?}: {from}");
                    }
                    assert_eq!(span.attribute("meshtrace.sampling.reason"), why, "{to}: {span:#?}");
                }
            }
        }
    }
}
