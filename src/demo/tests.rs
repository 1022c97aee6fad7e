//! The whole demonstration with a fake sidecar: what it prints, what it calls incomplete, how it ends.

use std::{future::pending, sync::Arc, sync::Mutex};

use super::{fake::Fault, *};

pub(super) use super::fake::request;

/// Output that can be read while the demonstration runs.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn wait_for(&self, text: &str) {
        for _ in 0..10_000 {
            if self.text().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{text:?} never appeared in:\n{}", self.text());
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn once(fault: Fault, patience: Duration) -> (bool, String, String) {
    let options = Options { once: true, patience };
    let (mut out, mut say) = (Screen::default(), Screen::default());
    let start = async |plan| fake::start(plan, fault).await;
    let ran = run(options, start, &mut out, &mut say, pending()).await;
    (ran.unwrap(), out.text(), say.text())
}

#[tokio::test]
async fn every_trace_is_complete_and_printed() {
    let (complete, out, said) = once(Fault::None, Duration::from_secs(20)).await;
    assert!(complete, "{out}\n{said}");
    assert_eq!(out.matches("\ntrace ").count(), 4, "{out}");
    assert!(out.contains("tools/list -> research\n"), "{out}");
    assert!(out.contains("research(Oslo) -> Oslo: "), "{out}");
    assert!(out.contains("no station there (isError)\n"), "{out}");
    assert_eq!(out.matches("tools/call forecast").count(), 6, "{out}");
    assert!(said.contains("copies traceparent and tracestate"), "{said}");
    assert!(!said.contains("curl") && !out.contains("curl"), "nothing serves after --once");
}

#[tokio::test]
async fn what_a_sidecar_gets_wrong_is_said() {
    for (fault, problem) in [
        (Fault::NoContext, "traces arrived, one was expected"),
        (Fault::NoClientSpans, "2 spans arrived, 3 were expected"),
        (Fault::NoStatus, "the status of \"tools/call research\" is wrong"),
    ] {
        let (complete, _, said) = once(fault, Duration::from_millis(300)).await;
        assert!(!complete, "{fault:?}");
        assert!(said.contains(problem), "{fault:?}: {said}");
    }
}

#[tokio::test]
async fn it_serves_on_and_shows_what_is_pasted() {
    let (out, say) = (Screen::default(), Screen::default());
    let (done, stop) = tokio::sync::oneshot::channel::<()>();
    let running = {
        let (mut out, mut say) = (out.clone(), say.clone());
        async move {
            let start = async |plan| fake::start(plan, Fault::None).await;
            let stop = async { drop(stop.await) };
            run(Options::default(), start, &mut out, &mut say, stop).await
        }
    };
    let pasting = async {
        say.wait_for("Ctrl-C").await;
        let text = out.text();
        let url = text.rsplit_once("curl -sS http://").unwrap().1;
        let address = url.split_once("/mcp").unwrap().0.parse().unwrap();
        let mut pasted = calls::tool_call("research", "Lisbon");
        pasted["params"]["_meta"]["traceparent"] =
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
        calls::send(address, &pasted).await.unwrap();
        out.wait_for("trace 0af7651916cd43dd8448eb211c80319c").await;
        done.send(()).unwrap();
    };
    let (ended, ()) = tokio::join!(running, pasting);
    assert!(ended.unwrap());
    let shown = out.text();
    let (_, last) = shown.rsplit_once("trace 0af7651916cd43dd8448eb211c80319c").unwrap();
    assert_eq!(last.matches("tools/call").count(), 3, "{last}");
}

#[tokio::test]
async fn a_sidecar_that_does_not_start_is_named() {
    let start = async |_| Err("no such thing".into());
    let (mut out, mut say) = (Screen::default(), Screen::default());
    let ran = run(Options::default(), start, &mut out, &mut say, pending()).await;
    let error = ran.unwrap_err().to_string();
    assert_eq!(error, "the sidecar of weather-agent did not start: no such thing");
}
