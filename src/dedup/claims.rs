//! The ids of one frame, decided before they are registered.

use super::entry::Place;
use super::hash::IdHash;
use super::index::Index;
use super::table::DedupTable;

/// What becomes of a record with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The id is new. The record is stored, and the claim gets its place.
    New(ClaimNumber),
    /// The same call sends a record with this id before. The record gets the place of that claim.
    Repeat(ClaimNumber),
    /// The id is registered. The record gets this place.
    Duplicate(Place),
    /// The topic does not deduplicate. The record is stored, and nothing is registered.
    Off,
}

/// A claim among those of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimNumber(u32);

/// The new ids that a frame brings to one topic. Nothing is registered if it is dropped.
///
/// Whoever decides keeps the table locked until the frame is complete and [`register`](Self::register) has returned,
/// or until it has failed.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    ids: Vec<(IdHash, Option<Place>)>,
    index: Index,
}

impl Claims {
    /// Decides on the next record of the frame.
    pub(crate) fn decide(&mut self, table: &mut DedupTable, hash: IdHash, now: i64) -> Decision {
        if !table.is_on() {
            return Decision::Off;
        }
        let is_it =
            |at: u32| self.ids.get(at as usize).is_some_and(|(claimed, _)| *claimed == hash);
        if let Some(at) = self.index.find(hash, is_it) {
            return Decision::Repeat(ClaimNumber(at));
        }
        match table.lookup(hash, now) {
            Some(place) => Decision::Duplicate(place),
            None => Decision::New(self.add(hash)),
        }
    }

    /// Sets the place of a record, once it is known.
    pub(crate) fn place(&mut self, claim: ClaimNumber, place: Place) {
        if let Some((_, known)) = self.ids.get_mut(claim.0 as usize) {
            *known = Some(place);
        }
    }

    /// Returns the place of a claim's record, if it is known.
    pub(crate) fn place_of(&self, claim: ClaimNumber) -> Option<Place> {
        self.ids.get(claim.0 as usize).and_then(|(_, place)| *place)
    }

    /// Returns how many ids the frame registers.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns the ids and places that the frame registers. All places must be known.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (IdHash, Place)> {
        self.ids.iter().filter_map(|(hash, place)| {
            debug_assert!(place.is_some(), "every record of a frame has a place");
            Some((*hash, (*place)?))
        })
    }

    /// Registers the ids of a complete frame. `time` is that of its section.
    pub(crate) fn register(self, table: &mut DedupTable, time: i64) {
        for (hash, place) in self.ids() {
            table.insert(hash, place, time);
        }
    }

    fn add(&mut self, hash: IdHash) -> ClaimNumber {
        if self.index.is_full() {
            self.index = Index::with_room_for(self.ids.len());
            for (at, (hash, _)) in self.ids.iter().enumerate() {
                self.index.insert(*hash, at as u32);
            }
        }
        let claim = self.ids.len() as u32;
        self.index.insert(hash, claim);
        self.ids.push((hash, None));
        ClaimNumber(claim)
    }
}
