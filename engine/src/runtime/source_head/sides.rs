//! Rows of a batch on their ways: to the branches, to `"t$rejected"`, to `"t$late"`.
//!
//! Invariant: a row kept aside is written before the barrier of the epoch it was read in.

use std::{collections::BTreeMap, sync::Arc};

use arrow::record_batch::RecordBatch;

use super::{SourceHead, physical, source_of};
use crate::{
    error::{Error, Result},
    graph::{Branch, BranchInput, SourceNode},
    message::{ChangeBatch, Message},
    runtime::{
        aside::{self, LateRows, ReadAgain},
        effects::Effects,
        pipe::Event,
        source_batch::{self, Origin, Prepared, Rejected},
    },
    time::{Instant, as_of},
};

/// Rejected or late rows a task keeps before it writes them as a segment.
const SEGMENT_ROWS: usize = 8192;

/// Names of INSERTs, each with what its query failed with on one row.
type Reasons<'n> = Vec<(&'n String, String)>;
/// That, by row.
type Failed<'n> = BTreeMap<u32, Reasons<'n>>;

impl SourceHead {
    pub(super) async fn run_branches(
        &mut self,
        node: &SourceNode,
        prepared: &Prepared,
        origin: &Origin,
        effects: &mut Effects,
    ) -> Result<()> {
        let mut late = LateRows::new();
        let mut failed = Failed::new();
        for branch in node.branches.iter().enumerate().filter(|(_, branch)| branch.input == BranchInput::Rows) {
            let (index, branch) = branch;
            let Some(run) = self.splits.get_mut(&origin.split) else { continue };
            let tally = run.state.account.entry(branch.insert.clone()).or_default();
            let mut done = as_of(effects.at(), || source_batch::branch(branch, prepared, tally))?;
            source_batch::carry(branch, prepared, origin, &mut done)?;
            debug_assert!(tally.is_balanced(), "{tally:?}");
            for row in done.late {
                let inserts = late.entry(row).or_default();
                if !inserts.is_empty() {
                    inserts.push(',');
                }
                inserts.push_str(&branch.insert);
            }
            for (row, reason) in done.failed {
                failed.entry(row).or_default().push((&branch.insert, reason));
            }
            if let Some(changes) = done.changes {
                let event = Event::Message(Message::Changes(changes));
                self.branches[index].push(0, event, effects).await?;
            }
        }
        self.records(node, origin, effects).await?;
        self.keep_rejected(node, prepared, origin, (&failed, &mut *effects)).await?;
        if !late.is_empty() {
            let whole = self.late_rows(node, (prepared, effects.at()), origin, &late).await?;
            let batch = aside::late_batch(whole, prepared, origin, &late)?;
            self.side_rows(node, BranchInput::Late, batch, origin, effects).await?;
        }
        Ok(())
    }

    /// Keeps the rows that cannot be read or computed. All of them go to those who read the table of these, and each INSERT
    /// with a sink for its own gets what nobody can read and what its own query failed on.
    async fn keep_rejected(
        &mut self,
        node: &SourceNode,
        prepared: &Prepared,
        origin: &Origin,
        (failed, effects): (&Failed<'_>, &mut Effects),
    ) -> Result<()> {
        let mut rejected: Vec<Rejected> = prepared.rejected.clone();
        let reasons = failed.iter().filter_map(|(row, reasons)| Some((*row, reasons.last()?.1.clone())));
        rejected.extend(reasons.map(|(row, reason)| prepared.reject_row(origin, row, reason)));
        if rejected.is_empty() {
            return Ok(());
        }
        self.slow.rejected(rejected.len() as u64);
        self.find_bytes(origin, &mut rejected).await?;
        let (of_all, of_some) = rejected.split_at(prepared.rejected.len());
        for (index, branch) in node.branches.iter().enumerate() {
            let Some(insert) = &branch.of else { continue };
            let reason =
                |reasons: &Reasons<'_>| reasons.iter().find(|(of, _)| *of == insert).map(|(_, why)| why.clone());
            let own = of_some.iter().zip(failed.values());
            let own = own.filter_map(|(row, reasons)| Some(Rejected { reason: reason(reasons)?, ..row.clone() }));
            let own: Vec<Rejected> = of_all.iter().cloned().chain(own).collect();
            if !own.is_empty() {
                let batch = aside::rejected_batch(&origin.split, &own)?;
                self.side_branch((index, branch), &batch, origin, effects).await?;
            }
        }
        let batch = aside::rejected_batch(&origin.split, &rejected)?;
        self.side_rows(node, BranchInput::Rejected, batch, origin, effects).await
    }

    /// Gives rows that were rejected after they had been read the bytes they came as, where the reader has them.
    async fn find_bytes(&mut self, origin: &Origin, rejected: &mut [Rejected]) -> Result<()> {
        let numbered = rejected.iter().enumerate().filter_map(|(index, row)| Some((origin.number(row.row?)?, index)));
        let mut places: Vec<(i64, usize)> = numbered.collect();
        if places.is_empty() {
            return Ok(());
        }
        places.sort_unstable();
        let positions: Vec<i64> = places.iter().map(|(position, _)| *position).collect();
        let found = self.reader.raw_records(&origin.split, &positions).await?;
        for ((_, index), raw) in places.iter().zip(found.into_iter().flatten()) {
            rejected[*index].raw = raw.to_vec();
        }
        Ok(())
    }

    /// Late rows in all columns of their table; those that no INSERT uses are read again for them.
    async fn late_rows(
        &mut self,
        node: &SourceNode,
        (prepared, at): (&Prepared, Instant),
        origin: &Origin,
        late: &LateRows,
    ) -> Result<RecordBatch> {
        let rows = aside::late_rows(node.source.as_ref(), prepared, late)?;
        let Some(whole) = &node.whole else { return Ok(rows) };
        let again = if origin.has_payloads() {
            let decoder = match self.whole_decoder.take() {
                Some(decoder) => Some(decoder),
                None => {
                    let columns = physical(&whole.columns, &whole.metadata);
                    let again = self.decoder.as_ref().map(|decoder| decoder.again(Arc::clone(&columns)));
                    again.transpose()?.flatten().map_or_else(|| node.source.decoder(columns), |own| Ok(Some(own)))?
                }
            };
            let mut decoder = decoder.ok_or_else(|| Error::internal("a source of payloads without a decoder"))?;
            let again = aside::decoded_again(decoder.as_mut(), (node, whole), (prepared, origin), late)?;
            self.whole_decoder = Some(decoder);
            Some(again)
        } else {
            let mut wanted: Vec<u32> = late.keys().map(|(row, _)| prepared.decoded_at(*row as usize) as u32).collect();
            let all = wanted.clone();
            wanted.dedup();
            let columns = (&whole.columns, whole.metadata.as_slice());
            let found = self.reader.read_again(&origin.split, &wanted, columns).await?;
            let place = |row: &u32| wanted.binary_search(row).ok().map(|place| place as u32);
            found.map(|rows| ReadAgain { rows, places: all.iter().map(place).collect() })
        };
        as_of(at, || aside::whole_rows(whole, &rows, again))
    }

    /// Gives the records as they came to the INSERTs that keep them.
    async fn records(&mut self, node: &SourceNode, origin: &Origin, effects: &mut Effects) -> Result<()> {
        if node.branches.iter().all(|branch| branch.input != BranchInput::Records) {
            return Ok(());
        }
        match source_batch::records_batch(origin)? {
            Some(batch) => self.side_branches(node, BranchInput::Records, &batch, origin, effects).await,
            None => Ok(()),
        }
    }

    /// Keeps rows of an accounting table, and gives them to the INSERTs that read it.
    async fn side_rows(
        &mut self,
        node: &SourceNode,
        which: BranchInput,
        batch: RecordBatch,
        origin: &Origin,
        effects: &mut Effects,
    ) -> Result<()> {
        self.side_branches(node, which, &batch, origin, effects).await?;
        let segments = match which {
            BranchInput::Late => &mut self.late,
            BranchInput::Rejected | BranchInput::Rows | BranchInput::Records => &mut self.rejected,
        };
        segments.rows += batch.num_rows();
        segments.batches.push(batch);
        if segments.rows >= SEGMENT_ROWS { self.write_segments(effects).await } else { Ok(()) }
    }

    async fn side_branches(
        &mut self,
        node: &SourceNode,
        which: BranchInput,
        batch: &RecordBatch,
        origin: &Origin,
        effects: &mut Effects,
    ) -> Result<()> {
        let branches = node.branches.iter().enumerate();
        for branch in branches.filter(|(_, branch)| branch.input == which && branch.of.is_none()) {
            self.side_branch(branch, batch, origin, effects).await?;
        }
        Ok(())
    }

    async fn side_branch(
        &mut self,
        (index, branch): (usize, &Branch),
        batch: &RecordBatch,
        origin: &Origin,
        effects: &mut Effects,
    ) -> Result<()> {
        let side = Prepared::of_rows(ChangeBatch::inserts(batch.clone()));
        let Some(run) = self.splits.get_mut(&origin.split) else { return Ok(()) };
        let tally = run.state.account.entry(branch.insert.clone()).or_default();
        if let Some(changes) = as_of(effects.at(), || source_batch::branch(branch, &side, tally))?.changes {
            self.branches[index].push(0, Event::Message(Message::Changes(changes)), effects).await?;
        }
        Ok(())
    }

    pub(super) async fn write_segments(&mut self, effects: &mut Effects) -> Result<()> {
        let table = source_of(&self.graph, self.node)?.table.clone();
        let rejected = std::mem::take(&mut self.rejected);
        effects.write_segment(&format!("{table}$rejected"), &rejected.batches).await?;
        let late = std::mem::take(&mut self.late);
        effects.write_segment(&format!("{table}$late"), &late.batches).await
    }
}
