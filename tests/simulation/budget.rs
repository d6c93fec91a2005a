//! The policies of the disk budget: what an append may delete to get room, and what must hold if it is refused.

use grouplog::{Broker, DiskBudgetPolicy, TopicConfig};

use crate::disturb::Mark;
use crate::oracle::{Change, Place};
use crate::produce::starts;
use crate::session::Session;
use crate::world::{BUDGET, Step, World, violation};

/// The topic that drops its oldest. No consumer reads it: its position could be deleted at any time.
pub(crate) const DROPS: &str = "d";
/// The topic whose appends wait for room. Without threads, they let retention make it.
pub(crate) const BLOCKS: &str = "w";

/// What one append may take more than its records: batches are charged before they are full.
const SLACK: u64 = 256 << 10;

/// What an append may delete, and how things were before it.
#[derive(Debug)]
pub(crate) struct Room {
    /// The topic of the records, if there is only one.
    only: Option<String>,
    places: Vec<Place>,
    starts: Vec<i64>,
    taken: Option<u64>,
}

impl World {
    /// Returns the settings of a topic with the policy that its name stands for.
    pub(crate) fn with_policy(name: &str, config: TopicConfig) -> TopicConfig {
        match name {
            DROPS => config.disk_budget_policy(DiskBudgetPolicy::DropOldest),
            BLOCKS => config.disk_budget_policy(DiskBudgetPolicy::Block),
            _ => config,
        }
    }

    /// Notes what an append may delete. Returns `None` if this is no time to delete anything.
    pub(crate) fn before_append(&mut self, session: &Session, to: &[Place]) -> Option<Room> {
        let goes_to = |name: &str| self.options.budget && to.iter().any(|place| place.0 == name);
        let (drops, blocks) = (goes_to(DROPS), goes_to(BLOCKS));
        let topics = to.iter().map(|place| &place.0);
        let only =
            topics.clone().next().filter(|first| topics.clone().all(|topic| topic == *first));
        let mut room =
            Room { only: only.cloned(), places: Vec::new(), starts: Vec::new(), taken: None };
        if !drops && !blocks {
            return Some(room);
        }
        if self.is_uncertain() || blocks && !self.keeps_positions(session) {
            return None;
        }
        let mut may = self.droppable(to.len());
        if blocks {
            may.extend(self.read_by_reader(None));
            self.kept.retain(|kept| may.iter().all(|(place, _)| kept.place.0 != place.0));
        }
        room.places = may.iter().map(|(place, _)| place.clone()).collect();
        room.starts = starts(&session.broker, &room.places);
        room.taken = (!self.is_troubled()).then(|| taken(&session.broker));
        self.history.attempt(Change::MayDelete(may));
        self.history.written();
        Some(room)
    }

    /// Returns the log ends of the topic that drops its oldest, with `more` records.
    pub(crate) fn droppable(&self, more: usize) -> Vec<(Place, i64)> {
        let partitions = self.history.state().topics.get(DROPS).map_or(0, Vec::len) as u32;
        let places = (0..partitions).map(|partition| (DROPS.to_owned(), partition));
        places
            .map(|place| (place.clone(), self.history.state().end(&place) + more as i64))
            .collect()
    }

    /// Notes what an append has deleted, and checks that this was right.
    pub(crate) fn after_append(&mut self, session: &Session, room: Room) -> Step {
        let short = self.short_of.take();
        if room.places.is_empty() || self.is_uncertain() {
            return Ok(());
        }
        let mut dropped = 0;
        let after = starts(&session.broker, &room.places);
        for ((place, before), after) in room.places.iter().zip(room.starts).zip(after) {
            if after > before {
                self.note(format!("  {place:?} begins at {after} now"));
                dropped += u64::from(place.0 == DROPS);
                self.trace.tally.dropped += (after - before) as u64;
                let change = Change::DeleteRecords { place: place.clone(), before: after };
                self.history.attempt(change);
                self.history.written();
            }
        }
        let Some(taken) = room.taken.filter(|_| !self.is_troubled() && !session.has_failed())
        else {
            return Ok(());
        };
        if dropped > 0 && taken + SLACK < BUDGET / 10 * 9 {
            return violation(format!("the oldest go although only {taken} bytes are taken"));
        }
        match (short, room.only.as_deref()) {
            (Some(short), Some(DROPS)) => check_dropped(&session.broker, short),
            (Some(_), Some(BLOCKS)) => self.check_retained(session),
            _ => Ok(()),
        }
    }

    /// Checks that retention has had its turn before an append that may wait was refused.
    fn check_retained(&self, session: &Session) -> Step {
        match session.broker.admin().run_retention() {
            Ok(gone) if gone.total().segments == 0 => Ok(()),
            Ok(gone) => violation(format!("an append is refused, and retention finds {gone:?}")),
            Err(error) => self.judge(&error, Mark::default()),
        }
    }
}

/// Checks that an append was refused only because the oldest records do not take what it lacks.
fn check_dropped(broker: &Broker, short: u64) -> Step {
    let topic = broker.describe_topic(DROPS);
    let bytes: u64 = topic.iter().flat_map(|topic| &topic.partitions).map(|part| part.bytes).sum();
    if bytes < short {
        return Ok(());
    }
    violation(format!("an append is refused for {short} bytes, and {bytes} could have gone"))
}

fn taken(broker: &Broker) -> u64 {
    let usage = broker.admin().disk_usage().ok().and_then(|usage| usage.budget);
    usage.map_or(BUDGET, |budget| budget.taken)
}
