//! Certificate files that change while the sidecar runs, in the way in which
//! Kubernetes changes them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::KeyPair;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::process::{Process, free_address, run};
use crate::support::authority::{Authority, Leaf};
use crate::support::mesh::{Call, PATIENCE};
use crate::support::secure::client;

/// A mounted Secret: the names lead through `..data`, a link to the folder of
/// the moment.
struct Secret<'a>(&'a Path);

impl Secret<'_> {
    /// Swaps in a certificate and a key, both at once.
    fn set(&self, certificate: &str, key: &str) {
        let number = fs::read_dir(self.0).unwrap().count();
        let folder = self.0.join(format!("..version-{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tls.crt"), certificate).unwrap();
        fs::write(folder.join("tls.key"), key).unwrap();
        symlink(folder.file_name().unwrap(), self.0.join("..data_tmp")).unwrap();
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            if !self.0.join(name).is_symlink() {
                symlink(Path::new("..data").join(name), self.0.join(name)).unwrap();
            }
        }
    }
}

fn localhost(authority: &Authority) -> (String, String) {
    let (certificate, key) = authority.issue(Leaf { name: "localhost", expired: false });
    (certificate.pem(), key.serialize_pem())
}

/// Whether the listener proves itself to somebody who trusts this authority.
async fn is_vouched_for(listen: SocketAddr, authority: &Authority) -> bool {
    let connector = TlsConnector::from(Arc::clone(&client(authority, &[&TLS13], &[b"http/1.1"])));
    let tcp = TcpStream::connect(listen).await.unwrap();
    connector.connect("localhost".try_into().unwrap(), tcp).await.is_ok()
}

async fn metric(admin: SocketAddr, line: &str) {
    let shown = async {
        loop {
            let text = Call::get("/metrics").send(admin).await.body;
            if String::from_utf8_lossy(&text).lines().any(|l| l == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, shown).await.unwrap_or_else(|_| panic!("{line} never came"));
}

#[tokio::test]
async fn changed_files_are_taken_up_and_bad_ones_are_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let secret = Secret(first.folder());
    let (certificate, key) = localhost(&first);
    secret.set(&certificate, &key);
    let (listen, admin) = (free_address(), free_address());
    let (inbound, admin_text) = (format!("https://{listen}=127.0.0.1:9"), admin.to_string());
    let files = format!("{0}/tls.crt,{0}/tls.key", first.folder().display());
    let args = ["proxy", "--inbound", &inbound, "--inbound-tls", &files, "--admin", &admin_text];
    let process = Process::ready(&args, &[("OTEL_TRACES_EXPORTER", "none")]).await;
    assert!(is_vouched_for(listen, &first).await);
    assert!(!is_vouched_for(listen, &second).await);
    metric(admin, r#"meshtrace_tls_handshakes_failed_total{reason="handshake"} 1"#).await;

    let (certificate, key) = localhost(&second);
    secret.set(&certificate, &key);
    metric(admin, r#"meshtrace_tls_reloads_total{result="taken"} 1"#).await;
    assert!(is_vouched_for(listen, &second).await);
    assert!(!is_vouched_for(listen, &first).await);

    let other_key = KeyPair::generate().unwrap().serialize_pem();
    for (number, key) in [other_key.as_str(), "", "nonsense"].into_iter().enumerate() {
        secret.set(&certificate, key);
        metric(admin, &format!(r#"meshtrace_tls_reloads_total{{result="refused"}} {}"#, number + 1)).await;
        assert!(is_vouched_for(listen, &second).await, "the old ones stay in force");
    }
    process.says("the old ones stay in force").await;
    secret.set(&certificate, &key);
    metric(admin, r#"meshtrace_tls_reloads_total{result="taken"} 2"#).await;
    process.signal("TERM");
    assert_eq!(process.exit().await.code, Some(0));
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start() {
    let authority = Authority::new();
    let (certificate, _) = authority.pair("localhost");
    let (_, other_key) = Authority::new().pair("localhost");
    let certificate = certificate.display().to_string();
    for (files, says) in [
        (format!("{certificate},/nowhere/tls.key"), "/nowhere/tls.key"),
        (format!("{certificate},{certificate}"), "cert.pem"),
        (format!("{certificate},{}", other_key.display()), "key.pem"),
    ] {
        let args = ["proxy", "--inbound", "https://127.0.0.1:0=127.0.0.1:9", "--inbound-tls", &files];
        let done = run(&args, &[("MESHTRACE_ADMIN", "off")]).await;
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.err.contains(says), "{says} is not in {}", done.err);
    }
}
