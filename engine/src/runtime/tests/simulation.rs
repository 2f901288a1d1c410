//! Thousands of small lives of a job: crashes at random instructions, stores and sinks that fail, hesitate, lose replies and
//! deliver twice, splits that appear and divide, second copies.
//!
//! Invariant: a run is a function of its seed. After each life what is visible is a part of the true result, and the newest
//! checkpoint's ledger is what its offsets and its watermark say it must be; at the end both are complete.

use futures::{StreamExt, stream::FuturesUnordered};

use super::{faults::FaultySink, *};
use crate::{
    accounts::Tally,
    checkpoint::{log::Log, manifest::Manifest},
    connector::Sink,
    error::ErrorKind,
    testing::FaultyStore,
};

/// Seeds of a run of the tests.
const SEEDS: u64 = 2_000;
/// Share of the calls to the store and to the sink that fail.
const FAILURES: f64 = 0.05;
const EVENTS: i64 = 180;

/// What outlives every crash.
struct World {
    seed: u64,
    spec: WindowSpec,
    log: MemoryLog,
    /// What each split holds.
    splits: BTreeMap<String, Vec<Event>>,
    table: MemoryTable,
    memory: Arc<dyn CheckpointStore>,
    events: Vec<Event>,
    /// Checkpoints kept: with few of them, what a slow copy has read is collected while it hesitates.
    retained: usize,
}

impl World {
    fn new(seed: u64, random: &mut SmallRng) -> Self {
        let spec = [TUMBLE, HOP, CUMULATE, SESSION][random.random_range(0..4)];
        let table = MemoryTable::new(ChangelogMode::Append, random.random_range(1..4));
        let log = MemoryLog::new(false, random.random_range(1..40));
        let memory = Arc::new(MemoryStore::default());
        let (splits, retained) = (BTreeMap::new(), random.random_range(1..6));
        Self { seed, spec, log, splits, table, memory, events: events(seed, EVENTS), retained }
    }

    fn append(&mut self, split: &str, events: &[Event]) {
        self.log.append(split, rows(events));
        self.splits.entry(split.to_owned()).or_default().extend_from_slice(events);
    }

    /// Splits are filled before they are read: with rows that arrive while a split is open, lateness would depend on the
    /// crash. Splits that appear later have newer rows, which are late nowhere.
    fn begin(&mut self) {
        let oldest = self.events[..120].to_vec();
        for split in 0..3 {
            let part: Vec<Event> = oldest.iter().skip(split).step_by(3).cloned().collect();
            self.append(&format!("split-{split}"), &part);
        }
    }

    /// A split appears.
    fn appear(&mut self) {
        let part = self.events[120..150].to_vec();
        self.append("split-new", &part);
    }

    /// A split ends in two others.
    fn divide(&mut self) {
        let part = self.events[150..].to_vec();
        let (left, right): (Vec<Event>, Vec<Event>) = part.into_iter().partition(|event| event.2 % 2 == 0);
        self.append("split-1-left", &left);
        self.append("split-1-right", &right);
        self.log.divide("split-1", &["split-1-left", "split-1-right"]);
    }

    async fn copy(&self, life: u64, parallelism: usize) -> crate::error::Result<JobSummary> {
        let seed = self.seed * 1_000 + life;
        let sink = Arc::new(FaultySink::by_seed(&self.table, seed, FAILURES)) as Arc<dyn Sink>;
        let store = Arc::new(FaultyStore::new(Arc::clone(&self.memory), seed, FAILURES));
        let config = JobConfig { retained: self.retained, ..config(store, parallelism) };
        run(graph_into(&self.log, self.spec, sink), config, CancellationToken::new()).await
    }

    /// One copy or two of the job, until the power goes.
    async fn live(&self, life: u64, random: &mut SmallRng) {
        let copies = if random.random_bool(0.25) { 2 } else { 1 };
        let most = 1 << random.random_range(5..11);
        let steps = random.random_range(10..10 + most);
        let running = (0..copies).map(|copy| self.copy(life * 10 + copy, random.random_range(1..4)));
        let mut running: FuturesUnordered<_> = running.collect();
        let mut power = std::pin::pin!(after_steps(steps));
        loop {
            tokio::select! {
                biased;
                Some(ended) = running.next() => {
                    let fenced = copies == 2 && ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced);
                    assert!(fenced, "a job over an open log ended: {:?}", ended.map(|_| ()));
                }
                () = &mut power => return,
            }
        }
    }

    fn expected(&self) -> Result_ {
        match self.spec {
            WindowSpec::Session { gap } => expected_sessions(&self.events, gap / 1000),
            spec => expected(&self.events, spec),
        }
    }

    /// What is visible is part of the result; the newest checkpoint accounts for exactly the rows before its offsets.
    async fn check(&self) {
        let clock: Arc<dyn crate::time::Clock> = Arc::new(StepClock::new(Instant(START)));
        let view = Log::new(Arc::clone(&self.memory), "job", clock).read_all().await.unwrap();
        let visible = actual(&self.table);
        let Some(manifest) = view.current() else {
            assert!(visible.is_empty(), "rows are visible before any checkpoint");
            return;
        };
        let expected = self.expected();
        for (window, values) in &visible {
            assert_eq!(expected.get(window), Some(values), "{window:?} is visible");
        }
        self.check_ledger(manifest);
    }

    fn check_ledger(&self, manifest: &Manifest) {
        let source = &manifest.sources["source:log"];
        let watermark = source.watermark.map_or(i64::MIN, |watermark| watermark.0);
        for split in &source.splits {
            let read: usize = split.offset.as_ref().map_or(0, |offset| offset.0.parse().unwrap());
            let all = &self.splits[&*split.split.id.0];
            assert!(read <= all.len(), "{} is read beyond its end", split.split.id);
            let account = split.account.get("out").cloned().unwrap_or_default();
            let kept: Vec<&Event> = all[..read].iter().filter(|event| event.2 >= 0).collect();
            let filtered = (read - kept.len()) as u64;
            let mut truth = Tally { read: read as u64, filtered, ..Tally::default() };
            match self.spec {
                // When a session ends is not known from one of its rows.
                WindowSpec::Session { .. } => {
                    (truth.held, truth.released) = (account.held.clone(), kept.len() as u64 - account.held_rows());
                    assert!(account.held.keys().all(|end| *end > watermark), "{account:?} at {watermark}");
                }
                spec => {
                    for event in kept {
                        let windows = spec.windows_of_pane(spec.pane_of(event.1 * 1000));
                        let end = windows.iter().map(|window| window.end).max().unwrap();
                        *truth.held.entry(end).or_default() += 1;
                    }
                    truth.release(crate::time::Watermark(watermark));
                }
            }
            assert_eq!(account, truth, "the ledger of {} at watermark {watermark}", split.split.id);
        }
    }
}

async fn simulate(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(seed, &mut random);
    world.begin();
    let lives = random.random_range(1..8u64);
    let (appears, divides) = (random.random_range(0..=lives), random.random_range(0..=lives));
    for life in 0..=lives {
        if life == appears {
            world.appear();
        }
        if life == divides {
            world.divide();
        }
        if life < lives {
            world.live(life, &mut random).await;
            world.check().await;
        }
    }
    world.log.close();
    let first = world.copy(990, random.random_range(1..4));
    let summary = if random.random_bool(0.3) {
        // Two copies at once: one is fenced, or comes after the other has finished; the result is one.
        let (first, second) = tokio::join!(first, world.copy(991, 2));
        let fenced = [&first, &second].iter().filter(|ended| ended.is_err()).count();
        assert!(fenced <= 1, "{first:?} {second:?}");
        first.or(second)
    } else {
        first.await
    };
    check_ledger(&summary.unwrap(), &world.events);
    world.check().await;
    assert_eq!(actual(&world.table), world.expected());
}

/// `HEADWATER_SEEDS=n` runs n seeds, two at a time, `HEADWATER_SEED=n` that one alone.
#[test]
fn crashes_lost_replies_and_second_copies_change_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("HEADWATER_SEED");
    let seeds = one.map_or(0..number("HEADWATER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    if std::panic::catch_unwind(|| runtime.block_on(simulate(seed))).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "HEADWATER_SEED=n repeats each of these: {failed:?}");
}
