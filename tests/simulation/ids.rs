//! Idempotency ids: which records of a frame are stored, and which have been stored before.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use grouplog::time::Clock;
use grouplog::{Broker, Record, RecordMetadata};

use crate::oracle::{Place, RecordId, RecordModel};
use crate::produce::{placed, record};
use crate::world::{Step, World, violation};

/// So few that many are sent again.
const IDS: [&str; 6] = ["i1", "i2", "i3", "i4", "i5", "i6"];

/// The records of one frame, and what must become of each.
#[derive(Debug)]
pub(crate) struct Batch(Vec<Sent>);

#[derive(Debug)]
struct Sent {
    place: Place,
    model: Arc<RecordModel>,
    /// Where the record must be: partition and offset.
    at: (u32, i64),
    /// Whether an earlier record has its id.
    is_duplicate: bool,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Sent { place, model, at, is_duplicate } in &self.0 {
            let id = model.id.map(|id| id.name);
            write!(f, "{id:?} to {place:?}: {at:?}, duplicate: {is_duplicate}; ")?;
        }
        Ok(())
    }
}

impl Batch {
    /// Returns a record as it is sent.
    pub(crate) fn record(&self, at: usize) -> Record<'_> {
        record(&self.0[at].place, &self.0[at].model)
    }

    /// Returns the partitions to which the records are sent.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.0.iter().map(|sent| sent.place.clone()).collect()
    }

    /// Returns the records that the frame stores.
    pub(crate) fn stored(&self) -> Vec<(Place, Arc<RecordModel>)> {
        let stored = self.0.iter().filter(|sent| !sent.is_duplicate);
        stored.map(|sent| (sent.place.clone(), Arc::clone(&sent.model))).collect()
    }

    fn check(
        &self,
        metadata: impl IntoIterator<Item = RecordMetadata>,
    ) -> Step<Vec<(Place, Arc<RecordModel>)>> {
        let metadata: Vec<_> = metadata.into_iter().collect();
        if metadata.len() != self.0.len() {
            return violation(format!("{} of {} records", metadata.len(), self.0.len()));
        }
        let mut stored = Vec::new();
        for (Sent { place, model, at, is_duplicate }, metadata) in self.0.iter().zip(metadata) {
            let same = metadata.topic() == place.0
                && (metadata.partition(), metadata.offset()) == *at
                && metadata.is_duplicate() == *is_duplicate;
            if !same {
                let id = model.id;
                return violation(format!(
                    "{metadata:?}, not {at:?}, duplicate: {is_duplicate}, {id:?} of {self}"
                ));
            }
            if !is_duplicate {
                stored.push((place.clone(), placed(model, &metadata, place, at.1)?));
            }
        }
        Ok(stored)
    }
}

impl World {
    /// Checks where the records of a frame went. Returns those that were stored, with the timestamps that they got.
    pub(crate) fn check_sent(
        &mut self,
        batch: &Batch,
        metadata: impl IntoIterator<Item = RecordMetadata>,
    ) -> Step<Vec<(Place, Arc<RecordModel>)>> {
        let stored = batch.check(metadata)?;
        self.trace.tally.duplicates += (batch.0.len() - stored.len()) as u64;
        Ok(stored)
    }

    /// Returns what becomes of the records of one frame that is written now. `None` if the window of an id may have
    /// ended or not, because the wall clock was set back.
    pub(crate) fn batch(&self, records: &[(Place, Arc<RecordModel>)]) -> Option<Batch> {
        let mut claimed: BTreeMap<(String, &str), (u32, i64)> = BTreeMap::new();
        let mut ends: BTreeMap<Place, i64> = BTreeMap::new();
        let mut all = Vec::new();
        for (place, model) in records {
            let mut model = Arc::clone(model);
            let end = *ends.entry(place.clone()).or_insert_with(|| self.history.state().end(place));
            let mut known = None;
            let on = model.id.filter(|_| !self.options.dedup_window.is_zero());
            if let Some(RecordId { name, .. }) = on {
                let key = (place.0.clone(), name);
                known = match claimed.get(&key) {
                    Some(at) => Some(*at),
                    None => self.registered(&place.0, name)?,
                };
                claimed.entry(key).or_insert(known.unwrap_or((place.1, end)));
                let times = self.times(&place.0);
                let id = Some(RecordId { name, times });
                model = Arc::new(RecordModel { id, ..RecordModel::clone(&model) });
            }
            if known.is_none() {
                ends.insert(place.clone(), end + 1);
            }
            all.push(Sent {
                place: place.clone(),
                model,
                at: known.unwrap_or((place.1, end)),
                is_duplicate: known.is_some(),
            });
        }
        Some(Batch(all))
    }

    /// Gives some records an id, if it is certain what that makes of them.
    pub(crate) fn identified(&self, place: &Place, model: Arc<RecordModel>) -> Arc<RecordModel> {
        if !self.options.ids || self.is_uncertain() || self.below(3) > 0 {
            return model;
        }
        let id = RecordId { name: IDS[self.below(IDS.len())], times: (0, 0) };
        let with_id = Arc::new(RecordModel { id: Some(id), ..RecordModel::clone(&model) });
        let is_known = self.batch(&[(place.clone(), Arc::clone(&with_id))]).is_some();
        if is_known { with_id } else { model }
    }

    /// Returns the earliest and the latest time that it may be now for the ids of a topic. Time never goes back
    /// there, and the folder may know of later times than those of the entries.
    fn times(&self, topic: &str) -> (i64, i64) {
        let newest = self.history.state().ids.get(topic).and_then(|ids| ids.last());
        let now = self.clock.now().as_millis();
        (now.max(newest.map_or(0, |(id, _)| id.times.0)), now.max(self.latest))
    }

    /// Returns where the record with an id is, if the topic remembers it. `None` if that is not certain.
    #[expect(clippy::option_option, reason = "the outer one is for the caller's question mark")]
    fn registered(&self, topic: &str, name: &str) -> Option<Option<(u32, i64)>> {
        let ids = self.history.state().ids.get(topic).map_or(&[][..], Vec::as_slice);
        let among = &ids[ids.len().saturating_sub(self.options.dedup_max_ids as usize)..];
        let Some((id, at)) = among.iter().rfind(|(id, _)| id.name == name) else {
            return Some(None);
        };
        match self.counts(topic, id) {
            (true, _) => Some(Some(*at)),
            (_, false) => Some(None),
            (false, true) => None,
        }
    }

    /// Returns whether an id certainly counts, and whether it may count.
    fn counts(&self, topic: &str, id: &RecordId) -> (bool, bool) {
        let window = self.options.dedup_window.as_millis() as i64;
        let (earliest, latest) = self.times(topic);
        (latest - id.times.0 < window, earliest - id.times.1 < window)
    }

    /// Checks how many ids each topic remembers.
    pub(crate) fn check_ids(&self, broker: &Broker) -> Step {
        for (topic, ids) in &self.history.state().ids {
            let among = &ids[ids.len().saturating_sub(self.options.dedup_max_ids as usize)..];
            // The table looks at the clock only when a frame comes.
            let seen = ids.last().map_or(0, |(id, _)| id.times.0);
            let window = self.options.dedup_window.as_millis() as i64;
            let least = among.iter().filter(|(id, _)| self.counts(topic, id).0).count() as u64;
            let most = among.iter().filter(|(id, _)| seen - id.times.1 < window).count() as u64;
            let Ok(described) = broker.describe_topic(topic) else { continue };
            if !(least..=most).contains(&described.ids) {
                let found = described.ids;
                return violation(format!("{topic} has {found} ids, not {least} to {most}"));
            }
        }
        Ok(())
    }
}
