//! Name lookups: a bounded number at once, and one for all who ask for the
//! same name meanwhile.
//!
//! The system's lookup blocks a thread and cannot be cancelled. Under a
//! resolver that is dead each takes many seconds, long after the request that
//! wanted it has gone; without a bound they would pile up.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The most lookups at once; one more waits until one of them has ended.
pub const MAX_LOOKUPS: usize = 64;

/// Looks names up. Clones share the bound and the lookups that are going on.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    permits: Arc<Semaphore>,
    going_on: Mutex<HashMap<Box<str>, watch::Receiver<Option<Answer>>>>,
}

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The addresses in the order of the system, or what it said, in words.
type Answer = Result<Arc<[IpAddr]>, Arc<str>>;

impl Default for Resolver {
    fn default() -> Self {
        Resolver::with(MAX_LOOKUPS, system)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("free", &self.0.permits.available_permits()).finish()
    }
}

impl Resolver {
    /// Looks names up with this function, `most` at once.
    pub fn with(
        most: usize,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Resolver(Arc::new(Shared {
            lookup: Box::new(lookup),
            permits: Arc::new(Semaphore::new(most)),
            going_on: Mutex::default(),
        }))
    }

    /// Whether as many lookups are going on as may be.
    pub fn is_full(&self) -> bool {
        self.0.permits.available_permits() == 0
    }

    /// The addresses of a name. Whoever stops waiting leaves the lookup going on.
    ///
    /// # Errors
    /// What the system said, in words.
    pub async fn resolve(&self, name: &str) -> Answer {
        let answer = match self.join(name) {
            Some(answer) => answer,
            None => {
                let permit = Arc::clone(&self.0.permits).acquire_owned().await;
                let permit = permit.map_err(|error| Arc::from(error.to_string()))?;
                // Somebody may have begun while we waited; the permit is free again then.
                self.join(name).unwrap_or_else(|| self.begin(name, permit))
            }
        };
        wait(answer).await
    }

    fn join(&self, name: &str) -> Option<watch::Receiver<Option<Answer>>> {
        self.0.going_on.lock().get(name).cloned()
    }

    fn begin(&self, name: &str, permit: OwnedSemaphorePermit) -> watch::Receiver<Option<Answer>> {
        let (answered, answer) = watch::channel(None);
        self.0.going_on.lock().insert(name.into(), answer.clone());
        let lookup = GoingOn { shared: Arc::clone(&self.0), name: name.into(), _permit: permit };
        tokio::task::spawn_blocking(move || {
            let found = (lookup.shared.lookup)(&lookup.name);
            let found = found.map(Arc::from).map_err(|error| Arc::from(error.to_string()));
            drop(lookup);
            // Nobody may be waiting any more.
            let _ = answered.send(Some(found));
        });
        answer
    }
}

/// A lookup that is going on; when it is dropped the next one may begin.
struct GoingOn {
    shared: Arc<Shared>,
    name: Box<str>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for GoingOn {
    fn drop(&mut self) {
        self.shared.going_on.lock().remove(&self.name);
    }
}

async fn wait(mut answer: watch::Receiver<Option<Answer>>) -> Answer {
    match answer.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(answer)) => answer.clone(),
        _ => Err(Arc::from("the lookup broke off")),
    }
}

fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in (name, 0).to_socket_addrs()? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;

    /// A resolver whose lookups last until something is sent, with their number.
    fn held(most: usize) -> (Resolver, std::sync::mpsc::SyncSender<()>, Arc<AtomicUsize>) {
        let (go, wait) = sync_channel::<()>(1_000);
        let (wait, begun) = (Mutex::new(wait), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&begun);
        let lookup = move |name: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = wait.lock().recv();
            if name == "missing" {
                return Err(io::Error::other("no such name"));
            }
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        };
        (Resolver::with(most, lookup), go, begun)
    }

    async fn until(what: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if what() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never came about");
    }

    #[tokio::test]
    async fn a_name_that_is_asked_for_by_many_is_looked_up_once() {
        let (resolver, go, begun) = held(8);
        let asks: Vec<_> = (0..20)
            .map(|_| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.resolve("weather").await })
            })
            .collect();
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        go.send(()).unwrap();
        for ask in asks {
            assert_eq!(ask.await.unwrap().unwrap()[..], [IpAddr::from([127, 0, 0, 1])]);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        go.send(()).unwrap();
        assert!(resolver.resolve("weather").await.is_ok(), "an answer is not kept");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        go.send(()).unwrap();
        assert_eq!(resolver.resolve("missing").await.unwrap_err().as_ref(), "no such name");
    }

    /// However many ask and give up, no more threads wait than the limit.
    #[tokio::test]
    async fn a_dead_resolver_holds_no_more_lookups_than_the_limit() {
        let (resolver, go, begun) = held(2);
        for number in 0..50 {
            let name = format!("host-{number}");
            let asked = tokio::time::timeout(Duration::from_millis(1), resolver.resolve(&name)).await;
            assert!(asked.is_err(), "nobody answers");
        }
        until(|| begun.load(Ordering::SeqCst) == 2).await;
        assert!(resolver.is_full());
        assert_eq!(resolver.0.going_on.lock().len(), 2);
        go.send(()).unwrap();
        go.send(()).unwrap();
        until(|| !resolver.is_full()).await;
        go.send(()).unwrap();
        assert!(resolver.resolve("host-49").await.is_ok(), "it is over when the resolver is back");
        assert_eq!(begun.load(Ordering::SeqCst), 3, "what was given up before it began is not looked up");
        until(|| resolver.0.going_on.lock().is_empty()).await;
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let found = Resolver::default().resolve("localhost").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
