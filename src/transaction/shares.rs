//! Records of share groups that a transaction accepts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::{EngineHandle, Said, ShareClaim, SharePart, ShareWork, Word};
use crate::error::{Error, Result};
use crate::group::share::MemberNumber;
use crate::share::ShareRecord;
use crate::types::PartitionNumber;

/// The records. Nobody else can say something about them. Those that are dropped with it are released.
#[derive(Debug, Default)]
pub(super) struct Shares {
    records: Vec<ShareRecord>,
    /// The addresses of their share-partitions, which they keep alive.
    parts: BTreeSet<usize>,
    /// The most bytes of their sections in a frame.
    bytes: usize,
}

/// A share-partition by its order, and a member.
type Key = (String, PartitionNumber, MemberNumber);

impl Shares {
    /// Returns the most bytes of the sections in a frame.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes after a record is added, and whether its share-partition is new.
    pub(super) fn bytes_with(&self, record: &ShareRecord) -> (usize, bool) {
        let (part, member, span, delivery) = record.place();
        let is_next = |last: &ShareRecord| {
            let (of, by, before, count) = last.place();
            Arc::ptr_eq(of, part)
                && (by, count) == (member, delivery)
                && before.last.checked_add(1) == Some(span.first)
        };
        if self.records.last().is_some_and(is_next) {
            return (self.bytes, false);
        }
        let is_new = !self.parts.contains(&Arc::as_ptr(part).addr());
        let of_part = if is_new { ShareClaim::bound(part.group()) } else { 0 };
        (self.bytes.saturating_add(of_part).saturating_add(ShareClaim::RUN_BOUND), is_new)
    }

    /// Adds a record, if `fits` takes the bytes that the sections have then. Otherwise the record comes again, and this
    /// delivery does not count.
    pub(super) fn add(
        &mut self,
        engine: &EngineHandle,
        record: ShareRecord,
        fits: impl FnOnce(usize) -> Result<()>,
    ) -> Result<()> {
        if !record.is_of(engine) {
            return Err(Error::Misuse(
                "the record is of another folder than the transaction writes",
            ));
        }
        if !record.claim() {
            return Err(Error::Misuse(
                "something was said about the record before: accept it once",
            ));
        }
        let (bytes, is_new) = self.bytes_with(&record);
        if let Err(error) = fits(bytes) {
            record.put_back();
            return Err(error);
        }
        if is_new {
            self.parts.insert(Arc::as_ptr(record.place().0).addr());
        }
        self.bytes = bytes;
        self.records.push(record);
        Ok(())
    }

    /// Lets `commit` write a frame with the claims of the records. Calls it again if a share-partition changed in between.
    pub(super) fn commit_with<T>(
        mut self,
        engine: &EngineHandle,
        mut commit: impl FnMut(&[ShareClaim]) -> Result<T>,
    ) -> Result<T> {
        let done = loop {
            let claims = self.claims(engine)?;
            match commit(&claims) {
                Err(_) if claims.iter().any(ShareClaim::is_stale) => {}
                done => break done,
            }
        };
        // After an error whose outcome is unknown too, nobody may release them: they may be accepted.
        if matches!(done, Ok(_) | Err(Error::Indeterminate { .. })) {
            std::mem::take(&mut self.records).into_iter().for_each(ShareRecord::leave);
        }
        done
    }

    fn claims(&self, engine: &EngineHandle) -> Result<Vec<ShareClaim>> {
        let mut parts: BTreeMap<Key, (Arc<SharePart>, Vec<Word>)> = BTreeMap::new();
        for record in &self.records {
            let (part, member, span, delivery) = record.place();
            let (group, number) = part.order();
            let key = (group.to_owned(), number, member);
            let new = || (Arc::clone(part), Vec::new());
            let (_, words) = parts.entry(key).or_insert_with(new);
            words.push(Word { span, delivery, said: Said::Accept });
        }
        let several = parts.keys().zip(parts.keys().skip(1));
        if several.clone().any(|(a, b)| (&a.0, a.1) == (&b.0, b.1)) {
            return Err(Error::Misuse(
                "a transaction accepts records that one member of a share group has, not several",
            ));
        }
        let claim = |((_, _, member), (part, words)): (Key, (Arc<SharePart>, Vec<Word>))| {
            engine.claim_share(
                &part,
                ShareWork::Words { member, words: words.into(), starts: Cow::default() },
            )
        };
        parts.into_iter().map(claim).collect()
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.records.drain(..).for_each(ShareRecord::give_back);
    }
}
