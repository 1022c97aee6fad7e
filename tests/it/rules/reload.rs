//! A configuration that changes while requests pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{around, ok, tool};
use crate::support::mesh::{Call, Mesh, Server};

const ALL: &str = "sampling: { rules: [{ sample: 100% }] }\n";
const NONE: &str = "sampling: { rules: [{ sample: 0% }] }\n";

#[tokio::test]
async fn rules_and_ignored_requests_change_without_a_restart() {
    let (mesh, _server, sidecar) = around(NONE).await;
    tool("add").send(sidecar.inbound()).await;
    mesh.reload(&sidecar, ALL).await;
    tool("kept").send(sidecar.inbound()).await;
    mesh.reload(&sidecar, "spans: { ignore: [{ path: /mcp }] }\n").await;
    tool("add").send(sidecar.inbound()).await;
    assert_eq!(mesh.metrics().reload.applied.get(), 2);
    assert_eq!(mesh.only_span().await.name, "tools/call kept");
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let (mesh, _server, sidecar) = around(ALL).await;
    mesh.reload(&sidecar, "sampling: { rules: [{ sample: some }] }\n").await;
    tool("add").send(sidecar.inbound()).await;
    let metrics = mesh.metrics().reload;
    assert_eq!((metrics.applied.get(), metrics.refused.get()), (0, 1));
    assert_eq!(mesh.stop().await.len(), 1);
}

/// ConfigMaps are not signalled, so the file is looked at anyway.
#[tokio::test]
async fn a_changed_file_is_noticed_without_being_told() {
    let (mesh, _server, sidecar) = around(NONE).await;
    sidecar.file().rewrite(ALL);
    let metrics = mesh.metrics().reload;
    let noticed = async {
        while metrics.applied.get() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::mesh::PATIENCE, noticed).await.expect("noticed");
    tool("add").send(sidecar.inbound()).await;
    assert_eq!(mesh.stop().await.len(), 1);
}

/// Every request is answered and has its span, however often the rules change meanwhile.
#[tokio::test]
async fn a_reload_under_load_loses_no_request_and_no_span() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().around(server.address).yaml(ALL).start();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = [sidecar.inbound(), sidecar.inbound(), sidecar.outbound(), sidecar.outbound()]
        .into_iter()
        .map(|to| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let replies = Call::send_in_turn(vec![tool("add"); 10], to).await;
                    assert!(replies.iter().all(|reply| reply.status == 200));
                    sent.fetch_add(replies.len(), Ordering::Relaxed);
                }
            })
        })
        .collect();
    // Every one of them keeps everything, each in its own words.
    let files = [ALL, "{}\n", "sampling: { rules: [{ tool: '*', sample: 1.0, root: true }] }\n"];
    for round in 0..30 {
        mesh.reload(&sidecar, &format!("# {round}\n{}", files[round % files.len()])).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(mesh.metrics().reload.applied.get(), 30);
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent >= 40, "{sent}");
    assert_eq!(mesh.stop().await.len(), sent);
}
