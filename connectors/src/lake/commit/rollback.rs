//! How an owner undoes its own statement: after an error, or dropped.
//!
//! Invariant: what was staged goes first, whatever else can be found out; a decision that was asked for stays kept out.

use headwater_engine::error::Result;

use super::{
    claim::Queue,
    protocol::{self, Action, Own, Remains, Step},
    record::{self, RecordKind},
    recovery::{apply, apply_all},
    statement::StatementId,
    transaction::Site,
};

/// Undoes a statement that has `asked` for its decision or not, and whose table is known to be `dropped` or not.
pub(super) async fn roll_back(site: &Site, id: StatementId, asked: bool, dropped: bool) -> Result<()> {
    let begin = site.place.read(&record::path(&site.root, id, RecordKind::Begin)).await;
    let begun = begin.ok().map(|found| found.is_some());
    apply_all(site, id, Step::RollBack, None).await?;
    let is_taken = !asked && begun == Some(false);
    let dropped = dropped || is_taken && is_dropped(&site.registrar.expect_table().await);
    let remains = protocol::after_own_roll_back(Own { asked, begun, dropped });
    if remains != Remains::Keep {
        apply(site, id, Action::Delete(RecordKind::Decision), None).await?;
    }
    if remains == Remains::DeleteAbortAndClaims {
        Queue::new(site, id).leave().await?;
    }
    Ok(())
}

/// Whether a catalog says that the table is no more; that it could not be asked says nothing.
pub(super) fn is_dropped(expected: &Result<()>) -> bool {
    expected.as_ref().is_err_and(|error| error.code().0 == "TABLE_NOT_FOUND")
}
