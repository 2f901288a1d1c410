//! Kinesis by enhanced fan-out: exact through resharding, and through every way in which a subscription ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use headwater_engine::{
    checkpoint::store::LocalStore,
    error::{Error, ErrorKind},
    runtime::job::JobSummary,
    time::{Clock, Instant, SystemClock},
};
use headwater_tests::{
    scripts::{self, RunningJob, Until},
    services::{Break, FanOut},
};

use crate::kinesis::{FAN_OUT, kept, with_options};

/// A clock by which everybody waits a tenth of the time.
#[derive(Debug)]
struct HastyClock;

/// How much shorter.
const HASTE: u32 = 10;
/// Silence after which a subscription counts as dead, by that clock,
const SILENCE: Duration = Duration::from_millis(3_500);
/// and if it has not begun.
const NO_BEGIN: Duration = Duration::from_millis(7_000);

#[async_trait]
impl Clock for HastyClock {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time / HASTE).await;
    }
}

/// A job that copies a stream into files.
struct Copying {
    script: String,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Copying {
    fn of(server: &FanOut) -> Result<Self> {
        let copying =
            Self { script: with_options(FAN_OUT)?, endpoint: server.endpoint.clone(), folder: tempfile::tempdir()? };
        std::fs::create_dir_all(copying.out())?;
        Ok(copying)
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    async fn start(&self, until: Until, clock: Arc<dyn Clock>) -> Result<RunningJob> {
        let (state, out) = (self.folder.path().join("state"), self.out());
        let parameters = [("endpoint", self.endpoint.as_str()), ("out", &*out.to_string_lossy())];
        let store = Arc::new(LocalStore::new(state.clone()));
        scripts::start_by((store, clock), &self.script, &parameters, (&state, until)).await
    }

    /// Starts, and waits until everything that is there was sent.
    async fn follow(&self, server: &FanOut, clock: Arc<dyn Clock>) -> Result<RunningJob> {
        let job = self.start(Until::Stopped, clock).await?;
        server.wait_sent().await?;
        Ok(job)
    }

    /// Reads to the end; every number below `count` is kept once.
    async fn finish(&self, count: u64) -> Result<JobSummary> {
        let summary = self.start(Until::Once, Arc::new(SystemClock)).await?.ended().await?;
        assert_eq!(kept(&self.out())?, (0..count).collect::<Vec<u64>>());
        let read: u64 = summary.ledger.values().flat_map(|account| account.values()).map(|tally| tally.read).sum();
        assert_eq!(read, count, "{:?}", summary.ledger);
        Ok(summary)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_split_and_merge_while_they_are_subscribed_to_and_while_nobody_reads() -> Result<()> {
    let server = FanOut::start(2, Duration::from_millis(200), |_, _| None).await?;
    let copying = Copying::of(&server)?;
    server.put(0..100);
    let job = copying.follow(&server, Arc::new(SystemClock)).await?;
    server.put(100..200);
    server.split()?;
    server.put(200..300);
    server.wait_sent().await?;
    server.merge()?;
    server.put(300..400);
    server.wait_sent().await?;
    // Parents and children at once: what is in the children has to wait.
    server.put(400..450);
    server.split()?;
    server.put(450..500);
    server.merge()?;
    server.put(500..600);
    server.wait_sent().await?;
    job.stop().await?;

    server.split()?;
    server.put(600..700);
    // A job that is dropped leaves what a crash leaves.
    let crashed = copying.follow(&server, Arc::new(SystemClock)).await?;
    server.merge()?;
    server.put(700..800);
    server.wait_sent().await?;
    drop(crashed);
    server.put(800..900);
    copying.finish(900).await?;
    server.check_order()?;
    assert_eq!(server.registrations(), 1, "an existing consumer is used again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_ends_in_any_way_is_followed_by_one_from_where_it_was() -> Result<()> {
    let breaks = [
        Break::End(2),
        Break::Cut(1),
        Break::Corrupt(2),
        Break::Exception(1, "InternalFailureException"),
        Break::Exception(1, "KMSThrottlingException"),
        Break::Exception(0, "ResourceNotFoundException"),
        Break::Error(1, "InternalFailure"),
        Break::Cut(0),
        Break::End(0),
    ];
    let server = FanOut::start(2, Duration::from_millis(400), move |_, nth| breaks.get(nth as usize).copied()).await?;
    let copying = Copying::of(&server)?;
    server.put(0..300);
    let job = copying.follow(&server, Arc::new(HastyClock)).await?;
    server.split()?;
    server.put(300..500);
    server.wait_sent().await?;
    job.stop().await?;
    copying.finish(500).await?;
    server.check_order()?;
    let asked = server.asked();
    assert!(asked.iter().any(|asked| asked.is_refused), "a subscription that is too young is waited for");
    let of_first = asked.iter().filter(|asked| asked.shard.ends_with("00") && !asked.is_refused);
    let of_first: Vec<(&str, &str)> = of_first.map(|asked| (asked.from.0.as_str(), asked.from.1.as_str())).collect();
    assert!(of_first.len() > 9, "{of_first:?}");
    assert_eq!(of_first[0], ("TRIM_HORIZON", ""));
    // Two events of seven records, every second of which is in this shard: the next goes on behind the last of them.
    assert_eq!(of_first[1], ("AFTER_SEQUENCE_NUMBER", format!("4957{:052}", 27).as_str()), "{of_first:?}");
    assert!(of_first[1..].is_sorted(), "{of_first:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_comes_any_more_is_given_up() -> Result<()> {
    let breaks = [Break::SilentAtOnce, Break::Silent(2), Break::Silent(0)];
    let server = FanOut::start(1, Duration::from_millis(100), move |_, nth| breaks.get(nth as usize).copied()).await?;
    let copying = Copying::of(&server)?;
    server.put(0..100);
    let job = copying.follow(&server, Arc::new(HastyClock)).await?;
    server.put(100..200);
    server.wait_sent().await?;
    // Longer than that without a record, but not without a sign of life.
    tokio::time::sleep(SILENCE + SILENCE / 2).await;
    job.stop().await?;
    let asked = server.asked();
    assert_eq!(asked.iter().filter(|asked| !asked.is_refused).count(), 4, "{asked:?}");
    let waits = asked.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at));
    for (wait, silence) in waits.zip([NO_BEGIN, SILENCE, SILENCE]) {
        assert!(wait >= silence - Duration::from_millis(100) && wait < 3 * silence, "{asked:?}");
    }
    copying.finish(200).await?;
    Ok(())
}

/// The service names the last position when there is nothing more in the shard, also where no record was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_subscription_goes_on_behind_what_the_service_has_looked_through() -> Result<()> {
    let server = FanOut::start(2, Duration::from_millis(100), |shard, nth| {
        (shard.ends_with("00") && nth == 0).then_some(Break::End(3))
    })
    .await?;
    let copying = Copying::of(&server)?;
    server.put(0..2);
    let job = copying.follow(&server, Arc::new(SystemClock)).await?;
    let begun = std::time::Instant::now();
    while server.asked().iter().filter(|asked| asked.shard.ends_with("00") && !asked.is_refused).count() < 2 {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "no second subscription");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.put(2..4);
    server.wait_sent().await?;
    job.stop().await?;
    let asked = server.asked();
    let second = asked.iter().filter(|asked| asked.shard.ends_with("00")).nth(1).context("a second")?;
    // The other shard has the newer record.
    assert_eq!(second.from, ("AFTER_SEQUENCE_NUMBER".to_owned(), format!("4957{:052}", 2)));
    copying.finish(4).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_deleted_is_registered_again_and_goes_on() -> Result<()> {
    let server = FanOut::start(2, Duration::from_millis(100), |_, _| None).await?;
    let copying = Copying::of(&server)?;
    server.put(0..100);
    let job = copying.follow(&server, Arc::new(SystemClock)).await?;
    server.delete_consumer();
    server.put(100..200);
    server.wait_sent().await?;
    job.stop().await?;
    copying.finish(200).await?;
    assert_eq!(server.registrations(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_will_go_on_refusing_ends_the_job_with_its_name() -> Result<()> {
    for (code, kind) in [("KMSAccessDeniedException", ErrorKind::Denied), ("KMSDisabledException", ErrorKind::User)] {
        let server = FanOut::start(1, Duration::from_millis(100), move |_, _| Some(Break::Exception(1, code))).await?;
        let copying = Copying::of(&server)?;
        server.put(0..100);
        let job = copying.start(Until::Stopped, Arc::new(SystemClock)).await?;
        let failed = job.ended().await.map(drop).unwrap_err();
        let failed = failed.downcast_ref::<Error>().context("an error of the engine")?;
        assert_eq!(failed.kind(), kind, "{failed}");
        assert!(failed.message().contains(code) && failed.message().contains("shardId-000000000000"), "{failed}");
    }
    Ok(())
}
