//! One attempt of a job: claim the log, recover, build the tasks, run them, tear them down.
//!
//! Invariant: nothing outside is touched before the claim is won, and sinks recover before anything is committed.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::{
        log::{Claimant, Claimed, Log, LogFence},
        manifest::Manifest,
        protocol::{self, GoBackStep, LogView, RecoveryStep},
    },
    connector::{Bound, CommitFacts, Fence, Guarantee, JobContext},
    error::{Error, ErrorKind, Result},
    graph::{Graph, NodeKind},
    hash::{HASH_VERSION, KEY_GROUPS},
    memory::MemoryBudget,
    message::{Epoch, Generation},
    runtime::{
        build::{Builder, TableParts},
        commit::Delivery,
        coordinator::{Begin, Coordinator, Pace},
        job::{GoBackTo, JobConfig},
        progress::TableProgress,
        rejections::Rejections,
        source_head::Shared,
        splits::SplitTable,
        table_run::TableRun,
    },
    time::{Clock, Watermark},
    verdict::{self, Verdict},
};

/// Runs a job once, until it is done, stopped or has failed; the newest manifest. The first attempt that knows where it
/// goes on notes what was rejected before.
pub(super) async fn attempt(
    graph: &Arc<Graph>,
    config: &JobConfig,
    stop: &CancellationToken,
    begun: &mut Option<Rejections>,
) -> Result<Option<Manifest>> {
    let log = Log::new(Arc::clone(&config.store), &config.name, Arc::clone(&config.clock));
    let view = log.read_all().await?;
    check_script(config, &view)?;
    let wanted = chosen_epoch(graph, config, &view)?;
    let claimant =
        Claimant { host: config.host.clone(), pid: config.pid, script: config.script.clone(), restored_from: wanted };
    let claimed = log.claim(&claimant).await?;
    let restored = restored_manifest(&claimed, wanted)?;
    let newest = claimed.before.manifests().last();
    let undelivered = newest.filter(|newest| !claimed.before.is_committed(newest.epoch));
    check_state(graph, config, restored.as_ref(), undelivered)?;
    let restored = restored.map(|manifest| verdict::taken_up(graph, manifest));
    begun.get_or_insert_with(|| Rejections::of(restored.as_ref()));
    let job = job_context(config, &log, &claimed)?;
    let delivery = Delivery { log: log.clone(), graph: Arc::clone(graph), job: job.clone(), keep: config.retained };
    let fence = Arc::clone(&job.fence);
    let work = async {
        recover(&delivery, &claimed, restored.as_ref()).await?;
        run(graph, config, delivery, claimed, restored, stop).await
    };
    match work.await {
        Err(error) => Err(overtaken(fence.as_ref(), error).await),
        done => done,
    }
}

/// Why an attempt failed: when a later one has moved on what this one looked at, that is the reason, whatever it saw.
async fn overtaken(fence: &dyn Fence, error: Error) -> Error {
    let is_of_its_own =
        matches!(error.kind(), ErrorKind::User | ErrorKind::Data | ErrorKind::Denied | ErrorKind::Internal);
    if !is_of_its_own {
        return error;
    }
    match fence.check().await {
        Err(fenced) if fenced.kind() == ErrorKind::Fenced => fenced,
        Ok(()) | Err(_) => error,
    }
}

fn check_script(config: &JobConfig, view: &LogView) -> Result<()> {
    match view.holder() {
        Some(claim) if !config.any_script && claim.script != config.script && !claim.script.is_empty() => {
            let message =
                format!("job \"{}\" belongs to \"{}\", not to \"{}\"", config.name, claim.script, config.script);
            Err(Error::user("ALREADY_EXISTS", message).with_hint("name this job with --job, or use another --state"))
        }
        _ => Ok(()),
    }
}

fn chosen_epoch(graph: &Graph, config: &JobConfig, view: &LogView) -> Result<Option<Epoch>> {
    let found = match &config.from_checkpoint {
        None => return Ok(None),
        Some(GoBackTo::Epoch(epoch)) => view.manifest(*epoch),
        Some(GoBackTo::Savepoint(name)) => view.savepoint(name),
    };
    let Some(epoch) = found.map(|manifest| manifest.epoch) else {
        let kept = view.manifests().map(|manifest| manifest.epoch.0.to_string());
        let named = view.savepoints.iter().map(|(name, _)| name.clone());
        let kept: Vec<String> = kept.chain(named).collect();
        let what = config.from_checkpoint.as_ref().map(ToString::to_string).unwrap_or_default();
        let message = format!("job \"{}\" has no {what}", config.name);
        return Err(Error::user("NOT_FOUND", message).with_hint(match kept.is_empty() {
            true => "it has no checkpoint at all".to_owned(),
            false => format!("there are: {}", kept.join(", ")),
        }));
    };
    let exactly_once = graph
        .nodes
        .iter()
        .any(|node| matches!(&node.kind, NodeKind::Sink(sink) if sink.sink.guarantee() == Guarantee::ExactlyOnce));
    match protocol::go_back_step(epoch, view.last_epoch(), exactly_once, config.allow_repeat) {
        GoBackStep::Allowed => Ok(Some(epoch)),
        GoBackStep::WouldRepeat => {
            let message =
                format!("going back to checkpoint {} repeats output that was delivered exactly once", epoch.0);
            Err(Error::user("NOT_SUPPORTED", message).with_hint("add --allow-repeat to do it all the same"))
        }
    }
}

fn restored_manifest(claimed: &Claimed, wanted: Option<Epoch>) -> Result<Option<Manifest>> {
    let Some(epoch) = wanted else { return Ok(claimed.before.current().cloned()) };
    let found = claimed.before.manifest(epoch);
    let gone = || Error::user("NOT_FOUND", format!("checkpoint {} was collected meanwhile", epoch.0));
    found.cloned().map(Some).ok_or_else(gone)
}

/// Refuses to lose state that nothing takes up, unless that was asked for.
fn check_state(
    graph: &Graph,
    config: &JobConfig,
    restored: Option<&Manifest>,
    undelivered: Option<&Manifest>,
) -> Result<()> {
    let is_other = |manifest: &&Manifest| manifest.hash_version != HASH_VERSION || manifest.key_groups != KEY_GROUPS;
    if let Some(manifest) = restored.filter(is_other) {
        return Err(Error::not_supported(format!(
            "the checkpoint was laid out by key hash {} over {} groups, this version uses {HASH_VERSION} over {KEY_GROUPS}",
            manifest.hash_version, manifest.key_groups
        )));
    }
    let dropped = dropped_state(graph, restored, undelivered);
    if dropped.is_empty() || config.allow_drop {
        return Ok(());
    }
    let message = format!("the query has changed and would drop state: {}", dropped.join("; "));
    Err(Error::user("NOT_SUPPORTED", message)
        .with_hint("see headwater explain FILE --against JOB; add --allow-drop to go on without that state"))
}

/// State of a checkpoint, and rows of an epoch that is published but not committed, that a graph has no use for.
pub(super) fn dropped_state(graph: &Graph, restored: Option<&Manifest>, undelivered: Option<&Manifest>) -> Vec<String> {
    let state = restored.into_iter().flat_map(|manifest| verdict::against(graph, manifest));
    let rows = undelivered.into_iter().flat_map(|manifest| verdict::undelivered(graph, manifest));
    let dropped = state.chain(rows).filter(|state| state.verdict == Verdict::Dropped);
    dropped.map(|state| format!("\"{}\" {}", state.node, state.reason)).collect()
}

fn job_context(config: &JobConfig, log: &Log, claimed: &Claimed) -> Result<JobContext> {
    let local_state = config.local_state.join(&config.name);
    let spill = local_state.join("spill");
    match std::fs::remove_dir_all(&spill) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::from(error)),
        _ => {}
    }
    std::fs::create_dir_all(&local_state)?;
    Ok(JobContext {
        job: config.name.clone(),
        incarnation: claimed.claim.incarnation.clone(),
        generation: claimed.claim.generation,
        local_state,
        clock: Arc::clone(&config.clock),
        memory: MemoryBudget::new(config.memory_limit),
        fence: Arc::new(LogFence::new(log.clone(), claimed.claim.generation)),
        parallelism: config.parallelism.clamp(1, usize::from(KEY_GROUPS)),
    })
}

/// Checks the sinks, lets them clean up, and finishes a commit that was cut off.
async fn recover(delivery: &Delivery, claimed: &Claimed, restored: Option<&Manifest>) -> Result<()> {
    let newest = claimed.before.manifests().last();
    let published = newest.map(|manifest| manifest.epoch);
    let committed = claimed.before.committed.iter().copied().filter(|epoch| Some(*epoch) <= published).max();
    let before = committed.and_then(|epoch| claimed.before.manifest(epoch));
    for node in &delivery.graph.nodes {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        let named = |error: Error| error.context(format!("sink \"{}\"", sink.table));
        let had_part = before.is_some_and(|manifest| verdict::delivered_by(manifest, &node.name, sink));
        let facts = CommitFacts { insert: sink.insert.clone(), published, committed: committed.filter(|_| had_part) };
        sink.sink.check(&delivery.job, Arc::clone(&sink.schema)).await.map_err(named)?;
        sink.sink.recover(&delivery.job, &facts).await.map_err(named)?;
    }
    let is_committed = published.is_some_and(|epoch| claimed.before.is_committed(epoch));
    match (protocol::recovery_step(restored.map(|manifest| manifest.epoch), published, is_committed), newest) {
        (RecoveryStep::CommitThenRestore(_), Some(manifest)) => delivery.commit(manifest).await,
        (RecoveryStep::Fresh | RecoveryStep::Restore(_) | RecoveryStep::CommitThenRestore(_), _) => Ok(()),
    }
}

async fn run(
    graph: &Arc<Graph>,
    config: &JobConfig,
    delivery: Delivery,
    claimed: Claimed,
    restored: Option<Manifest>,
    stop: &CancellationToken,
) -> Result<Option<Manifest>> {
    let job = delivery.job.clone();
    let mut tables = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let NodeKind::Source(source) = &node.kind {
            tables.push(open_table(index, &node.name, source, &job, restored.as_ref(), config.once).await?);
        }
    }
    let counts: HashMap<usize, usize> =
        tables.iter().map(|table| (table.node, table.splits.open_marks().len())).collect();
    let last_epoch = claimed.before.last_epoch();
    config.metrics.begin(&job.memory);
    let (mut builder, events) = Builder::new(graph, &job, &delivery.log, restored.as_ref(), &counts);
    builder.metrics = Arc::clone(&config.metrics);
    builder.rejected_max_rate = config.rejected_max_rate;
    builder.epoch = last_epoch.next();
    builder.bound = if config.once { Bound::EndNow } else { Bound::Table };
    let cancel = builder.cancel.clone();
    let _cancel_on_drop = cancel.drop_guard();
    let mut parts = HashMap::new();
    for table in &mut tables {
        let tasks = builder.tasks.get(&table.node).copied().unwrap_or(1);
        table.splits.set_tasks(tasks);
        let assigned = table.splits.assign();
        parts.insert(table.node, TableParts { assigned, progress: Arc::clone(&table.progress) });
    }
    let (tasks, mut commands) = builder.build(parts).await?;
    for table in &mut tables {
        table.commands = commands.remove(&table.node).unwrap_or_default();
    }
    let named = graph.operator_names();
    let traffic = restored.iter().flat_map(|manifest| manifest.traffic.clone());
    let begin = Begin {
        last_epoch,
        log_number: claimed.number,
        running_ms: restored.as_ref().map_or(0, |manifest| manifest.running_ms),
        sinks: restored.as_ref().map(|manifest| manifest.sinks.clone()).unwrap_or_default(),
        segments: restored.as_ref().map(|manifest| manifest.segments.clone()).unwrap_or_default(),
        traffic: traffic.filter(|(name, _)| named.contains(name)).collect(),
    };
    let pace = Pace { interval: config.interval, once: config.once, retention: config.rejected_retention };
    let count = tasks.len();
    let mut set = JoinSet::new();
    for task in tasks {
        set.spawn(task.run());
    }
    let (log, generation) = (delivery.log.clone(), job.generation);
    let coordinator = Coordinator::new(delivery, pace, begin, tables, count)
        .watched_by(config.observer.clone(), Arc::clone(&config.metrics));
    let stop = stop.child_token();
    tokio::select! {
        biased;
        done = coordinator.run(set, events, &stop) => done,
        never = stop_when_asked(&log, generation, &job.clock, &stop) => match never {},
    }
}

/// How often the store is asked whether somebody wants the job to stop.
const STOP_ASKED: Duration = Duration::from_secs(2);

/// Cancels `stop` once a request for this attempt lies in the store; never ends.
async fn stop_when_asked(
    log: &Log,
    generation: Generation,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Infallible {
    let path = log.paths().stop(generation);
    loop {
        clock.sleep(STOP_ASKED).await;
        // A store that does not answer now is asked again.
        if let Ok(Some(_)) = log.store().get(&path).await {
            tracing::info!(generation = generation.0, "the job is asked to stop");
            stop.cancel();
            let _asked_once = log.store().delete(&path).await;
            return std::future::pending().await;
        }
    }
}

async fn open_table(
    node: usize,
    name: &str,
    source: &crate::graph::SourceNode,
    job: &JobContext,
    restored: Option<&Manifest>,
    once: bool,
) -> Result<TableRun> {
    let state = restored.and_then(|manifest| manifest.sources.get(name));
    let released = state.and_then(|state| state.watermark).unwrap_or(Watermark::MIN);
    let gated = source.source.discovery_holds_watermark() && source.source.discovery_interval().is_some() && !once;
    let mut progress = TableProgress::new(released, gated);
    let mut splits = SplitTable::restore(state, 1);
    let origin = state.map_or("", |state| state.origin.as_str());
    splits.give_up(|split| !source.source.keeps(split, origin));
    let listing = source.source.splits(job).await;
    let listing = listing.map_err(|error| error.context(format!("table \"{}\"", source.table)))?;
    splits.listed(listing, released);
    for (split, watermark) in splits.open_marks() {
        progress.join(split, watermark);
    }
    for state in state.iter().flat_map(|state| &state.splits).filter(|split| split.idle) {
        let watermark = state.watermark.unwrap_or(Watermark::MIN);
        progress.report(&state.split.id, crate::runtime::progress::Mark { watermark, idle: true, backlog: false });
    }
    let mut table = TableRun {
        node,
        name: name.to_owned(),
        table: source.table.clone(),
        source: Arc::clone(&source.source),
        splits,
        progress: Shared::new(progress),
        commands: Vec::new(),
        next_discovery: None,
        next_haste: None,
        ended: false,
    };
    if !once {
        table.schedule_discovery(job.clock.now());
    }
    Ok(table)
}
