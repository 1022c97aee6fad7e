//! Beside a service mesh: another redirecting proxy in the same pod, with a
//! user, ports and rules like Istio's. What comes in passes it before the
//! sidecar, what goes out passes it after, whoever came first.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use socket2::{Domain, SockRef, Socket, Type};

use super::net::{AGENT, ISTIO, Net, PEER, POD, skip};
use super::sidecar::{Sidecar, call, exchange};
use crate::support::raw::{find, wait};

/// Ports of Istio's proxy.
const FROM_OUTSIDE: u16 = 15006;
const FROM_INSIDE: u16 = 15001;

/// Where Istio's proxy dials the application from.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    port: u16,
    target: SocketAddr,
    traced: bool,
}

/// A proxy that copies bytes to where they were meant to go, and remembers.
pub(super) struct Neighbour(Arc<Mutex<Vec<Seen>>>);

impl Neighbour {
    pub(super) fn start(net: &Net) -> Neighbour {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        for port in [FROM_OUTSIDE, FROM_INSIDE] {
            let seen = Arc::clone(&seen);
            net.pod_as(ISTIO, || {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
                // Threads of this one are in the pod too, as the same user. They end with the test's process.
                std::thread::spawn(move || {
                    for client in listener.incoming().flatten() {
                        let seen = Arc::clone(&seen);
                        std::thread::spawn(move || pass_on(port, client, &seen));
                    }
                });
            });
        }
        Neighbour(seen)
    }

    /// What passed since this was last asked, once there is something.
    fn saw(&self) -> Vec<Seen> {
        wait("a connection through the other proxy", || {
            let seen = std::mem::take(&mut *self.0.lock().unwrap());
            (!seen.is_empty()).then_some(seen)
        })
    }
}

fn pass_on(port: u16, mut client: TcpStream, seen: &Mutex<Vec<Seen>>) {
    let target = SockRef::from(&client).original_dst_v4().unwrap().as_socket().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if port == FROM_OUTSIDE {
        socket.bind(&SocketAddr::from((SOURCE, 0)).into()).unwrap();
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

/// The rules of Istio in the text of nftables and of iptables.
pub(super) const NFT: &str = "table ip istio {
    chain pre { type nat hook prerouting priority -100;
        tcp dport { 15008, 15020, 15021, 15090 } return
        meta l4proto tcp redirect to :15006
    }
    chain out { type nat hook output priority -100;
        ip saddr 127.0.0.6 oifname lo return
        oifname lo ip daddr != 127.0.0.1 meta skuid 1337 meta l4proto tcp redirect to :15006
        oifname lo meta skuid != 1337 return
        meta skuid 1337 return
        ip daddr 127.0.0.1 return
        meta l4proto tcp redirect to :15001
    }
}";
const IPTABLES: &str = "*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m multiport --dports 15008,15020,15021,15090 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
";

fn install_theirs(net: &Net, program: &str) -> bool {
    if program == "nft" {
        return net.nft(true, NFT).is_some();
    }
    let restore = || {
        let mut iptables = Command::new(program).arg("--noflush").stdin(Stdio::piped()).spawn()?;
        iptables.stdin.take().unwrap().write_all(IPTABLES.as_bytes())?;
        iptables.wait()
    };
    match net.pod(restore) {
        Ok(status) => {
            assert!(status.success());
            true
        }
        Err(error) => {
            skip(&format!("{program}: {error}"));
            false
        }
    }
}

#[test]
fn each_proxy_has_its_place_in_either_order_of_installation() {
    for program in ["nft", "iptables-nft-restore"] {
        for we_are_first in [true, false] {
            let Some(net) = Net::new() else { return };
            let ours = || net.install(&format!("--mesh-uid {ISTIO}"));
            if we_are_first {
                ours();
            }
            if !install_theirs(&net, program) {
                return;
            }
            if !we_are_first {
                ours();
            }
            let neighbour = Neighbour::start(&net);
            let _sidecar = Sidecar::start(&net, "");
            let case = format!("{program}, our rules first: {we_are_first}");

            let far = net.serve_in_peer((PEER[0], 9090));
            let mut client = net.pod_connects(AGENT, (PEER[0], 9090)).unwrap();
            client.send(call("a", ""));
            assert!(exchange(&mut client, &mut far.accept()), "{case}: traced outbound");
            let target = SocketAddr::from((PEER[0], 9090));
            let after_us = Seen { port: FROM_INSIDE, target, traced: true };
            assert_eq!(neighbour.saw(), [after_us], "{case}: out through us, then through the other");

            let agent = net.serve_in_pod((POD[0], 8080));
            let mut client = net.peer_connects((POD[0], 8080)).unwrap();
            client.send(call("a", ""));
            let mut inside = agent.accept();
            assert!(exchange(&mut client, &mut inside), "{case}: traced inbound");
            let target = SocketAddr::from((POD[0], 8080));
            let before_us = Seen { port: FROM_OUTSIDE, target, traced: false };
            assert_eq!(neighbour.saw(), [before_us], "{case}: in through the other, then through us");
            let from = inside.socket().peer_addr().unwrap().ip();
            assert_eq!(from, POD[0], "{case}");

            let own = net.serve_in_pod((IpAddr::from(Ipv4Addr::LOCALHOST), 15000));
            let mut client = net.pod_connects(ISTIO, (IpAddr::from(Ipv4Addr::LOCALHOST), 15000)).unwrap();
            client.send(call("a", ""));
            assert!(!exchange(&mut client, &mut own.accept()), "{case}: its own business");
        }
    }
}
