//! A pod and its peer: two network namespaces of their own names, which go
//! when the value is dropped.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use meshtrace::trace::ids::Ids;
use rustix::process::{Gid, Uid};
use rustix::thread::LinkNameSpaceType;

use crate::support::raw::{Raw, wait};

/// The addresses of the pod and of its peer, of both families.
pub(super) const POD: [IpAddr; 2] = addresses(2);
pub(super) const PEER: [IpAddr; 2] = addresses(1);

/// Both families by their index above.
pub(super) const FAMILIES: [usize; 2] = [0, 1];

const fn addresses(last: u16) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, last.to_be_bytes()[1])),
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last)),
    ]
}

/// The users of the tests: the agent's and the sidecar's.
pub(super) const AGENT: u32 = 1000;
pub(super) const SIDECAR: u32 = 14100;

/// The programs of a mesh are not on this machine; these are its numbers.
pub(super) const ISTIO: u32 = 1337;

/// How long a connection may take to be refused or not.
const CONNECT: Duration = Duration::from_secs(10);

/// Two joined namespaces.
pub(super) struct Net {
    pod: Arc<Space>,
    peer: Arc<Space>,
}

/// The name of a namespace, which goes with the last who knows it.
struct Space(String);

impl Net {
    /// Makes them. `None` where that cannot be done, which is said; an error
    /// where `MESHTRACE_TEST_NAMESPACES` is `required`.
    pub(super) fn new() -> Option<Net> {
        let reason = match () {
            () if !rustix::process::geteuid().is_root() => "network namespaces need root".to_owned(),
            () => match Net::make() {
                Ok(net) => return Some(net),
                Err(reason) => reason,
            },
        };
        skip(&reason);
        None
    }

    fn make() -> Result<Net, String> {
        let id = Ids::new().random() as u32;
        let space = |side| Arc::new(Space(format!("mt-{id:08x}-{side}")));
        let net = Net { pod: space("pod"), peer: space("peer") };
        let (pod, peer) = (&net.pod.0, &net.peer.0);
        let (a, b) = (format!("mt{id:08x}a"), format!("mt{id:08x}b"));
        let mut lines = vec![
            format!("netns add {pod}"),
            format!("netns add {peer}"),
            format!("link add {a} netns {pod} type veth peer name {b} netns {peer}"),
        ];
        for (space, link, [v4, v6]) in [(pod, &a, POD), (peer, &b, PEER)] {
            lines.push(format!("-n {space} address add {v4}/24 dev {link}"));
            lines.push(format!("-n {space} address add {v6}/64 dev {link} nodad"));
            lines.push(format!("-n {space} link set lo up"));
            lines.push(format!("-n {space} link set {link} up"));
        }
        lines.push(format!("-n {pod} route add default via {}", PEER[0]));
        lines.push(format!("-n {pod} route add default via {}", PEER[1]));
        for line in lines {
            let done = Command::new("ip").args(line.split(' ')).output().map_err(|e| format!("ip: {e}"))?;
            if !done.status.success() {
                return Err(format!("ip {line}: {}", String::from_utf8_lossy(&done.stderr).trim()));
            }
        }
        Ok(net)
    }

    /// The same as seen from the other end of the cable: there the peer is the
    /// pod, and has the address of the peer.
    pub(super) fn turned(&self) -> Net {
        Net { pod: Arc::clone(&self.peer), peer: Arc::clone(&self.pod) }
    }

    /// Does something in the pod as root.
    pub(super) fn pod<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.pod.0, None, work)
    }

    /// Does something in the pod as this user.
    pub(super) fn pod_as<T: Send>(&self, uid: u32, work: impl FnOnce() -> T + Send) -> T {
        within(&self.pod.0, Some(uid), work)
    }

    /// Does something at the other end of the cable.
    pub(super) fn peer<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.peer.0, None, work)
    }

    /// Runs the built binary in the pod to its end, as root.
    pub(super) fn meshtrace(&self, args: &str) -> Output {
        self.pod(|| meshtrace(args).output().unwrap())
    }

    /// Installs the rules of capture with these flags.
    #[track_caller]
    pub(super) fn install(&self, flags: &str) {
        let done = self.meshtrace(&format!("capture install {flags}"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A server in the pod.
    pub(super) fn serve_in_pod(&self, address: impl Into<SocketAddr>) -> Listening {
        let address = address.into();
        self.pod_as(AGENT, || Listening::new(address))
    }

    /// A server in the peer.
    pub(super) fn serve_in_peer(&self, address: impl Into<SocketAddr>) -> Listening {
        let address = address.into();
        self.peer(|| Listening::new(address))
    }

    /// A connection of a process of the pod.
    pub(super) fn pod_connects(&self, uid: u32, to: impl Into<SocketAddr>) -> io::Result<Raw> {
        let to = to.into();
        self.pod_as(uid, || TcpStream::connect_timeout(&to, CONNECT)).map(Raw::new)
    }

    /// A connection from outside of the pod.
    pub(super) fn peer_connects(&self, to: impl Into<SocketAddr>) -> io::Result<Raw> {
        let to = to.into();
        self.peer(|| TcpStream::connect_timeout(&to, CONNECT)).map(Raw::new)
    }

    /// Gives a text of nftables to the pod or to its peer, or says why not.
    pub(super) fn nft(&self, in_pod: bool, text: &str) -> Option<()> {
        let load = || -> io::Result<Output> {
            let mut nft = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            nft.stdin.take().unwrap().write_all(text.as_bytes())?;
            nft.wait_with_output()
        };
        match if in_pod { self.pod(load) } else { self.peer(load) } {
            Ok(done) => {
                assert!(done.status.success(), "{}\n{text}", String::from_utf8_lossy(&done.stderr));
                Some(())
            }
            Err(error) => {
                skip(&format!("nft: {error}"));
                None
            }
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The cable goes with either of its ends.
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).stderr(Stdio::null()).status();
    }
}

/// The built binary with these arguments and no environment.
pub(super) fn meshtrace(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshtrace"));
    command.args(args.split_whitespace()).env_clear().stdin(Stdio::null());
    command
}

/// Says that a test could not run, past the test harness that would swallow it.
pub(super) fn skip(reason: &str) {
    let required = std::env::var_os("MESHTRACE_TEST_NAMESPACES").is_some_and(|value| value == "required");
    assert!(!required, "may not be skipped: {reason}");
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "skipped: {name}: {reason}");
}

/// Works on a thread of its own, which enters the namespace and takes the
/// user; what it opens stays there.
fn within<T: Send>(name: &str, uid: Option<u32>, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let space = std::fs::File::open(format!("/var/run/netns/{name}")).unwrap();
        rustix::thread::move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        if let Some(uid) = uid {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        }
        work()
    };
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, enter).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A listening socket whose connections follow a script.
pub(super) struct Listening(TcpListener);

impl Listening {
    fn new(address: SocketAddr) -> Self {
        // The socket of the one before lives on in a child that another test has forked and that has not become its program yet.
        let listener = wait("the address", || match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
            bound => Some(bound.unwrap()),
        });
        listener.set_nonblocking(true).unwrap();
        Listening(listener)
    }

    /// The next connection.
    #[track_caller]
    pub(super) fn accept(&self) -> Raw {
        wait("a connection", || self.try_accept())
    }

    /// The next connection, if it is there.
    pub(super) fn try_accept(&self) -> Option<Raw> {
        match self.0.accept() {
            Ok((stream, _)) => Some(Raw::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        }
    }
}
