//! Named owners (`transactional.id`): registers them, fences older handles, and checks sequences.
//!
//! Imported by `state`, `frame`, `image`, `apply`, `checkpoint`, `recovery`, `snapshot`, `inspect` and `engine`.

mod state;

use std::sync::Arc;

pub(crate) use state::{Owner, OwnerChange, Owners};

use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::sync::MutexGuard;
use crate::types::{Lsn, check_group_name, planted};

/// A named owner as a folder keeps it, from [`Admin::list_owners`](crate::Admin::list_owners).
///
/// ```
/// use grouplog::{Broker, ProducerConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.producer_with(ProducerConfig::new().transactional_id("importer"))?;
/// let owners = broker.admin().list_owners()?;
/// assert_eq!((owners[0].transactional_id.as_str(), owners[0].epoch), ("importer", 0));
/// assert_eq!(owners[0].last_sequence, None);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerSummary {
    /// The `transactional.id`.
    pub transactional_id: String,
    /// The epoch of the newest producer with this id: how many there were before it.
    pub epoch: i32,
    /// The last sequence that [`Producer::send_sequenced`](crate::Producer::send_sequenced) has stored.
    pub last_sequence: Option<i64>,
}

impl Owners {
    pub(super) fn summaries(&self) -> Vec<OwnerSummary> {
        let summary = |(id, owner): (&Arc<str>, Owner)| OwnerSummary {
            transactional_id: id.to_string(),
            epoch: owner.epoch,
            last_sequence: owner.last_sequence,
        };
        self.iter().map(summary).collect()
    }
}

/// What a frame claims of its owner: that the epoch is the newest, and that its sequences are new.
#[derive(Debug, Clone)]
pub(crate) struct OwnerClaim {
    /// The very string that [`Owners`] holds. If the name is deleted and registered again, epochs begin at 0 again,
    /// but it is another string.
    pub(crate) id: Arc<str>,
    pub(crate) epoch: i32,
    /// The first and last sequence of the frame's records, if they have sequences.
    pub(crate) sequences: Option<(i64, i64)>,
}

impl OwnerClaim {
    /// Returns the most bytes that the section of the frame takes.
    pub(crate) fn bytes(&self) -> usize {
        SECTION_HEADER.saturating_add(32).saturating_add(self.id.len())
    }

    /// Checks the claim, and returns the owner after the frame.
    fn check(&self, owner: Option<Owner>) -> Result<Owner> {
        let current = owner.map(|owner| owner.epoch);
        let Some(owner) = owner.filter(|o| o.epoch == self.epoch || planted("owner_not_fenced"))
        else {
            let transactional_id = self.id.to_string();
            return Err(Error::ProducerFenced { transactional_id, epoch: self.epoch, current });
        };
        let Some((first, last)) = self.sequences else { return Ok(owner) };
        if let Some(stored) = owner.last_sequence
            && first <= stored
            && !planted("sequence_not_checked")
        {
            return Err(Error::OutOfOrderSequence {
                transactional_id: self.id.to_string(),
                sequence: first,
                last: stored,
            });
        }
        Ok(Owner { last_sequence: Some(last), ..owner })
    }
}

/// The held lock of the owners, and what a frame changes there.
#[derive(Debug)]
pub(super) struct OwnerLock<'e> {
    owners: MutexGuard<'e, Arc<Owners>>,
    /// `None` if the frame changes nothing.
    change: Option<OwnerChange>,
    header: [u8; SECTION_HEADER],
    body: Vec<u8>,
}

impl OwnerLock<'_> {
    pub(super) fn section(&self) -> Option<[&[u8]; 2]> {
        self.change.as_ref().map(|_| [&self.header[..], &self.body])
    }

    /// Applies the change of a frame that is in the journal.
    pub(super) fn apply(&mut self) {
        if let Some(change) = self.change.take() {
            Arc::make_mut(&mut self.owners).apply(&change);
        }
    }
}

impl Engine {
    /// Takes the lock of the owners and checks a claim under it.
    pub(super) fn lock_owner(&self, claim: &OwnerClaim) -> Result<OwnerLock<'_>> {
        let owners = self.owners.lock();
        let owner = claim.check(owners.get_same(&claim.id))?;
        let change = claim.sequences.is_some().then_some(owner);
        let change =
            change.map(|owner| OwnerChange { id: Arc::clone(&claim.id), owner: Some(owner) });
        Ok(OwnerLock::new(owners, change))
    }

    /// Registers the next owner of a name: it fences the one before it. Returns its claim.
    pub(crate) fn own(&self, id: &str) -> Result<OwnerClaim> {
        self.check_open()?;
        check_group_name(id)
            .map_err(|reason| Error::InvalidName { name: id.to_owned(), reason })?;
        let mut epoch = 0;
        let (id, _) = self.change_owner(id, |before| {
            let after = before.map_or(Some(0), |before| before.epoch.checked_add(1));
            epoch = after.ok_or(Error::LimitExceeded {
                what: "producers of one transactional.id",
                found: 1 << 31,
                max: i32::MAX as u64,
            })?;
            let last_sequence = before
                .and_then(|before| before.last_sequence)
                .filter(|_| !planted("new_epoch_forgets_sequence"));
            Ok(Some(Owner { epoch, last_sequence }))
        })?;
        Ok(OwnerClaim { id, epoch, sequences: None })
    }

    /// Forgets an owner: its epoch and its last sequence. The deletion is durable when this returns.
    pub(crate) fn delete_owner(&self, id: &str) -> Result<()> {
        self.check_open()?;
        let (_, lsn) = self.change_owner(id, |before| match before {
            Some(_) => Ok(None),
            None => Err(Error::UnknownOwner { transactional_id: id.to_owned() }),
        })?;
        self.wait_synced(lsn)
    }

    /// Returns the owner as it is now, if the claim still holds.
    pub(crate) fn owner(&self, claim: &OwnerClaim) -> Result<Owner> {
        self.check_open()?;
        OwnerClaim { sequences: None, ..claim.clone() }
            .check(self.owners.lock().get_same(&claim.id))
    }

    pub(crate) fn list_owners(&self) -> Result<Vec<OwnerSummary>> {
        self.check_fork()?;
        Ok(self.owners.lock().summaries())
    }

    /// Returns the string of the name as well.
    fn change_owner(
        &self,
        id: &str,
        decide: impl FnOnce(Option<Owner>) -> Result<Option<Owner>>,
    ) -> Result<(Arc<str>, Lsn)> {
        let claim = OwnerClaim { id: id.into(), epoch: 0, sequences: None };
        let mut credit = self.reserve_urgent(claim.bytes())?;
        let owners = self.owners.lock();
        let owner = decide(owners.get(id))?;
        let id = owners.known(id).unwrap_or(claim.id);
        let change = OwnerChange { id: Arc::clone(&id), owner };
        let mut lock = OwnerLock::new(owners, Some(change));
        let _guard = self.journal.fail_on_panic("a change of an owner");
        let lsn = self.journal.append(&mut credit, &[&lock.header, &lock.body])?;
        lock.apply();
        Ok((id, lsn))
    }
}

impl<'e> OwnerLock<'e> {
    fn new(owners: MutexGuard<'e, Arc<Owners>>, change: Option<OwnerChange>) -> Self {
        let body = change.as_ref().map(OwnerChange::encode).unwrap_or_default();
        let header = section_header(SectionKind::OWNER, body.len() as u32);
        Self { owners, change, header, body }
    }
}
