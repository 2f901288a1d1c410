//! What a job meets when it comes back: another sink, a sink more, splits that were silent, a stop that fails.
//!
//! Invariant: nothing that was published is lost in silence, and no row is late or on time because of a restart.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{faults::FaultySink, *};
use crate::{
    connector::{
        Boundedness, CommitFacts, CommitReport, Committable, Guarantee, JobContext, Offset, OpenRequest, OpenUnit,
        Sink, SinkTask, SinkWriter, Source, SourceEvent, Split, SplitId, SplitReader, SplitStart,
    },
    error::{Error, Result},
    format::Decoder,
    message::Epoch,
};

/// Runs until an epoch is published that no sink has committed, then stops like a killed process.
async fn killed_before_its_commit(graph: Arc<Graph>, config: JobConfig) {
    let store = Arc::clone(&config.store);
    let clock: Arc<dyn crate::time::Clock> = Arc::new(StepClock::new(Instant(START)));
    let published = async {
        loop {
            after_steps(20).await;
            let jobs = crate::inspect::jobs(&store, &clock).await.unwrap();
            let waits = |job: &crate::inspect::JobState| {
                let sinks = job.newest.iter().flat_map(|manifest| manifest.sinks.values());
                !job.is_committed && sinks.flat_map(|sink| &sink.closed).any(|unit| unit.rows > 0)
            };
            if jobs.iter().any(waits) {
                return;
            }
        }
    };
    tokio::select! {
        ended = run(graph, config, CancellationToken::new()) => panic!("it ended: {ended:?}"),
        () = published => {}
    }
}

#[tokio::test]
async fn rows_that_are_published_are_not_dropped_with_their_sink_unless_allowed() {
    let events = events(5, 400);
    let log = MemoryLog::new(false, 20);
    fill(&log, &events, 2);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let down = FaultySink::by_seed(&table, 1, 1.0);
    let refusing = Arc::new(Fronted::down(down));
    killed_before_its_commit(graph_into(&log, TUMBLE, refusing), config(Arc::clone(&store), 2)).await;
    assert!(table.rows().is_empty());
    log.close();
    let other = MemoryTable::new(ChangelogMode::Append, 1);
    let changed = || graph(&log, &other, TUMBLE);
    let error = run(changed(), config(Arc::clone(&store), 2), CancellationToken::new()).await.unwrap_err();
    let said = ["\"sink:out\" has", "published but not delivered, and writes to memory table now"];
    assert!(said.iter().all(|part| error.message().contains(part)), "{error}");
    // One of the same name elsewhere is another sink.
    let elsewhere = Arc::new(Fronted { place: "elsewhere", ..Fronted::up(other.clone()) });
    let error = run(graph_into(&log, TUMBLE, elsewhere), config(Arc::clone(&store), 2), CancellationToken::new()).await;
    let said = error.unwrap_err();
    assert!(said.message().contains("and writes to table of that name elsewhere now"), "{said}");
    // As it was, it delivers what it has published.
    let again = Arc::new(Fronted::up(table.clone()));
    run(graph_into(&log, TUMBLE, again), config(store, 3), CancellationToken::new()).await.unwrap();
    assert_eq!(actual(&table), expected(&events, TUMBLE));
    assert!(other.rows().is_empty());
}

#[tokio::test]
async fn rows_of_another_sink_are_not_put_into_this_one() {
    let events = events(5, 400);
    let log = MemoryLog::new(false, 20);
    fill(&log, &events, 2);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let refusing = Arc::new(Fronted::down(FaultySink::by_seed(&table, 1, 1.0)));
    killed_before_its_commit(graph_into(&log, TUMBLE, refusing), config(Arc::clone(&store), 2)).await;
    log.close();
    let other = MemoryTable::new(ChangelogMode::Append, 1);
    let allowed = JobConfig { allow_drop: true, ..config(store, 2) };
    run(graph(&log, &other, TUMBLE), allowed, CancellationToken::new()).await.unwrap();
    let found = actual(&other);
    let all = expected(&events, TUMBLE);
    assert!(!found.is_empty() && found.len() < all.len(), "{} of {}", found.len(), all.len());
    assert!(found.iter().all(|(key, value)| all.get(key) == Some(value)));
}

/// A sink in front of another: it keeps what it is told at its start, and its commits fail while it is down.
#[derive(Debug)]
struct Fronted {
    sink: Arc<dyn Sink>,
    place: &'static str,
    is_down: bool,
    told: Arc<Mutex<Vec<CommitFacts>>>,
}

impl Fronted {
    fn up(sink: impl Sink + 'static) -> Self {
        Self { sink: Arc::new(sink), place: "here", is_down: false, told: Arc::default() }
    }

    fn down(sink: impl Sink + 'static) -> Self {
        Self { is_down: true, ..Self::up(sink) }
    }
}

impl fmt::Display for Fronted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("table of that name")
    }
}

#[async_trait]
impl Sink for Fronted {
    fn accepts(&self) -> ChangelogMode {
        self.sink.accepts()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn destination(&self) -> String {
        format!("{self} {}", self.place)
    }

    async fn check(&self, _: &JobContext, _: SchemaRef) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        self.sink.writer(job, task, open).await
    }

    async fn recover(&self, job: &JobContext, facts: &CommitFacts) -> Result<()> {
        self.told.lock().unwrap().push(facts.clone());
        if self.is_down { Ok(()) } else { self.sink.recover(job, facts).await }
    }

    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        if self.is_down && !work.is_empty() {
            return Err(Error::unavailable("down"));
        }
        self.sink.commit(job, epoch, work).await
    }
}

#[tokio::test]
async fn a_sink_is_told_of_the_epochs_it_had_a_part_in() {
    let log = MemoryLog::new(false, 20);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let once = || JobConfig { once: true, ..config(Arc::clone(&store), 1) };
    fill(&log, &events(5, 100), 1);
    run(graph(&log, &table, TUMBLE), once(), CancellationToken::new()).await.unwrap();
    let facts = Arc::default();
    for _ in 0..2 {
        let sink = Arc::new(Fronted { told: Arc::clone(&facts), ..Fronted::up(table.clone()) });
        run(graph_into(&log, TUMBLE, sink), once(), CancellationToken::new()).await.unwrap();
    }
    let facts: Vec<CommitFacts> = std::mem::take(&mut facts.lock().unwrap());
    assert_eq!(facts[0].committed, None, "{facts:?}");
    assert!(facts[0].published.is_some() && facts[1].committed == facts[1].published, "{facts:?}");
    assert!(facts.iter().all(|facts| facts.insert == "out"), "{facts:?}");
}

/// The graph with an idle timeout.
fn idle_after(graph: Arc<Graph>, timeout: Duration) -> Arc<Graph> {
    let mut graph = Arc::try_unwrap(graph).unwrap();
    for node in &mut graph.nodes {
        if let NodeKind::Source(source) = &mut node.kind {
            source.time.as_mut().unwrap().idle_timeout = Some(timeout);
        }
    }
    Arc::new(graph)
}

/// A job with a busy split and one that is silent and idle, so that the windows both have rows in can fire.
struct HasIdleSplit {
    log: MemoryLog,
    table: MemoryTable,
    store: Arc<dyn CheckpointStore>,
}

/// Keys, event times and values; times are minutes.
fn minutes(these: &[(i64, i64)]) -> RecordBatch {
    rows(&these.iter().map(|(minute, value)| ("a".to_owned(), START + minute * 60_000, *value)).collect::<Vec<_>>())
}

impl HasIdleSplit {
    fn new() -> Self {
        let log = MemoryLog::new(false, 10);
        log.append("busy", minutes(&[(0, 1), (1, 2), (30, 3)]));
        log.append("silent", minutes(&[(0, 4)]));
        Self { log, table: MemoryTable::new(ChangelogMode::Append, 1), store: Arc::new(MemoryStore::default()) }
    }

    /// Runs the job; `then` begins when a checkpoint has the silent split as idle.
    async fn run_until_idle(&self, stop: &CancellationToken, then: impl Future<Output = ()>) -> JobSummary {
        let (observer, mut newest) = crate::runtime::job::Observer::channel();
        let job = run(self.graph(), JobConfig { observer, ..self.config() }, stop.clone());
        let idle = async {
            let is_idle = |manifest: &Arc<crate::checkpoint::manifest::Manifest>| {
                manifest.split("source:log", &SplitId::new("silent")).is_some_and(|split| split.idle)
            };
            newest.wait_for(|manifest| manifest.as_ref().is_some_and(is_idle)).await.unwrap();
            then.await;
        };
        let (summary, ()) = tokio::join!(job, idle);
        summary.unwrap()
    }

    fn graph(&self) -> Arc<Graph> {
        idle_after(graph(&self.log, &self.table, TUMBLE), Duration::from_secs(5))
    }

    fn config(&self) -> JobConfig {
        config(Arc::clone(&self.store), 1)
    }

    /// Gives a split a row of a window that has fired and one of a window that has not.
    async fn rows_come(&self, split: &str, and_then: impl FnOnce()) {
        after_steps(200).await;
        assert_eq!(actual(&self.table).len(), 2, "the first two windows have fired");
        self.log.append(split, minutes(&[(1, 5), (31, 6)]));
        and_then();
        after_steps(200).await;
        self.log.close();
    }

    fn check_that_one_row_was_late(&self, summary: &JobSummary) {
        let tally = &summary.ledger["log"]["out"];
        assert_eq!((tally.read, tally.late, tally.released), (6, 1, 5), "{tally:?}");
        let total: i64 = actual(&self.table).values().map(|(count, _)| count).sum();
        assert_eq!(total, 5, "what is released is in the result");
    }
}

#[tokio::test]
async fn a_split_that_was_idle_before_a_restart_takes_no_late_rows() {
    let (job, stop) = (HasIdleSplit::new(), CancellationToken::new());
    job.run_until_idle(&stop, async { stop.cancel() }).await;
    // It is caught up after the restart before the rows come, and not idle anew.
    let second = run(job.graph(), job.config(), CancellationToken::new());
    let (summary, ()) = tokio::join!(second, job.rows_come("silent", || {}));
    job.check_that_one_row_was_late(&summary.unwrap());
}

/// A silent split holds no window; those that carry it on take no rows of windows that have fired meanwhile.
#[tokio::test]
async fn children_of_an_idle_split_take_no_late_rows() {
    let job = HasIdleSplit::new();
    let divided = job.rows_come("child", || job.log.divide("silent", &["child"]));
    let summary = job.run_until_idle(&CancellationToken::new(), divided).await;
    job.check_that_one_row_was_late(&summary);
}

/// A log that fails once, when the job is asked to stop.
#[derive(Debug)]
struct FailsAtStop {
    log: MemoryLog,
    stop: CancellationToken,
    has_failed: Arc<AtomicBool>,
}

impl fmt::Display for FailsAtStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("log that fails")
    }
}

#[async_trait]
impl Source for FailsAtStop {
    fn boundedness(&self) -> Boundedness {
        self.log.boundedness()
    }

    fn decoder(&self, columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        self.log.decoder(columns)
    }

    async fn splits(&self, job: &JobContext) -> Result<Vec<Split>> {
        self.log.splits(job).await
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let reader = self.log.open(job, request).await?;
        Ok(Box::new(FailingReader { reader, stop: self.stop.clone(), has_failed: Arc::clone(&self.has_failed) }))
    }

    async fn acknowledge(&self, job: &JobContext, split: &SplitId, up_to: &Offset) -> Result<()> {
        self.log.acknowledge(job, split, up_to).await
    }
}

#[derive(Debug)]
struct FailingReader {
    reader: Box<dyn SplitReader>,
    stop: CancellationToken,
    has_failed: Arc<AtomicBool>,
}

#[async_trait]
impl SplitReader for FailingReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if self.stop.is_cancelled() && !self.has_failed.swap(true, Ordering::Relaxed) {
            return Err(Error::unavailable("the partition is not known yet"));
        }
        tokio::select! {
            biased;
            event = self.reader.next() => event,
            () = self.stop.cancelled(), if !self.has_failed.load(Ordering::Relaxed) => {
                self.has_failed.store(true, Ordering::Relaxed);
                Err(Error::unavailable("the partition is not known yet"))
            }
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        self.reader.assign(splits).await
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.reader.pause(splits);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.reader.resume(splits);
    }
}

#[tokio::test]
async fn a_job_that_fails_while_it_stops_still_takes_its_last_checkpoint() {
    let log = MemoryLog::new(false, 20);
    fill(&log, &events(5, 200), 2);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let (stop, has_failed) = (CancellationToken::new(), Arc::default());
    let mut graph = Arc::try_unwrap(graph(&log, &table, TUMBLE)).unwrap();
    for node in &mut graph.nodes {
        if let NodeKind::Source(source) = &mut node.kind {
            source.source =
                Arc::new(FailsAtStop { log: log.clone(), stop: stop.clone(), has_failed: Arc::clone(&has_failed) });
        }
    }
    let job = run(Arc::new(graph), config(Arc::new(MemoryStore::default()), 1), stop.clone());
    let asked = async {
        after_steps(300).await;
        stop.cancel();
    };
    let (stopped, ()) = tokio::join!(job, asked);
    assert!(has_failed.load(Ordering::Relaxed));
    assert_eq!(stopped.unwrap().manifest.unwrap().cut, crate::connector::Cut::Final);
}
