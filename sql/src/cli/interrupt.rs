//! Ctrl-C and SIGTERM while something runs.
//!
//! Invariant: work that is interrupted is dropped, which cancels it; if it does not let go in time, we leave without it.

use std::{future::Future, io, time::Duration};

use tokio::time::timeout;

/// How long cancelled work may take to end.
const CANCEL_MAX: Duration = Duration::from_millis(150);

/// Runs work until it ends or the user interrupts; `None` if interrupted.
///
/// The work runs as a task of its own, so that a signal is seen even while the work computes without a pause.
pub(crate) async fn until_interrupted<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<Option<T>> {
    let mut signals = Signals::listen()?;
    let mut task = tokio::spawn(work);
    tokio::select! {
        done = &mut task => match done {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(io::Error::other(error)),
        },
        () = signals.next() => {
            task.abort();
            let _ = timeout(CANCEL_MAX, task).await;
            Ok(None)
        }
    }
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
    use super::*;

    #[tokio::test]
    async fn work_that_ends_gives_its_value() {
        assert_eq!(until_interrupted(async { 7 }).await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        let outcome = until_interrupted(async { assert!(std::hint::black_box(false), "broken") }).await;
        assert!(outcome.is_err());
    }
}
