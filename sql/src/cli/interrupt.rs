//! The watch over work: what ends it early (Ctrl-C, SIGTERM, the time a statement may take), and its line of progress.
//!
//! ```text
//!  this thread: signals, deadline, progress  --abort-->  the work, on the threads of a runtime
//!                                   <--what is running--
//! ```
//!
//! Invariant: the watch has a runtime of its own, so it sees signals and deadlines even while every thread of the work
//! computes without a pause. Work that does not let go in time is left behind. A statement that is being committed ends
//! first, so that nobody is told that it was stopped when it has happened.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use headwater_engine::error::{Error, ErrorKind, Location};
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::progress::Progress;

/// How long cancelled work may take to end.
const CANCEL_MAX: Duration = Duration::from_millis(100);
/// Time between two states of the line of progress.
const TICK: Duration = Duration::from_millis(100);

/// When a statement is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// At this time.
    pub(crate) at: Instant,
    /// After so long.
    pub(crate) limit: Duration,
    /// Where the statement stands in its script.
    pub(crate) location: Location,
}

/// The statement that is running.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// When it is stopped, if ever.
    pub(crate) deadline: Option<Deadline>,
    /// Its line of progress.
    pub(crate) progress: Progress,
}

/// The statement that is running, as the work states it and the watch reads it.
pub(crate) type Watched = watch::Sender<Option<Running>>;

/// How work ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// By itself.
    Done(T),
    /// The user stopped it.
    Interrupted,
    /// It took too long.
    Late(Error),
}

/// Runs work on a runtime's threads until it ends, the user interrupts or its deadline passes.
pub(crate) fn watch_over<T: Send + 'static>(
    threads: &Handle,
    running: watch::Receiver<Option<Running>>,
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<Ended<T>> {
    let watch = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    watch.block_on(async {
        let mut signals = Signals::listen()?;
        let mut task = threads.spawn(work);
        let mut state = running.clone();
        let ended = tokio::select! {
            done = &mut task => return done.map(Ended::Done).map_err(io::Error::other),
            () = signals.next() => Ended::Interrupted,
            deadline = passed(running.clone()) => Ended::Late(too_late(deadline)),
            () = ticks(running.clone()) => Ended::Interrupted,
        };
        if let Some(running) = &*running.borrow() {
            running.progress.clear();
        }
        if state.borrow().as_ref().is_some_and(|running| running.progress.is_committing()) {
            // A second signal does not wait.
            tokio::select! {
                biased;
                done = &mut task => return done.map(Ended::Done).map_err(io::Error::other),
                () = next_statement(&mut state) => {}
                () = signals.next() => {}
            }
        }
        task.abort();
        let _ = timeout(CANCEL_MAX, task).await;
        Ok(ended)
    })
}

/// Waits until the work has ended the statement that is running and begins another one.
async fn next_statement(running: &mut watch::Receiver<Option<Running>>) {
    running.mark_unchanged();
    loop {
        if running.changed().await.is_err() {
            return std::future::pending().await;
        }
        if running.borrow_and_update().is_some() {
            return;
        }
    }
}

/// Keeps the line of progress up to date; never ends.
async fn ticks(running: watch::Receiver<Option<Running>>) {
    loop {
        tokio::time::sleep(TICK).await;
        if let Some(running) = &*running.borrow() {
            running.progress.tick();
        }
    }
}

/// Waits until a deadline passes that is still the one in force.
async fn passed(mut running: watch::Receiver<Option<Running>>) -> Deadline {
    loop {
        let deadline = running.borrow_and_update().as_ref().and_then(|running| running.deadline);
        let pass = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pass => if let Some(deadline) = deadline { return deadline },
            changed = running.changed() => if changed.is_err() { std::future::pending::<()>().await },
        }
    }
}

fn too_late(deadline: Deadline) -> Error {
    let message = format!("the statement took longer than {}", super::report::duration(deadline.limit));
    Error::new(ErrorKind::Limit, "EXCEEDED_TIME_LIMIT", message)
        .at(deadline.location)
        .with_hint("raise --timeout, or let the statement read less")
}

/// The signals that ask us to stop.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on signals do not end the process.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn threads() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn until(limit: Duration) -> Option<Running> {
        let deadline = Deadline { at: Instant::now() + limit, limit, location: Location { line: 1, column: 1 } };
        Some(Running { deadline: Some(deadline), progress: Progress::new(Arc::default(), false) })
    }

    #[test]
    fn work_that_ends_gives_its_value() {
        let (_deadlines, receiver) = watch::channel(None);
        let ended = watch_over(threads().handle(), receiver, async { 7 }).unwrap();
        assert!(matches!(ended, Ended::Done(7)), "{ended:?}");
    }

    #[test]
    fn work_that_panics_is_an_error() {
        let (_deadlines, receiver) = watch::channel(None);
        let work = async { assert!(std::hint::black_box(false), "broken") };
        assert!(watch_over(threads().handle(), receiver, work).is_err());
    }

    #[test]
    fn work_that_never_pauses_is_stopped_at_its_deadline() {
        let (deadlines, receiver) = watch::channel(None);
        let threads = threads();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let work = async move {
            deadlines.send_replace(until(Duration::from_millis(20)));
            let _ = released.recv(); // holds the only thread
        };
        let ended = watch_over(threads.handle(), receiver, work).unwrap();
        drop(release);
        let Ended::Late(error) = ended else { panic!("{ended:?}") };
        assert_eq!(error.code().0, "EXCEEDED_TIME_LIMIT");
    }

    #[test]
    fn a_statement_that_is_being_committed_ends_and_the_next_does_not_begin() {
        for statements in [1, 2] {
            let (running, receiver) = watch::channel(None);
            let (_held, released) = std::sync::mpsc::channel::<()>();
            let work = async move {
                for _ in 0..statements {
                    let counters = Arc::<headwater_connectors::lake::stats::ScanStats>::default();
                    counters.committing.store(true, std::sync::atomic::Ordering::Relaxed);
                    let deadline = until(Duration::from_millis(20)).and_then(|running| running.deadline);
                    running.send_replace(Some(Running { deadline, progress: Progress::new(counters, false) }));
                    let _ = released.recv_timeout(3 * CANCEL_MAX);
                    running.send_replace(None);
                    tokio::task::yield_now().await;
                }
                7
            };
            let ended = watch_over(threads().handle(), receiver, work).unwrap();
            match statements {
                1 => assert!(matches!(ended, Ended::Done(7)), "{ended:?}"),
                _ => assert!(matches!(ended, Ended::Late(_)), "{ended:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_deadline_that_was_withdrawn_does_not_count() {
        let (deadlines, receiver) = watch::channel(until(Duration::ZERO));
        deadlines.send_replace(None);
        let mut passed = std::pin::pin!(passed(receiver));
        assert!(futures::poll!(&mut passed).is_pending());
        deadlines.send_replace(until(Duration::ZERO));
        assert_eq!(passed.await.limit, Duration::ZERO);
    }
}
