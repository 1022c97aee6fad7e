//! A waker between a task and the upstream connection that it drives.
//!
//! hyper's client connection, the response and its body wake each other all
//! the time, although one task polls all three in turn. Waking the task for
//! that would poll the whole downstream connection again for nothing. This
//! waker notes the wish, and passes it on only when nobody is about to look:
//! neither the turn that is going on nor, at its end, the task itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::task::coop;

use crate::net::registry::Watched;

/// How often one turn drives at most, so that one busy connection cannot keep
/// the worker from the others.
const TURNS: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Nudge {
    /// Something has happened since the connection was last driven.
    fired: AtomicBool,
    /// The task is driving the connection now and will look again by itself.
    inside: AtomicBool,
    task: Mutex<Option<Waker>>,
    /// The downstream connection, whose task this is.
    downstream: Arc<Watched>,
}

impl Nudge {
    /// A nudge that has fired, since a new connection has yet to be driven,
    /// for a connection that the task of `downstream` drives.
    pub(super) fn fired(downstream: Arc<Watched>) -> Arc<Self> {
        Arc::new(Nudge {
            fired: AtomicBool::new(true),
            inside: AtomicBool::new(false),
            task: Mutex::new(None),
            downstream,
        })
    }

    /// One turn of the task: looks for what is waited for, and where it is not
    /// there, drives the connection if something happened to it and looks
    /// again, until there is nothing left to do.
    ///
    /// What `look` polls may wake nobody but through `drive`. It says with its
    /// result whether that is the last which the connection has to bring: the
    /// wish for more that came with it is then void.
    ///
    /// Whoever gets a result has to come back in the same turn of the task,
    /// or drop what it polled.
    pub(super) fn turn<T>(
        self: &Arc<Self>,
        waker: &Waker,
        cx: &Context<'_>,
        mut drive: impl FnMut(&mut Context<'_>),
        mut look: impl FnMut(&mut Context<'_>) -> (Poll<T>, bool),
    ) -> Poll<T> {
        self.enter(cx);
        let mut driving = Context::from_waker(waker);
        // Nothing but a drive brings what is looked for, and a look follows each.
        let mut looking = Context::from_waker(Waker::noop());
        let mut drives = 0;
        let result = loop {
            let wished = self.has_fired();
            let (result, last) = look(&mut looking);
            if result.is_ready() && last && !wished {
                self.fired.store(false, Ordering::Relaxed);
            }
            if result.is_ready() || drives == TURNS || !self.take() {
                break result;
            }
            drive(&mut driving);
            drives += 1;
        };
        self.inside.store(false, Ordering::Relaxed);
        // Out of turns, or the runtime wants its share first.
        if result.is_pending() && (self.has_fired() || !coop::has_budget_remaining()) {
            cx.waker().wake_by_ref();
        }
        result
    }

    /// Whether something has happened since the connection was last driven.
    pub(super) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        self.fired.load(Ordering::Relaxed) && self.fired.swap(false, Ordering::Relaxed)
    }

    fn enter(&self, cx: &Context<'_>) {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.inside.store(true, Ordering::Relaxed);
    }
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.fired.store(true, Ordering::Relaxed);
        if !self.inside.load(Ordering::Relaxed)
            && !self.downstream.is_polled()
            && let Some(task) = &*self.task.lock()
        {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::net::registry::Registry;

    fn downstream() -> Arc<Watched> {
        Registry::new(Arc::default(), 1).admit().unwrap()
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_from_inside_drive_again_and_do_not_reach_the_task() {
        let counter = Arc::new(Counter::default());
        let task = Waker::from(Arc::clone(&counter));
        let nudge = Nudge::fired(downstream());
        let waker = Waker::from(Arc::clone(&nudge));
        let mut drives = 0;
        let result = nudge.turn(
            &waker,
            &Context::from_waker(&task),
            |cx| {
                drives += 1;
                if drives < 3 {
                    cx.waker().wake_by_ref();
                }
            },
            |_| (Poll::<()>::Pending, false),
        );
        assert!(result.is_pending());
        assert_eq!((drives, counter.0.load(Ordering::Relaxed)), (3, 0));
        waker.wake_by_ref();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1, "from outside it reaches the task");
        nudge.downstream.begin_turn();
        waker.wake_by_ref();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1, "a task that runs looks by itself");
        assert!(nudge.has_fired());
    }

    #[test]
    fn endless_wakes_give_the_task_its_turn() {
        let counter = Arc::new(Counter::default());
        let task = Waker::from(Arc::clone(&counter));
        let nudge = Nudge::fired(downstream());
        let waker = Waker::from(Arc::clone(&nudge));
        let mut drives = 0;
        let result = nudge.turn(
            &waker,
            &Context::from_waker(&task),
            |cx| {
                drives += 1;
                cx.waker().wake_by_ref();
            },
            |_| (Poll::<()>::Pending, false),
        );
        assert!(result.is_pending());
        assert_eq!((drives, counter.0.load(Ordering::Relaxed)), (TURNS, 1));
    }

    #[test]
    fn the_wish_for_more_is_void_behind_the_last() {
        let counter = Arc::new(Counter::default());
        let task = Waker::from(Arc::clone(&counter));
        let nudge = Nudge::fired(downstream());
        let waker = Waker::from(Arc::clone(&nudge));
        let look = |first: bool, last: bool| {
            nudge.fired.store(first, Ordering::Relaxed);
            let look = |_: &mut Context<'_>| {
                waker.wake_by_ref();
                (Poll::Ready(()), last)
            };
            let found = nudge.turn(&waker, &Context::from_waker(&task), |_| panic!("it was there"), look);
            assert!(found.is_ready());
            nudge.has_fired()
        };
        assert!(!look(false, true));
        assert!(look(false, false), "there is more to bring");
        assert!(look(true, true), "something had happened before");
        assert_eq!(counter.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_look_that_the_runtime_stopped_is_taken_again() {
        let counter = Arc::new(Counter::default());
        let task = Waker::from(Arc::clone(&counter));
        let nudge = Nudge::fired(downstream());
        let waker = Waker::from(Arc::clone(&nudge));
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        sender.send(()).unwrap();
        let mut looks = 0;
        while coop::has_budget_remaining() {
            assert!(std::pin::pin!(coop::consume_budget()).poll(&mut Context::from_waker(&task)).is_ready());
        }
        let mut turn = || {
            looks += 1;
            let receiver = std::pin::Pin::new(&mut receiver);
            nudge.turn(&waker, &Context::from_waker(&task), |_| {}, {
                let mut receiver = receiver;
                move |cx| (receiver.as_mut().poll(cx), false)
            })
        };
        assert!(turn().is_pending());
        assert_eq!(counter.0.load(Ordering::Relaxed), 1, "the task comes again");
        tokio::task::yield_now().await;
        assert!(turn().is_ready());
        assert_eq!(looks, 2);
    }
}
