//! The rules alone. While no sidecar runs, what they capture is refused and
//! what they leave alone arrives, so that each rule shows what it does.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::net::{AGENT, FAMILIES, ISTIO, Net, PEER, POD, SIDECAR, meshtrace, skip};

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether a connection of the pod is captured; a server has to listen there.
#[track_caller]
fn captured(net: &Net, uid: u32, to: (IpAddr, u16)) -> bool {
    refused(net.pod_connects(uid, to).err())
}

/// The same for one from outside.
#[track_caller]
fn captured_inbound(net: &Net, to: (IpAddr, u16)) -> bool {
    refused(net.peer_connects(to).err())
}

#[track_caller]
fn refused(error: Option<std::io::Error>) -> bool {
    match error {
        None => false,
        Some(error) if error.kind() == ErrorKind::ConnectionRefused => true,
        Some(error) => panic!("neither captured nor arrived: {error}"),
    }
}

#[test]
fn who_and_what_is_captured() {
    let Some(net) = Net::new() else { return };
    for family in FAMILIES {
        let (pod, peer) = (POD[family], PEER[family]);
        let far = [9090, 4317, 443].map(|port| net.serve_in_peer((peer, port)));
        let near = [(pod, 8080), (LOOPBACK[family], 8080), (pod, 14020)].map(|at| net.serve_in_pod(at));
        assert!(!captured(&net, AGENT, (peer, 9090)), "no rules yet");
        net.install("");
        assert!(captured(&net, AGENT, (peer, 9090)), "an agent");
        assert!(captured(&net, 0, (peer, 9090)), "root");
        assert!(!captured(&net, SIDECAR, (peer, 9090)), "the sidecar");
        assert!(!captured(&net, AGENT, (peer, 4317)), "the collector");
        assert!(!captured(&net, AGENT, (peer, 443)), "TLS, unless asked");
        assert!(!captured(&net, AGENT, (pod, 8080)), "its own address");
        assert!(!captured(&net, AGENT, (LOOPBACK[family], 8080)), "loopback");
        assert!(captured_inbound(&net, (pod, 8080)), "what comes in");
        assert!(!captured_inbound(&net, (pod, 14020)), "the admin port");
        net.install("--skip-outbound-ports none");
        assert!(captured(&net, AGENT, (peer, 443)), "TLS when asked");
        let removed = net.meshtrace("capture remove");
        assert!(removed.status.success());
        assert!(
            !captured(&net, AGENT, (peer, 9090)) && !captured_inbound(&net, (pod, 8080)),
            "no rules any more"
        );
        drop((far, near));
    }
}

#[test]
fn ports_and_networks_are_chosen() {
    let Some(net) = Net::new() else { return };
    for family in FAMILIES {
        let (pod, peer, loopback) = (POD[family], PEER[family], LOOPBACK[family]);
        let far = [9090, 9095, 9100].map(|port| net.serve_in_peer((peer, port)));
        let near = [8080, 8085, 8090].map(|port| net.serve_in_pod((pod, port)));
        let lo = [8080, 8085].map(|port| net.serve_in_pod((loopback, port)));

        net.install("--inbound-ports 8080-8089 --skip-inbound-ports 8085 --skip-outbound-ports 9091-9099");
        assert!(captured_inbound(&net, (pod, 8080)));
        assert!(!captured_inbound(&net, (pod, 8085)), "skipped");
        assert!(!captured_inbound(&net, (pod, 8090)), "not in the list");
        assert!(captured(&net, AGENT, (peer, 9090)) && captured(&net, AGENT, (peer, 9100)));
        assert!(!captured(&net, AGENT, (peer, 9095)), "in the range");

        net.install("--inbound-ports none --skip-outbound-cidrs 10.77.0.0/24,fd77::/64");
        assert!(!captured_inbound(&net, (pod, 8080)), "no port at all");
        assert!(!captured(&net, AGENT, (peer, 9090)), "a network that is skipped");
        net.install("--outbound-cidrs 10.78.0.0/16,fd78::/16");
        assert!(!captured(&net, AGENT, (peer, 9090)), "no network of ours");
        net.install(&format!("--outbound-cidrs {peer}"));
        assert!(captured(&net, AGENT, (peer, 9090)), "the one address");

        net.install("--capture-loopback-ports 8085");
        assert!(!captured(&net, AGENT, (loopback, 8080)));
        assert!(captured(&net, AGENT, (loopback, 8085)));
        assert!(captured(&net, AGENT, (pod, 8085)), "its own address goes over loopback too");
        assert!(!captured(&net, SIDECAR, (loopback, 8085)), "the sidecar");

        net.install(&format!("--mesh-uid {ISTIO}"));
        assert!(!captured(&net, ISTIO, (peer, 9090)), "what the mesh's proxy sends out");
        assert!(captured(&net, ISTIO, (pod, 8080)), "what it brings in");
        assert!(!captured(&net, ISTIO, (loopback, 8080)), "its own business");
        assert!(captured(&net, AGENT, (peer, 9090)));
        drop((far, near, lo));
    }
}

#[test]
fn datagrams_pass() {
    let Some(net) = Net::new() else { return };
    net.install("--skip-outbound-ports none");
    for family in FAMILIES {
        let server = net.peer(|| UdpSocket::bind((PEER[family], 53))).unwrap();
        let client = net.pod_as(AGENT, || UdpSocket::bind((POD[family], 0))).unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        client.send_to(b"who?", (PEER[family], 53)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"who?"[..], POD[family]));
        server.send_to(b"me", from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (2, SocketAddr::from((PEER[family], 53))));
    }
}

/// Flags that use everything there is to say.
const EVERYTHING: &str = "--inbound-ports 8080,9000-9010 --skip-inbound-ports 9005 \
    --skip-outbound-ports 4317,6000-6010 --outbound-cidrs 10.0.0.0/8,192.168.1.0/25,0.0.0.0/0,fd00::/8,::1 \
    --skip-outbound-cidrs 10.9.0.0/16,10.1.2.3,fd00:1::/33 --capture-loopback-ports 8081,8090-8099 \
    --mesh-uid 1337 --admin off";

#[test]
fn print_says_in_words_what_install_does() {
    let Some(net) = Net::new() else { return };
    let list = |in_pod: bool| {
        let list = || Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        let done = if in_pod { net.pod(list) } else { net.peer(list) };
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    for flags in ["", EVERYTHING, "--inbound-ports none --outbound-cidrs none --skip-outbound-ports none"] {
        // Twice, to be sure that it does not add up.
        for _ in 0..2 {
            net.install(flags);
            let printed = net.meshtrace(&format!("capture print {flags}"));
            assert!(printed.status.success() && printed.stderr.is_empty());
            let Some(()) = net.nft(false, &String::from_utf8(printed.stdout).unwrap()) else { return };
            assert_eq!(list(true), list(false), "{flags}");
        }
        assert!(list(true).contains("table inet meshtrace"));
    }
    for _ in 0..2 {
        assert!(net.meshtrace("capture remove").status.success());
        assert_eq!(list(true), "");
    }
}

#[test]
fn the_longest_lists_fit_into_one_transaction() {
    let Some(net) = Net::new() else { return };
    let many = |item: &str| vec![item; 64].join(",");
    let (ports, v4, v6) = (many("1000-2000"), many("10.0.0.0/9"), many("fd00::/9"));
    net.install(&format!(
        "--inbound-ports {ports} --skip-inbound-ports {ports} --skip-outbound-ports {ports} --outbound-cidrs {v4} \
         --skip-outbound-cidrs {v6} --capture-loopback-ports {ports} --mesh-uid 1337"
    ));
}

#[test]
fn only_one_capability_is_needed() {
    let Some(net) = Net::new() else { return };
    let with = |privileges: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(privileges).arg("--no-new-privs").args([
            env!("CARGO_BIN_EXE_meshtrace"),
            "capture",
            "install",
        ]);
        net.pod(|| command.output())
    };
    let all_but = |more: &'static str| ["--bounding-set", more];
    let Ok(done) = with(&all_but("-all,+net_admin")) else { return skip("setpriv is missing") };
    assert!(done.status.success(), "root with NET_ADMIN alone: {}", String::from_utf8_lossy(&done.stderr));
    let ambient = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=+net_admin",
    ];
    let done = with(&ambient).unwrap();
    assert!(done.status.success(), "nobody with NET_ADMIN: {}", String::from_utf8_lossy(&done.stderr));
    for without in [&all_but("-net_admin")[..], &all_but("-all"), &ambient[..3]] {
        let done = with(without).unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{without:?}: {said}");
        assert!(said.contains("NET_ADMIN") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn rules_are_for_a_pod_of_its_own() {
    let Some(net) = Net::new() else { return };
    for args in ["capture install", "proxy --capture"] {
        let mut command = meshtrace(args);
        command.envs([("POD_IP", "10.0.0.1"), ("HOST_IP", "10.0.0.1")]);
        let done = net.pod(|| command.output()).unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{args}: {said}");
        assert!(said.contains("10.0.0.1") && said.contains("network of its node"), "{said}");
    }
    let server = net.serve_in_peer((PEER[0], 9090));
    assert!(!captured(&net, AGENT, (PEER[0], 9090)), "nothing was installed");
    drop(server);
}
