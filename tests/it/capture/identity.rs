//! `proxy --capture`: root for the rules, nobody for the traffic.

use super::net::{AGENT, FAMILIES, Net, PEER, SIDECAR, meshtrace};
use super::sidecar::{Sidecar, call, exchange};

/// A line of the status of a process.
fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn it_installs_the_rules_and_gives_everything_up() {
    let Some(net) = Net::new() else { return };
    let sidecar = Sidecar::run(&net, None, "proxy --capture --skip-outbound-ports 9091 --workers 2", &[]);
    let pid = sidecar.pid();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads: Vec<u32> =
        threads.map(|t| t.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    assert!(threads.len() >= 4, "{threads:?}");
    for thread in threads {
        let id = format!("{SIDECAR} {SIDECAR} {SIDECAR} {SIDECAR}");
        assert_eq!((status(thread, "Uid"), status(thread, "Gid")), (id.clone(), id));
        assert_eq!(status(thread, "Groups"), "");
        assert_eq!(status(thread, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status(thread, set), 16), Ok(0), "{set}");
        }
    }
    let servers = PEER.map(|peer| (net.serve_in_peer((peer, 9090)), net.serve_in_peer((peer, 9091))));
    for family in FAMILIES {
        let (far, skipped) = &servers[family];
        for (server, port, traced) in [(far, 9090, true), (skipped, 9091, false)] {
            let mut client = net.pod_connects(AGENT, (PEER[family], port)).unwrap();
            client.send(call("a", ""));
            assert_eq!(exchange(&mut client, &mut server.accept()), traced, "{family} {port}");
        }
    }
    assert_eq!(sidecar.stop(), Some(0));
    for peer in PEER {
        let left = net.pod_connects(AGENT, (peer, 9090)).err().map(|error| error.kind());
        assert_eq!(left, Some(std::io::ErrorKind::ConnectionRefused), "the rules stay");
    }
    assert!(net.meshtrace("capture remove").status.success());
    for peer in PEER {
        assert!(net.pod_connects(AGENT, (peer, 9090)).is_ok());
    }
}

#[test]
fn variables_do_what_flags_do() {
    let Some(net) = Net::new() else { return };
    let env = [
        ("MESHTRACE_CAPTURE", "true"),
        ("MESHTRACE_SKIP_OUTBOUND_PORTS", "none"),
        ("MESHTRACE_UID", "15001"),
    ];
    let sidecar = Sidecar::run(&net, None, "proxy", &env);
    assert!(status(sidecar.pid(), "Uid").starts_with("15001 "));
    for peer in PEER {
        let far = net.serve_in_peer((peer, 443));
        let mut client = net.pod_connects(AGENT, (peer, 443)).unwrap();
        client.send(call("a", ""));
        assert!(exchange(&mut client, &mut far.accept()));
    }
}

#[test]
fn without_the_right_to_it_nothing_starts() {
    let Some(net) = Net::new() else { return };
    let mut command = meshtrace("proxy --capture");
    std::os::unix::process::CommandExt::uid(&mut command, AGENT);
    let done = net.pod(|| command.output()).unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("NET_ADMIN"), "{said}");
}
