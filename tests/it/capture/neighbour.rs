//! Beside a service mesh: another redirecting proxy in the same pod, under the
//! rules that the meshes' own tools put in place. What comes in passes it
//! before the sidecar, what goes out passes it after, whoever came first.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use socket2::{Domain, SockRef, Socket, Type};

use super::net::{AGENT, FAMILIES, Net, PEER, POD, skip};
use super::sidecar::{Sidecar, call, exchange};
use crate::support::raw::{find, wait};

/// A mesh: what its proxy is told apart by, and what redirects to it.
pub(super) struct Mesh {
    name: &'static str,
    uid: u32,
    from_outside: u16,
    from_inside: u16,
    /// Where its proxy dials the application from, if not from the pod's address.
    source: Option<[IpAddr; 2]>,
    /// A port of its own that its rules leave alone.
    own: u16,
    rules: &'static [(&'static str, &'static str)],
}

const ISTIO: Mesh = Mesh {
    name: "istio",
    uid: 1337,
    from_outside: 15006,
    from_inside: 15001,
    source: Some([
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    ]),
    own: 15021,
    rules: &[
        ("iptables-nft-restore", include_str!("meshes/istio.iptables")),
        ("ip6tables-nft-restore", include_str!("meshes/istio.ip6tables")),
    ],
};

pub(super) const ISTIO_NFTABLES: Mesh =
    Mesh { name: "istio, nftables", rules: &[("nft", include_str!("meshes/istio.nft"))], ..ISTIO };

const LINKERD: Mesh = Mesh {
    name: "linkerd",
    uid: 2102,
    from_outside: 4143,
    from_inside: 4140,
    source: None,
    own: 4191,
    rules: &[
        ("iptables-nft-restore", include_str!("meshes/linkerd.iptables")),
        ("ip6tables-nft-restore", include_str!("meshes/linkerd.ip6tables")),
    ],
};

impl Mesh {
    /// Puts its rules in place. `false` where a program for that is missing,
    /// which is said.
    pub(super) fn install(&self, net: &Net) -> bool {
        if self.source.is_some() {
            let add = || Command::new("ip").args(["address", "add", "::6/128", "dev", "lo"]).status();
            assert!(net.pod(add).unwrap().success());
        }
        self.rules.iter().all(|(program, rules)| {
            if *program == "nft" {
                return net.nft(true, rules).is_some();
            }
            let restore = || {
                let mut iptables = Command::new(program).arg("--noflush").stdin(Stdio::piped()).spawn()?;
                iptables.stdin.take().unwrap().write_all(rules.as_bytes())?;
                iptables.wait()
            };
            match net.pod(restore) {
                Ok(status) => assert!(status.success(), "{}", self.name),
                Err(error) => {
                    skip(&format!("{program}: {error}"));
                    return false;
                }
            }
            true
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    port: u16,
    target: SocketAddr,
    traced: bool,
}

/// A proxy that copies bytes to where they were meant to go, and remembers.
pub(super) struct Neighbour(Arc<Mutex<Vec<Seen>>>);

impl Neighbour {
    pub(super) fn start(net: &Net, mesh: &Mesh) -> Neighbour {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        for (port, source) in [(mesh.from_outside, mesh.source), (mesh.from_inside, None)] {
            for family in FAMILIES {
                let (seen, source) = (Arc::clone(&seen), source.map(|source| source[family]));
                net.pod_as(mesh.uid, || {
                    let listener = listen(family, port);
                    // Threads of this one are in the pod too, as the same user. They end with the test's process.
                    std::thread::spawn(move || {
                        for client in listener.incoming().flatten() {
                            let seen = Arc::clone(&seen);
                            std::thread::spawn(move || pass_on(port, source, client, &seen));
                        }
                    });
                });
            }
        }
        Neighbour(seen)
    }

    /// What passed since this was last asked, once there is something.
    fn saw(&self) -> Vec<Seen> {
        wait("a connection through the other proxy", || {
            let seen = self.saw_so_far();
            (!seen.is_empty()).then_some(seen)
        })
    }

    fn saw_so_far(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn domain(family: usize) -> Domain {
    if family == 0 { Domain::IPV4 } else { Domain::IPV6 }
}

/// A listener on all addresses of one family, which knows the other not.
fn listen(family: usize, port: u16) -> TcpListener {
    let socket = Socket::new(domain(family), Type::STREAM, None).unwrap();
    if family == 1 {
        socket.set_only_v6(true).unwrap();
    }
    let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    socket.bind(&SocketAddr::from((all[family], port)).into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

fn pass_on(port: u16, source: Option<IpAddr>, mut client: TcpStream, seen: &Mutex<Vec<Seen>>) {
    let family = usize::from(client.local_addr().unwrap().is_ipv6());
    let socket = SockRef::from(&client);
    let target = if family == 0 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let target = target.unwrap().as_socket().unwrap();
    let socket = Socket::new(domain(family), Type::STREAM, None).unwrap();
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    }
    socket.connect(&target.into()).unwrap();
    let mut server = TcpStream::from(socket);
    let mut first = [0; 4096];
    let length = client.read(&mut first).unwrap();
    let traced = find(&first[..length], b"traceparent").is_some();
    seen.lock().unwrap().push(Seen { port, target, traced });
    server.write_all(&first[..length]).unwrap();
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Write);
}

#[test]
fn each_proxy_has_its_place_in_either_order_of_installation() {
    for mesh in [ISTIO, ISTIO_NFTABLES, LINKERD] {
        for we_are_first in [true, false] {
            let Some(net) = Net::new() else { return };
            let ours = || net.install(&format!("--mesh-uid {}", mesh.uid));
            if we_are_first {
                ours();
            }
            if !mesh.install(&net) {
                return;
            }
            if !we_are_first {
                ours();
            }
            let neighbour = Neighbour::start(&net, &mesh);
            let _sidecar = Sidecar::start(&net, "");
            for family in FAMILIES {
                let case = format!("{}, our rules first: {we_are_first}, family {family}", mesh.name);
                goes_out(&net, &mesh, &neighbour, family, &case);
                comes_in(&net, &mesh, &neighbour, family, &case);
                asks_itself(&net, &mesh, family, &case);
                assert_eq!(neighbour.saw_so_far(), [], "{case}: nothing came twice, and nothing else came");
            }
        }
    }
}

fn goes_out(net: &Net, mesh: &Mesh, neighbour: &Neighbour, family: usize, case: &str) {
    let far = net.serve_in_peer((PEER[family], 9090));
    let mut client = net.pod_connects(AGENT, (PEER[family], 9090)).unwrap();
    client.send(call("a", ""));
    assert!(exchange(&mut client, &mut far.accept()), "{case}: traced outbound");
    let target = SocketAddr::from((PEER[family], 9090));
    let after_us = Seen { port: mesh.from_inside, target, traced: true };
    assert_eq!(neighbour.saw(), [after_us], "{case}: out through us, then through the other");
    assert!(far.try_accept().is_none(), "{case}: one call is one connection");
}

fn comes_in(net: &Net, mesh: &Mesh, neighbour: &Neighbour, family: usize, case: &str) {
    let agent = net.serve_in_pod((POD[family], 8080));
    let mut client = net.peer_connects((POD[family], 8080)).unwrap();
    client.send(call("a", ""));
    let mut inside = agent.accept();
    assert!(exchange(&mut client, &mut inside), "{case}: traced inbound");
    let target = SocketAddr::from((POD[family], 8080));
    let before_us = Seen { port: mesh.from_outside, target, traced: false };
    assert_eq!(neighbour.saw(), [before_us], "{case}: in through the other, then through us");
    let from = inside.socket().peer_addr().unwrap().ip();
    assert_eq!(from, POD[family], "{case}");

    // The kubelet's probes of our admin port come the same way, and find it.
    let mut probe = net.peer_connects((POD[family], 14020)).unwrap();
    probe.send("GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(probe.head().starts_with("HTTP/1.1 200 "), "{case}: the admin port answers");
    let target = SocketAddr::from((POD[family], 14020));
    assert_eq!(neighbour.saw(), [Seen { port: mesh.from_outside, target, traced: false }], "{case}");
}

/// What the mesh's proxy has to itself: calls of its own over loopback, and a
/// port at which it is asked from outside.
fn asks_itself(net: &Net, mesh: &Mesh, family: usize, case: &str) {
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)][family];
    let own = net.serve_in_pod((loopback, 15000));
    let mut client = net.pod_connects(mesh.uid, (loopback, 15000)).unwrap();
    client.send(call("a", ""));
    assert!(!exchange(&mut client, &mut own.accept()), "{case}: its own business");

    let port = net.serve_in_pod((POD[family], mesh.own));
    let mut client = net.peer_connects((POD[family], mesh.own)).unwrap();
    client.send(call("a", ""));
    exchange(&mut client, &mut port.accept());
}
