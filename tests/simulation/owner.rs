//! Named producers: how they take names over, are fenced, and send with sequences.

use std::sync::Arc;

use grouplog::{Acks, Error, Producer, ProducerConfig};

use crate::ids::Batch;
use crate::oracle::Change;
use crate::produce::record;
use crate::session::Session;
use crate::world::{Step, World, violation};

const OWNERS: [&str; 2] = ["p", "q"];
/// The most handles of named producers, fenced ones among them.
const NAMED_MAX: usize = 4;

/// A producer with a name, and the epoch with which it took the name over.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    epoch: i32,
    /// How often the name had been forgotten then.
    disowned: u64,
    pub(crate) producer: Producer,
}

/// Whether a named producer still has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Fenced,
    /// With the last sequence of the name.
    Owns(Option<i64>),
}

impl Standing {
    pub(crate) fn last(self) -> Option<i64> {
        match self {
            Self::Fenced => None,
            Self::Owns(last) => last,
        }
    }
}

impl World {
    /// A producer takes a name over, and fences the one before it. Or the folder forgets the name.
    pub(crate) fn own(&mut self, session: &mut Session) -> Step {
        if self.is_uncertain() {
            return Ok(());
        }
        let name = OWNERS[self.below(OWNERS.len())];
        if self.one_in(4) {
            return self.disown(session, name);
        }
        self.note(format!("a producer takes {name} over"));
        let change = Change::Own { owner: name.to_owned() };
        let made = self.change(session, change, |session| {
            let config = ProducerConfig::new().acks(Acks::Synced).transactional_id(name);
            session.broker.producer_with(config)
        })?;
        let Some(producer) = made else { return Ok(()) };
        let epoch = self.history.state().owners[name].0;
        if session.named.len() == NAMED_MAX {
            session.named.remove(0);
        }
        let disowned = self.disowned.get(name).copied().unwrap_or(0);
        session.named.push(Named { name, epoch, disowned, producer });
        Ok(())
    }

    fn disown(&mut self, session: &mut Session, name: &'static str) -> Step {
        self.note(format!("{name} is forgotten"));
        if !self.history.state().owners.contains_key(name) {
            let mark = self.mark();
            let deleted = session.broker.admin().delete_owner(name);
            self.alive()?;
            return match deleted {
                Err(Error::UnknownOwner { .. }) => Ok(()),
                Err(error) => self.judge(&error, mark),
                Ok(()) => violation("a name is forgotten that nobody had"),
            };
        }
        let change = Change::Disown { owner: name.to_owned() };
        let deleted =
            self.change(session, change, |session| session.broker.admin().delete_owner(name))?;
        if !self.history.state().owners.contains_key(name) {
            *self.disowned.entry(name).or_default() += 1;
        }
        if deleted.is_some() {
            self.history.synced();
        }
        Ok(())
    }

    pub(crate) fn standing(&self, named: &Named) -> Standing {
        let owner = self.history.state().owners.get(named.name);
        let disowned = self.disowned.get(named.name).copied().unwrap_or(0);
        match owner {
            Some((epoch, last)) if *epoch == named.epoch && disowned == named.disowned => {
                Standing::Owns(*last)
            }
            _ => Standing::Fenced,
        }
    }

    /// A named producer sends a record, with a sequence most of the time, which may be one that was stored before.
    pub(crate) fn send_sequenced(&mut self, session: &mut Session) -> Step {
        let Some((place, model)) = self.any_record() else { return Ok(()) };
        if self.is_uncertain() || session.named.is_empty() {
            return Ok(());
        }
        let named = session.named[self.below(session.named.len())].clone();
        let standing = self.standing(&named);
        let sequenced = self.below(3) > 0;
        let stored = standing.last();
        let sequence = (stored.unwrap_or(-1) + self.below(3) as i64).max(0);
        let what = if sequenced { format!("sequence {sequence}") } else { "a record".to_owned() };
        self.note(format!("{} {} sends {what} to {place:?}", named.name, named.epoch));
        let is_old = sequenced && stored.is_some_and(|stored| sequence <= stored);
        if !sequenced && standing != Standing::Fenced {
            let sent =
                self.send_by(session, &place, &model, |_, record| named.producer.send(record));
            return sent.map(|_| ());
        }
        let Some(batch) = self.batch(&[(place.clone(), Arc::clone(&model))]) else { return Ok(()) };
        let Some(room) = self.before_append(session, batch.places().as_slice()) else {
            return Ok(());
        };
        if standing != Standing::Fenced && !is_old {
            self.store_sequence(session, &named, sequence, &batch)?;
            return self.after_append(session, room);
        }
        let mark = self.mark();
        let sent = if sequenced {
            named.producer.send_sequenced(sequence, record(&place, &model))
        } else {
            named.producer.send(record(&place, &model)).map(Some)
        };
        self.alive()?;
        match sent {
            // What was stored before survives a power loss from here on.
            Ok(None) if standing != Standing::Fenced => {
                self.history.synced_up_to(self.history.promised(false));
            }
            Err(Error::ProducerFenced { .. }) if standing == Standing::Fenced => {}
            Err(error) => self.judge(&error, mark)?,
            Ok(_) => return violation("what must be refused is stored"),
        }
        self.after_append(session, room)
    }

    fn store_sequence(
        &mut self,
        session: &mut Session,
        named: &Named,
        sequence: i64,
        batch: &Batch,
    ) -> Step {
        let change = |records| Change::Transaction {
            records,
            offsets: Vec::new(),
            sequence: Some((named.name.to_owned(), sequence)),
        };
        let sent = self.change(session, change(batch.stored()), |_| {
            named.producer.send_sequenced(sequence, batch.record(0))
        })?;
        match sent {
            None => Ok(()),
            Some(None) => violation("a new sequence is taken for an old one"),
            Some(Some(delivery)) => {
                let stored = self.check_sent(batch, [delivery.metadata().clone()])?;
                self.take_back();
                self.history.attempt(change(stored));
                self.history.written();
                Ok(())
            }
        }
    }
}
