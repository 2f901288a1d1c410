//! Crashes at every operation, full disks at every byte, and what recovery makes of them.

use std::sync::Arc;

use headwater_engine::{catalog::Partition, error::ErrorKind, time::SystemClock};
use object_store::memory::InMemory;

use super::{
    Catalog, Later, LocalPlace, Place, Registrar, Site, StatementKind,
    faults::{Budget, Death, Faulty, FaultyCatalog},
    in_memory, is_committed, is_within, leftovers, new_content, old_content, on_disk, ours, site, theirs, write_old,
    write_statement,
};
use crate::lake::commit::{
    ABORT_RETENTION_MS, RETENTION_MS, Records,
    owner::Fate,
    protocol::{Facts, Own, Remains, Step, Verdict, after_own_roll_back, next_step},
    recover,
};

const KINDS: [StatementKind; 2] = [StatementKind::Append, StatementKind::Exclusive];
const DEATHS: [Death; 2] = [Death::Before, Death::After];

fn faulty(site: &Site, budget: &Arc<Budget>) -> Site {
    let catalog = site.registrar.clone();
    Site {
        place: Arc::new(Faulty { place: site.place.clone(), budget: budget.clone() }),
        registrar: Arc::new(FaultyCatalog { catalog, budget: budget.clone() }),
        ..site.clone()
    }
}

/// What must hold at any moment, whoever died where.
async fn check_state(site: &Site, kind: StatementKind, at: &str) {
    let seen = ours(site).await;
    assert!(seen == old_content() || seen == new_content(kind), "{at}: our readers see {seen:?}");
    let mut all = old_content();
    all.extend(new_content(kind));
    let everyone = theirs(site).await;
    assert!(is_within(&everyone, &all), "{at}: others see part of a file in {everyone:?}");
    if !is_committed(site).await && seen == old_content() {
        assert!(is_within(&everyone, &old_content()), "{at}: others see an uncommitted file in {everyone:?}");
    }
}

async fn check_recovered(site: &Site, kind: StatementKind, committed: bool, at: &str) {
    let expected = if committed { new_content(kind) } else { old_content() };
    assert_eq!(ours(site).await, expected, "{at}");
    assert_eq!(theirs(site).await, expected, "{at}");
    assert_eq!(leftovers(site).await, Vec::<String>::new(), "{at}");
}

/// Cuts the statement at every operation, lets the next one come, and returns how many operations there are.
async fn cut_everywhere<F: Fn() -> (T, Arc<dyn Place>, String), T>(kind: StatementKind, death: Death, fresh: F) -> i64 {
    for operation in 0.. {
        let at = format!("{kind:?}, death {death:?} operation {operation}");
        let (_guard, place, root) = fresh();
        let catalog = Arc::new(Catalog::default());
        let now = site(place, catalog.clone(), &root, Arc::new(SystemClock));
        write_old(&*now.place, &root).await;
        let budget = Budget::dies_after(operation, death);
        let outcome = write_statement(faulty(&now, &budget), kind).await;
        check_state(&now, kind, &at).await;
        if !budget.is_dead() {
            outcome.unwrap();
            check_recovered(&now, kind, true, &at).await;
            return operation;
        }
        let committed = is_committed(&now).await;
        let later = Site { clock: Arc::new(Later), ..now };
        assert_eq!(recover(&later).await.unwrap(), Vec::<String>::new(), "{at}");
        check_recovered(&later, kind, committed, &at).await;
        assert_eq!(catalog.0.lock().len(), usize::from(committed), "{at}: partitions");
    }
    unreachable!("the loop ends when the statement does")
}

#[tokio::test]
async fn a_crash_at_every_operation_leaves_the_old_or_the_new_state_in_a_store() {
    for kind in KINDS {
        for death in DEATHS {
            let operations =
                cut_everywhere(kind, death, || ((), Arc::new(in_memory(InMemory::new())) as _, "b/t".to_owned())).await;
            assert!(operations > 25, "{operations}");
        }
    }
}

#[tokio::test]
async fn a_crash_at_every_operation_leaves_the_old_or_the_new_state_on_disk() {
    for kind in KINDS {
        for death in DEATHS {
            let fresh = || {
                let (folder, root) = on_disk();
                (folder, Arc::new(LocalPlace) as _, root)
            };
            assert!(cut_everywhere(kind, death, fresh).await > 25);
        }
    }
}

#[tokio::test]
async fn recovery_may_be_cut_at_every_operation_too() {
    for kind in KINDS {
        for first in 0.. {
            let store = InMemory::new();
            let catalog = Arc::new(Catalog::default());
            let now = site(Arc::new(in_memory(store.fork())), catalog, "t", Arc::new(SystemClock));
            write_old(&*now.place, "t").await;
            let budget = Budget::dies_after(first, Death::After);
            let _ = write_statement(faulty(&now, &budget), kind).await;
            if !budget.is_dead() {
                break;
            }
            let committed = is_committed(&now).await;
            let mut second = 0;
            loop {
                let later = Site { clock: Arc::new(Later), ..now.clone() };
                let budget = Budget::dies_after(second, Death::After);
                let _ = recover(&faulty(&later, &budget)).await;
                let at = format!("{kind:?} cut at {first}, recovery cut at {second}");
                check_state(&later, kind, &at).await;
                if !budget.is_dead() {
                    check_recovered(&later, kind, committed, &at).await;
                    break;
                }
                second += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_at_every_byte_leaves_nothing_or_is_finished_by_the_next() {
    for kind in KINDS {
        for bytes in (0..).step_by(41) {
            let (_folder, root) = on_disk();
            let now = site(Arc::new(LocalPlace), Arc::new(Catalog::default()), &root, Arc::new(SystemClock));
            write_old(&*now.place, &root).await;
            let budget = Budget::full_after(bytes);
            let outcome = write_statement(faulty(&now, &budget), kind).await;
            let at = format!("{kind:?} full after {bytes} bytes");
            check_state(&now, kind, &at).await;
            if !budget.was_full() {
                outcome.unwrap();
                break;
            }
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Limit, "{at}");
            let committed = is_committed(&now).await;
            if !committed {
                check_recovered(&now, kind, false, &at).await;
            }
            let later = Site { clock: Arc::new(Later), ..now };
            recover(&later).await.unwrap();
            check_recovered(&later, kind, committed, &at).await;
        }
    }
}

#[tokio::test]
async fn a_place_without_hidden_uploads_copies_and_is_the_same() {
    let store = Arc::new(InMemory::new());
    let place = super::ObjectPlace::new(store, None).with_part_bytes(super::PART);
    let now = site(Arc::new(place), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    write_old(&*now.place, "t").await;
    write_statement(now.clone(), StatementKind::Append).await.unwrap();
    check_recovered(&now, StatementKind::Append, true, "copied").await;
}

#[tokio::test]
async fn two_statements_at_once_both_land() {
    for (_, place, root) in [(None, Arc::new(in_memory(InMemory::new())) as Arc<dyn Place>, "t".to_owned()), {
        let (folder, root) = on_disk();
        (Some(folder), Arc::new(LocalPlace) as _, root)
    }] {
        let now = site(place, Arc::new(Catalog::default()), &root, Arc::new(SystemClock));
        let (first, second) = tokio::join!(
            write_statement(now.clone(), StatementKind::Append),
            write_statement(now.clone(), StatementKind::Append)
        );
        first.unwrap();
        second.unwrap();
        assert_eq!(ours(&now).await.len(), 6);
    }
}

#[tokio::test]
async fn replacements_of_one_partition_happen_one_after_another() {
    let now = site(Arc::new(in_memory(InMemory::new())), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    write_old(&*now.place, "t").await;
    let statements = (0..5).map(|_| write_statement(now.clone(), StatementKind::Exclusive));
    for outcome in futures::future::join_all(statements).await {
        outcome.unwrap();
    }
    assert_eq!(ours(&now).await, new_content(StatementKind::Exclusive));
    assert_eq!(now.place.list("t/_headwater/claims").await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_owner_that_wakes_up_after_its_abort_fails_and_leaves_nothing() {
    let now = site(Arc::new(in_memory(InMemory::new())), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    write_old(&*now.place, "t").await;
    let sleeper = super::Transaction::begin(now.clone(), StatementKind::Append).await.unwrap();
    let files = super::stage_all(&sleeper, "t").await.unwrap();
    recover(&Site { clock: Arc::new(Later), ..now.clone() }).await.unwrap();
    let error = sleeper.commit(super::Effect { files, ..Default::default() }).await.unwrap_err();
    assert_eq!((error.kind(), error.code().0), (ErrorKind::Conflict, "TRANSACTION_CONFLICT"));
    check_recovered(&now, StatementKind::Append, false, "after waking up").await;
}

#[tokio::test]
async fn records_are_collected_after_their_retention() {
    #[derive(Debug)]
    struct NextWeek;
    impl headwater_engine::time::Clock for NextWeek {
        fn now(&self) -> headwater_engine::time::Instant {
            headwater_engine::time::Instant(SystemClock.now().0 + ABORT_RETENTION_MS + 60_000)
        }
    }
    let now = site(Arc::new(in_memory(InMemory::new())), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    for _ in 0..3 {
        write_statement(now.clone(), StatementKind::Append).await.unwrap();
    }
    assert_eq!(now.place.list("t/_headwater").await.unwrap().len(), 6);
    recover(&Site { clock: Arc::new(NextWeek), ..now.clone() }).await.unwrap();
    assert_eq!(now.place.list("t/_headwater").await.unwrap().len(), 0);
    assert_eq!(ours(&now).await.len(), 9);
}

#[tokio::test]
async fn a_dropped_statement_is_rolled_back() {
    let now = site(Arc::new(in_memory(InMemory::new())), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    let dropped = super::Transaction::begin(now.clone(), StatementKind::Append).await.unwrap();
    super::stage_all(&dropped, "t").await.unwrap();
    drop(dropped);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(leftovers(&now).await, Vec::<String>::new());
}

/// Whoever finishes a statement with another catalog publishes it and registers nothing; its own catalog does later.
#[tokio::test]
async fn a_statement_is_registered_in_its_own_catalog_whoever_finishes_it() {
    let mut left_to_others = 0;
    for operation in 0.. {
        let catalog = |name| Arc::new(Catalog(Default::default(), Some(name)));
        let (own, foreign) = (catalog("own"), catalog("foreign"));
        let now = site(Arc::new(in_memory(InMemory::new())), own.clone(), "t", Arc::new(SystemClock));
        write_old(&*now.place, "t").await;
        let budget = Budget::dies_after(operation, Death::After);
        let _ = write_statement(faulty(&now, &budget), StatementKind::Append).await;
        if !budget.is_dead() {
            break;
        }
        if !is_committed(&now).await {
            continue;
        }
        left_to_others += usize::from(own.0.lock().is_empty());
        let elsewhere = Site { clock: Arc::new(Later), registrar: foreign.clone(), ..now.clone() };
        for _ in 0..2 {
            assert_eq!(recover(&elsewhere).await.unwrap(), Vec::<String>::new());
            assert_eq!(ours(&elsewhere).await, new_content(StatementKind::Append), "cut at {operation}");
            assert_eq!(foreign.0.lock().len(), 0, "cut at {operation}");
        }
        let mut records = Records::default();
        now.place.list("t/_headwater").await.unwrap().iter().for_each(|entry| records.add(&entry.path));
        // It may have died after it had registered and before anybody knew.
        assert!(records.waits_for_catalog || !own.0.lock().is_empty(), "cut at {operation}");
        let later = Site { clock: Arc::new(Later), ..now };
        assert_eq!(recover(&later).await.unwrap(), Vec::<String>::new());
        assert_eq!(own.0.lock().len(), 1, "cut at {operation}");
        assert_eq!(leftovers(&later).await, Vec::<String>::new(), "cut at {operation}");
    }
    assert!(left_to_others > 0);
}

#[derive(Debug)]
struct Taken;

#[async_trait::async_trait]
impl Registrar for Taken {
    async fn register(&self, _effect: &super::Effect) -> headwater_engine::error::Result<()> {
        Err(headwater_engine::error::Error::user("TABLE_ALREADY_EXISTS", "table \"d.t\" already exists"))
    }

    async fn catalog(&self) -> headwater_engine::error::Result<Option<String>> {
        Ok(None)
    }
}

#[test]
fn every_row_of_the_table_has_its_step() {
    let dead = Fate::Dead;
    let row = |begun, decision, done, owner, age_ms| next_step(Facts { begun, decision, done, owner, age_ms });
    let (commit, abort) = (Some(Verdict::Commit), Some(Verdict::Abort));
    assert_eq!(row(true, None, false, Fate::Alive, 0), Step::Leave);
    assert_eq!(row(true, None, false, dead, 0), Step::DecideAbort);
    assert_eq!(row(true, abort, false, Fate::Alive, 0), Step::RollBack);
    assert_eq!(row(true, abort, false, dead, 0), Step::RollBack);
    assert_eq!(row(true, commit, false, Fate::Alive, 0), Step::Leave);
    assert_eq!(row(true, commit, false, dead, 0), Step::Finish);
    assert_eq!(row(true, commit, true, Fate::Alive, 0), Step::Leave);
    assert_eq!(row(true, commit, true, dead, 0), Step::Clean);
    assert_eq!(row(false, commit, true, dead, RETENTION_MS), Step::Leave);
    assert_eq!(row(false, commit, true, dead, RETENTION_MS + 1), Step::Collect);
    assert_eq!(row(false, abort, false, dead, ABORT_RETENTION_MS), Step::Leave);
    assert_eq!(row(false, abort, false, dead, ABORT_RETENTION_MS + 1), Step::Collect);
    assert_eq!(row(false, None, true, dead, 0), Step::Collect);
}

#[test]
fn every_row_of_an_owner_that_undoes_its_own_has_its_remains() {
    for begun in [Some(true), Some(false), None] {
        for dropped in [false, true] {
            let remains = |asked| after_own_roll_back(Own { asked, begun, dropped });
            assert_eq!(remains(true), Remains::Keep, "a late commit is kept out: {begun:?} {dropped}");
            let expected = match (dropped, begun) {
                (true, _) => Remains::DeleteAbortAndClaims,
                (false, Some(false)) => Remains::DeleteAbort,
                (false, Some(true) | None) => Remains::Keep,
            };
            assert_eq!(remains(false), expected, "{begun:?} {dropped}");
        }
    }
}

/// The walk through all facts: each step leads to facts whose step is another one, until there is nothing to do.
#[test]
fn every_walk_ends() {
    for begun in [false, true] {
        for decision in [None, Some(Verdict::Commit), Some(Verdict::Abort)] {
            for done in [false, true] {
                let mut facts = Facts { begun, decision, done, owner: Fate::Dead, age_ms: ABORT_RETENTION_MS + 1 };
                let mut steps = Vec::new();
                loop {
                    let step = next_step(facts);
                    assert!(!steps.contains(&step), "{step:?} again from {begun} {decision:?} {done}");
                    steps.push(step);
                    match step {
                        Step::Leave | Step::Collect => break,
                        Step::DecideAbort => facts.decision = Some(Verdict::Abort),
                        Step::Finish => facts.done = true,
                        Step::RollBack | Step::Clean => facts.begun = false,
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_table_created_by_another_meanwhile_undoes_the_statement() {
    let now = site(Arc::new(in_memory(InMemory::new())), Arc::new(Taken), "t", Arc::new(SystemClock));
    let transaction = super::Transaction::begin(now.clone(), StatementKind::Exclusive).await.unwrap();
    let files = super::stage_all(&transaction, "t").await.unwrap();
    let effect = super::Effect { files, creates: Some(Box::new(some_table())), ..Default::default() };
    let error = transaction.commit(effect).await.unwrap_err();
    assert_eq!(error.code().0, "TABLE_ALREADY_EXISTS");
    assert_eq!(theirs(&now).await, Vec::new());
    assert_eq!(leftovers(&now).await, Vec::<String>::new());
}

fn some_table() -> headwater_engine::catalog::Table {
    use headwater_engine::catalog::{FileFormat, PartitionDiscovery, Storage, Table, TableKind, TableName};
    let storage = Storage {
        format: FileFormat::Json,
        serde: None,
        serde_properties: Default::default(),
        input_format: None,
        output_format: None,
    };
    Table {
        name: TableName::new("d", "t"),
        kind: TableKind::Managed,
        columns: Vec::new(),
        partition_keys: Vec::new(),
        storage,
        location: "t".into(),
        discovery: PartitionDiscovery::Registered,
        properties: Default::default(),
        comment: None,
        version: 0,
    }
}

#[test]
fn partitions_in_records_survive_unusual_values() {
    let partition = Partition {
        values: vec![None, Some("a=b/c \"quoted\" ü".into())],
        location: Some("s3://b/x".into()),
        columns: None,
        properties: Default::default(),
    };
    let effect = super::Effect {
        partitions: Some(super::Partitions {
            table: headwater_engine::catalog::TableName::new("d", "t"),
            added: vec![partition],
        }),
        ..Default::default()
    };
    let decision = crate::lake::commit::Decision::Commit(Box::new(effect));
    let bytes = crate::lake::commit::record::encode(&decision).unwrap();
    let again: crate::lake::commit::Decision = crate::lake::commit::record::decode("x", &bytes).unwrap();
    assert_eq!(again, decision);
}
