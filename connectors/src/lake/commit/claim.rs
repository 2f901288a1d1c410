//! The queue of the exclusive statements of a folder: each takes the next number, and waits for those before it.
//!
//! Whoever comes looks at the newest claim alone, so it stays when its statement has ended. Where it went nevertheless
//! (its table was dropped, and the folder is one of another table's), the count begins anew while somebody may be about
//! to take the number after the old one; so who has taken a number waits for the smaller ones that are there, too.
//!
//! Invariant: while a statement holds its claim, every other one of the folder has ended or waits for it.

use std::time::Duration;

use headwater_engine::error::{Error, ErrorKind, Result};

use super::{
    place::Entry,
    record::{self, Claim, Decision, RecordKind},
    recovery::{create_or_read, recover},
    statement::StatementId,
    transaction::Site,
    visible::Records,
};

/// How long an exclusive statement waits for the ones before it.
const CLAIM_WAIT_MS: u64 = 600_000;
/// How long it waits for the files of statements that are decided: longer than it takes to see that one has died, after
/// which its files are moved for it.
pub(super) const DECIDED_WAIT_MS: u64 = super::LEASE_MS as u64 + 60_000;
/// Pause between two looks at the one before.
pub(super) const CLAIM_POLL_MS: u64 = 100;

/// The newest claim of a folder.
#[derive(Debug, Clone, Copy)]
enum Newest {
    /// Nobody ever claimed it.
    None,
    /// Its number, and whose it is.
    Claim(u64, StatementId),
    /// It went between the look at the list and the look at it.
    Gone,
}

/// The queue as one statement sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue<'a> {
    site: &'a Site,
    id: StatementId,
}

impl<'a> Queue<'a> {
    pub(super) fn new(site: &'a Site, id: StatementId) -> Self {
        Self { site, id }
    }

    /// Waits until every exclusive statement before this one has ended, then holds the folder.
    pub(super) async fn claim(self) -> Result<()> {
        let mut waited_ms = 0;
        let (number, before) = loop {
            let (next, earlier) = match self.newest_claim().await? {
                Newest::None => (Some(0), None),
                Newest::Claim(number, earlier) if self.has_ended(earlier).await? => (Some(number + 1), Some(earlier)),
                Newest::Claim(_, earlier) if waited_ms >= CLAIM_WAIT_MS => return Err(self.claimed_by(earlier)),
                // A claim is deleted once there is a newer one: it is in the next list.
                Newest::Claim(..) | Newest::Gone => (None, None),
            };
            if let Some(number) = next
                && self.claim_number(number).await?
            {
                break (number, earlier);
            }
            pause(&mut waited_ms).await;
        };
        loop {
            let below = self.claims_below(number).await?;
            match self.first_open(&below, before).await? {
                None => return self.site.place.delete(&below).await,
                Some(earlier) if waited_ms >= CLAIM_WAIT_MS => return Err(self.claimed_by(earlier)),
                Some(_) => pause(&mut waited_ms).await,
            }
        }
    }

    /// Waits until the files of every statement that is decided can be seen: what is in no listing cannot be replaced.
    pub(super) async fn await_decided(self) -> Result<()> {
        let mut waited_ms = 0;
        while let Some(open) = self.decided_and_open().await? {
            if waited_ms >= DECIDED_WAIT_MS {
                let message =
                    format!("an earlier statement on \"{}\" is committed and not finished: {open}", self.site.root);
                return Err(Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", message).with_hint(
                    "its files cannot be moved into place yet: see that the folder can be written, then try again",
                ));
            }
            pause(&mut waited_ms).await;
            recover(self.site).await?;
        }
        Ok(())
    }

    /// A statement whose files nobody sees yet although it happened.
    pub(super) async fn decided_and_open(self) -> Result<Option<StatementId>> {
        for id in self.unfinished().await?.into_iter().filter(|id| *id != self.id) {
            let path = record::path(&self.site.root, id, RecordKind::Decision);
            let decision = self.site.place.read(&path).await?.map(|bytes| record::decode(&path, &bytes)).transpose()?;
            if matches!(decision, Some(Decision::Commit(_))) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Deletes its claims of a folder whose table is no more.
    pub(super) async fn leave(self) -> Result<()> {
        let mut own = Vec::new();
        for entry in self.claims().await? {
            if self.claimant(&entry.path).await? == Some(self.id) {
                own.push(entry.path);
            }
        }
        self.site.place.delete(&own).await?;
        self.site.place.delete_empty_folders(&self.site.root, &[record::claims(&self.site.root)]).await
    }

    /// Takes a number; `false` if another statement has it, or took a larger one meanwhile: this one is then worth
    /// nothing, since who looks for the newest does not see it.
    async fn claim_number(self, number: u64) -> Result<bool> {
        let path = record::claim(&self.site.root, number);
        let ours = record::encode(&Claim { statement: self.id.to_string() })?;
        if create_or_read(&*self.site.place, &path, ours.clone()).await? != ours {
            return Ok(false);
        }
        if self.largest_claim().await?.is_some_and(|largest| largest > number) {
            self.site.place.delete(&[path]).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The statement of one of these claims that goes on; `ended` is known not to.
    async fn first_open(self, claims: &[String], ended: Option<StatementId>) -> Result<Option<StatementId>> {
        for path in claims {
            if let Some(earlier) = self.claimant(path).await?
                && Some(earlier) != ended
                && !self.has_ended(earlier).await?
            {
                return Ok(Some(earlier));
            }
        }
        Ok(None)
    }

    async fn newest_claim(self) -> Result<Newest> {
        let Some(number) = self.largest_claim().await? else { return Ok(Newest::None) };
        let claimant = self.claimant(&record::claim(&self.site.root, number)).await?;
        Ok(claimant.map_or(Newest::Gone, |claimant| Newest::Claim(number, claimant)))
    }

    async fn largest_claim(self) -> Result<Option<u64>> {
        Ok(self.claims().await?.iter().filter_map(claim_number).max())
    }

    async fn claims_below(self, number: u64) -> Result<Vec<String>> {
        let below = |entry: &Entry| claim_number(entry).is_some_and(|found| found < number);
        Ok(self.claims().await?.into_iter().filter(below).map(|entry| entry.path).collect())
    }

    async fn claims(self) -> Result<Vec<Entry>> {
        self.site.place.list(&record::claims(&self.site.root)).await
    }

    /// Whose claim it is; `None` if it has gone.
    async fn claimant(self, path: &str) -> Result<Option<StatementId>> {
        let Some(bytes) = self.site.place.read(path).await? else { return Ok(None) };
        let claim: Claim = record::decode(path, &bytes)?;
        claim.statement.parse().map(Some)
    }

    async fn has_ended(self, earlier: StatementId) -> Result<bool> {
        if earlier == self.id {
            return Ok(true);
        }
        recover(self.site).await?;
        Ok(!self.unfinished().await?.contains(&earlier))
    }

    async fn unfinished(self) -> Result<Vec<StatementId>> {
        let mut records = Records::default();
        for entry in self.site.place.list(&record::folder(&self.site.root)).await? {
            records.add(&entry.path);
        }
        Ok(records.unfinished())
    }

    fn claimed_by(self, earlier: StatementId) -> Error {
        let message = format!("another statement is replacing files of \"{}\": {earlier}", self.site.root);
        Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", message).with_hint("try again when it has ended")
    }
}

async fn pause(waited_ms: &mut u64) {
    tokio::time::sleep(Duration::from_millis(CLAIM_POLL_MS)).await;
    *waited_ms += CLAIM_POLL_MS;
}

fn claim_number(entry: &Entry) -> Option<u64> {
    entry.path.rsplit('/').next()?.parse().ok()
}
