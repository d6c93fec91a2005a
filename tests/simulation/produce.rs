//! The actions of producers and administrators.

use std::sync::Arc;

use grouplog::time::{Clock, Random, SeededRandom};
use grouplog::{
    Broker, Delivery, Error, OffsetScope, Record, RecordMetadata, ResetTo, Timestamp,
    TimestampType, TopicConfig,
};

use crate::budget::{BLOCKS, DROPS};
use crate::disturb::Mark;
use crate::member::{TOPICS, partition};
use crate::observe::observe;
use crate::oracle::{COMPACTED, Change, Place, RecordModel};
use crate::session::Session;
use crate::world::{Step, World, violation};

/// The group whose progress deletes records.
pub(crate) const READER: &str = "reader";

impl World {
    pub(crate) fn send(&mut self, session: &mut Session) -> Step {
        let Some((place, model)) = self.any_record() else { return Ok(()) };
        self.note(format!("send to {place:?} {} {}", size_of_value(&model), id_of(&model)));
        self.send_one(session, &place, &model, false).map(|_| ())
    }

    pub(crate) fn send_synced(&mut self, session: &mut Session) -> Step {
        let Some((place, model)) = self.any_record() else { return Ok(()) };
        self.note(format!("send synced to {place:?} {} {}", size_of_value(&model), id_of(&model)));
        let Some(delivery) = self.send_one(session, &place, &model, true)? else { return Ok(()) };
        session.unwaited.push_back((self.history.attempted(), delivery));
        if self.one_in(2) { self.wait(session) } else { Ok(()) }
    }

    /// Sends a record, which is then `Written`. Returns its delivery.
    pub(crate) fn send_one(
        &mut self,
        session: &mut Session,
        place: &Place,
        model: &Arc<RecordModel>,
        synced: bool,
    ) -> Step<Option<Delivery>> {
        self.send_by(session, place, model, |session, record| {
            let producer = if synced { &session.synced } else { &session.written };
            producer.send(record)
        })
    }

    /// Sends a record by a call that must succeed. Returns its delivery.
    pub(crate) fn send_by(
        &mut self,
        session: &mut Session,
        place: &Place,
        model: &Arc<RecordModel>,
        send: impl FnOnce(&Session, Record<'_>) -> grouplog::Result<Delivery>,
    ) -> Step<Option<Delivery>> {
        let Some(batch) = self.batch(&[(place.clone(), Arc::clone(model))]) else {
            return Ok(None);
        };
        let Some(room) = self.before_append(session, std::slice::from_ref(place)) else {
            return Ok(None);
        };
        let change = Change::Append(batch.stored());
        let sent = self.change(session, change, |session| send(session, batch.record(0)))?;
        if let Some(delivery) = &sent {
            let stamped = self.check_sent(&batch, [delivery.metadata().clone()])?;
            self.restamp(stamped, model.timestamp.is_none());
        }
        self.after_append(session, room)?;
        Ok(sent)
    }

    /// Appends a record if the log end is the expected one.
    pub(crate) fn send_at(&mut self, session: &mut Session) -> Step {
        let Some((place, model)) = self.any_record() else { return Ok(()) };
        if self.is_uncertain() {
            return Ok(());
        }
        let end = self.history.state().end(&place);
        let expected = self.near(end);
        self.note(format!("send to {place:?} at {expected}, the end is {end}"));
        if expected == end {
            let sent = self.send_by(session, &place, &model, |session, record| {
                session.written.send_at(expected, record)
            });
            return sent.map(|_| ());
        }
        let Some(room) = self.before_append(session, std::slice::from_ref(&place)) else {
            return Ok(());
        };
        let mark = self.mark();
        let sent = session.written.send_at(expected, record(&place, &model));
        self.alive()?;
        match sent {
            Err(Error::UnexpectedEnd { end: told, .. }) if told == end => {}
            Err(error) => self.judge(&error, mark)?,
            Ok(_) => return violation("an append at another end succeeds"),
        }
        self.after_append(session, room)
    }

    /// Fills in the broker's timestamps, which are known now.
    pub(crate) fn restamp(&mut self, records: Vec<(Place, Arc<RecordModel>)>, needed: bool) {
        if needed {
            self.take_back();
            self.history.attempt(Change::Append(records));
        }
    }

    pub(crate) fn wait(&mut self, session: &mut Session) -> Step {
        let Some((count, delivery)) = session.unwaited.pop_front() else { return Ok(()) };
        self.note(format!("wait for change {count}"));
        let mark = self.mark();
        let waited = delivery.wait();
        self.alive()?;
        match waited {
            Ok(_) => {
                self.history.synced_up_to(count);
                Ok(())
            }
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)
            }
        }
    }

    pub(crate) fn send_all(&mut self, session: &mut Session) -> Step {
        let count = 1 + self.below(5);
        let records: Vec<_> = (0..count).filter_map(|_| self.any_record()).collect();
        let bytes: usize = records.iter().map(|(_, model)| size_of_value(model)).sum();
        // The limit is a quarter of the smallest journal. An empty batch promises nothing.
        if bytes > 50_000 || records.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = records.iter().map(|(place, _)| place.clone()).collect();
        let Some(batch) = self.batch(&records) else { return Ok(()) };
        self.note(format!("send all, {bytes} bytes: {batch}"));
        let Some(room) = self.before_append(session, &places) else { return Ok(()) };
        let change = Change::Append(batch.stored());
        let sent = self.change(session, change, |session| {
            session.synced.send_all(records.iter().map(|(place, model)| record(place, model)))
        })?;
        let Some(deliveries) = sent else { return self.after_append(session, room) };
        let stamped = self.check_sent(&batch, deliveries.metadata())?;
        let unknown = records.iter().any(|(_, model)| model.timestamp.is_none());
        self.restamp(stamped, unknown);
        self.after_append(session, room)?;
        let count = self.history.attempted();
        if self.one_in(2) {
            return Ok(());
        }
        let mark = self.mark();
        let waited = deliveries.wait();
        self.alive()?;
        match waited {
            Ok(()) => self.history.synced_up_to(count),
            Err(error) => self.judge(&error, mark)?,
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self, session: &mut Session) -> Step {
        self.note("flush");
        let mark = self.mark();
        let flushed = session.synced.flush();
        self.alive()?;
        match flushed {
            Ok(()) => self.history.synced_up_to(self.history.promised(false)),
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)?;
            }
        }
        Ok(())
    }

    pub(crate) fn create_topic(&mut self, session: &mut Session) -> Step {
        let only = self.options.only_compacted;
        // The last life has no budget any more.
        let (budget, only_room) = (self.options.budget, self.options.only_room);
        let room: &[&str] = if budget || only_room { &[DROPS, BLOCKS] } else { &[] };
        let others: &[&str] = if only_room { &[] } else { &TOPICS };
        let names = [others, room].concat();
        let name = if only { COMPACTED } else { names[self.below(names.len())] };
        self.create(session, name)
    }

    fn create(&mut self, session: &mut Session, name: &str) -> Step {
        let partitions = 1 + self.below(self.options.partitions_max as usize) as u32;
        let append_time = self.options.append_time_in as usize;
        let kind = if append_time > 0 && self.one_in(append_time) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        };
        let config = TopicConfig::new()
            .partitions(partitions)
            .segment_bytes(self.options.segment_bytes)
            .index_interval_bytes(256)
            .compression(self.options.compression)
            .timestamp_type(kind)
            .retention_consumed([READER])
            .dedup_window(self.options.dedup_window)
            .dedup_max_ids(self.options.dedup_max_ids);
        let config = Self::with_policy(name, config);
        let config = if name == COMPACTED { self.compacted(config) } else { config };
        if self.history.state().topics.contains_key(name) {
            return match session.broker.create_topic(name, config) {
                Err(Error::TopicExists { .. }) => self.alive(),
                other => self.refused_otherwise(session, other),
            };
        }
        self.note(format!("create {name} {partitions} {kind:?}"));
        let change = Change::Create { topic: name.to_owned(), partitions };
        let before = (self.incarnations.clone(), self.append_time.clone());
        *self.incarnations.entry(name.to_owned()).or_default() += 1;
        self.append_time.remove(name);
        if kind == TimestampType::LogAppendTime {
            self.append_time.insert(name.to_owned());
        }
        let changes = self.history.attempted();
        let created =
            self.change(session, change, |session| session.broker.create_topic(name, config))?;
        if self.history.attempted() == changes {
            // Refused. A topic that a crash may bring back keeps its earlier incarnation.
            (self.incarnations, self.append_time) = before;
        }
        self.note_topic_ids(&session.broker);
        if created.is_some() {
            self.history.synced();
        }
        Ok(())
    }

    pub(crate) fn delete_topic(&mut self, session: &mut Session) -> Step {
        match self.any_place() {
            Some((name, _)) => self.delete(session, &name),
            None => Ok(()),
        }
    }

    fn delete(&mut self, session: &mut Session, name: &str) -> Step {
        self.note(format!("delete {name}"));
        let change = Change::Delete { topic: name.to_owned() };
        let deleted = self.change(session, change, |session| session.broker.delete_topic(name))?;
        self.note_topic_ids(&session.broker);
        if deleted.is_some() {
            self.history.synced();
        }
        Ok(())
    }

    /// Replaces a topic under consumers whose positions belong to the old one.
    pub(crate) fn recreate_topic(&mut self, session: &mut Session) -> Step {
        let Some((name, _)) = self.any_place() else { return Ok(()) };
        self.delete(session, &name)?;
        if self.is_uncertain() || self.history.state().topics.contains_key(&name) {
            return Ok(());
        }
        self.create(session, &name)?;
        if self.is_uncertain() {
            return Ok(());
        }
        for _ in 0..self.below(8) {
            self.send(session)?;
        }
        if self.is_uncertain() { Ok(()) } else { self.check_kept(&session.broker) }
    }

    /// Deletes records of a partition, most often all of them. This does not test consumers with a
    /// position among them: no consumer is active, and no group has committed such a position.
    pub(crate) fn delete_records(&mut self, session: &mut Session) -> Step {
        let Some(place) = self.any_place() else { return Ok(()) };
        if !session.members.is_empty() || self.is_uncertain() {
            return Ok(());
        }
        let end = self.history.state().end(&place);
        let all = end == 0 || self.below(4) > 0;
        let before = if all { end } else { self.below(end as usize) as i64 };
        if !deletes(&session.broker, &place.0) {
            let deleted = session.broker.admin().delete_records(&partition(&place), before);
            return match deleted {
                Err(Error::PolicyViolation { .. }) => self.alive(),
                other => violation(format!("the front of a compacted topic goes: {other:?}")),
            };
        }
        let committed = &self.history.state().offsets;
        let in_the_way = |((group, at), offset): (&(String, Place), &i64)| {
            group != READER && *at == place && *offset < before
        };
        if committed.iter().any(in_the_way) {
            return Ok(());
        }
        self.note(format!("delete the records of {place:?} below {before}"));
        self.kept.retain(|kept| kept.place != place);
        let change = Change::DeleteRecords { place: place.clone(), before };
        let deleted = self.change(session, change, |session| {
            session.broker.admin().delete_records(&partition(&place), before)
        })?;
        if deleted.is_some() {
            self.history.synced();
        }
        Ok(())
    }

    /// Retention deletes what a group of its own has read, up to what all groups have read. As
    /// `delete_records`, this does not test consumers with a position among the deleted records.
    pub(crate) fn retain(&mut self, session: &mut Session) -> Step {
        let Some(place) = self.any_place() else { return Ok(()) };
        if !session.members.is_empty() || self.is_uncertain() || session.has_failed() {
            return Ok(());
        }
        let state = self.history.state();
        let others =
            state.offsets.iter().filter(|((group, at), _)| group != READER && *at == place);
        let most =
            others.map(|(_, offset)| *offset).min().unwrap_or(i64::MAX).min(state.end(&place));
        let start = state.start(&place);
        if most < start {
            return Ok(());
        }
        let some = start + self.below((most - start) as usize + 1) as i64;
        let before = if self.one_in(4) { some } else { most };
        self.note(format!("retention of {place:?} below {before}"));
        let offsets = vec![(place.clone(), before)];
        let change = Change::Commit { group: READER.to_owned(), offsets };
        let committed = self.change(session, change, |session| {
            let scope = OffsetScope::Partitions(vec![partition(&place)]);
            session.broker.admin().reset_offsets(READER, &scope, ResetTo::Offset(before))
        })?;
        if committed.is_none() {
            return Ok(());
        }
        self.history.synced();
        let topic = place.0;
        self.run_retention(session, Some(&topic), |broker| {
            broker.admin().run_retention_of(&topic).map(|_| ())
        })
    }

    /// Makes a call that deletes what the group has read, from one topic or from all of them.
    pub(crate) fn run_retention(
        &mut self,
        session: &mut Session,
        topic: Option<&str>,
        call: impl FnOnce(&Broker) -> grouplog::Result<()>,
    ) -> Step {
        let mut may = self.read_by_reader(topic);
        if topic.is_none() && self.options.budget {
            may.extend(self.droppable(0));
        }
        self.kept.retain(|kept| may.iter().all(|(place, _)| kept.place.0 != place.0));
        let places: Vec<Place> = may.iter().map(|(place, _)| place.clone()).collect();
        let before = starts(&session.broker, &places);
        let mark = self.mark();
        self.history.attempt(Change::MayDelete(may));
        let result = call(&session.broker);
        self.alive()?;
        let after = starts(&session.broker, &places);
        match result {
            Err(error @ Error::Indeterminate { .. }) => {
                self.note(format!("  {error}"));
                self.is_undecided(session);
                return self.judge(&error, mark);
            }
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)?;
                if before == after {
                    self.take_back();
                    return Ok(());
                }
            }
            Ok(()) => {}
        }
        self.history.written();
        let moved = places.into_iter().zip(after).zip(before);
        for ((place, after), _) in moved.filter(|((_, after), before)| after > before) {
            self.history.attempt(Change::DeleteRecords { place, before: after });
            self.history.synced();
        }
        Ok(())
    }

    /// Returns the positions of the group whose progress deletes records.
    pub(crate) fn read_by_reader(&self, topic: Option<&str>) -> Vec<(Place, i64)> {
        let read = self.history.state().offsets.iter();
        let read = read
            .filter(|((group, at), _)| group == READER && topic.is_none_or(|topic| topic == at.0));
        read.map(|((_, at), offset)| (at.clone(), *offset)).collect()
    }

    /// A call that cannot succeed may fail because of the disk first.
    fn refused_otherwise(&mut self, session: &Session, result: grouplog::Result<()>) -> Step {
        self.alive()?;
        match result {
            Ok(()) => violation("a topic is created twice"),
            Err(Error::Failed { .. }) if session.has_failed() => Ok(()),
            Err(error) => self.judge(&error, Mark::default()),
        }
    }

    pub(crate) fn checkpoint(&mut self, session: &mut Session) -> Step {
        self.note("checkpoint");
        let mark = self.mark();
        let done = session.broker.checkpoint();
        self.alive()?;
        match done {
            Ok(()) => self.history.synced_up_to(self.history.promised(false)),
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)?;
            }
        }
        Ok(())
    }

    pub(crate) fn look(&mut self, session: &mut Session) -> Step {
        self.note("look");
        self.hinder_reading();
        let mark = self.mark();
        self.compare(mark, observe(&session.broker), "the broker")?;
        if self.is_uncertain() { Ok(()) } else { self.check_ids(&session.broker) }
    }

    pub(crate) fn look_beside(&mut self, _session: &mut Session) -> Step {
        self.note("look from beside");
        let mark = self.mark();
        match Broker::open_storage_read_only(Arc::new(self.memory.clone())) {
            Ok(reader) => self.compare(mark, observe(&reader), "a reader beside it"),
            Err(error) => self.judge(&error, mark),
        }
    }

    fn compare(
        &mut self,
        mark: Mark,
        seen: Result<crate::oracle::State, String>,
        who: &str,
    ) -> Step {
        let seen = match seen {
            Err(what) if self.read_failed_since(mark) && what.contains("Io { op: ") => {
                self.note(format!("  {what}"));
                return Ok(());
            }
            seen => seen.or_else(violation)?,
        };
        let explained = self.history.explain(&seen, self.history.promised(false));
        explained.map(|_| ()).or_else(|what| violation(format!("{who} shows: {what}")))
    }

    /// Returns a record for an existing partition. Over time the records use every feature.
    pub(crate) fn any_record(&mut self) -> Option<(Place, Arc<RecordModel>)> {
        let place = self.any_place()?;
        let bytes = self.below(self.options.value_bytes_max);
        let record = self.record_for(&place, bytes);
        let record = self.identified(&place, record);
        Some((place, record))
    }

    pub(crate) fn record_for(&mut self, place: &Place, bytes: usize) -> Arc<RecordModel> {
        let id = self.history.next_id();
        let compacted = place.0 == COMPACTED;
        let key = if compacted {
            Some(format!("key {}", self.below(self.options.keys)).into_bytes())
        } else {
            (id % 4 != 3).then(|| format!("key {id}").into_bytes())
        };
        let bytes = if compacted && self.one_in(4) { 0 } else { bytes };
        let headers = match id % 3 {
            // Contents are unique, also those of a record without a value.
            _ if compacted && bytes == 0 => {
                vec![("id".to_owned(), Some(id.to_be_bytes().to_vec()))]
            }
            0 => vec![("id".to_owned(), Some(id.to_be_bytes().to_vec())), ("id".to_owned(), None)],
            _ => Vec::new(),
        };
        let random = SeededRandom::new(id);
        let mut value = Vec::with_capacity(bytes + 8);
        while value.len() < bytes {
            // Half of it compresses.
            value.extend_from_slice(&random.next_u64().to_be_bytes());
            value.extend_from_slice(&id.to_be_bytes());
        }
        value.truncate(bytes);
        let timestamp = if self.append_time.contains(&place.0) {
            None
        } else if id.is_multiple_of(5) {
            Some(self.below(2_000_000_000_000) as i64)
        } else {
            Some(self.clock.now().as_millis())
        };
        let value = (bytes > 0).then_some(value);
        Arc::new(RecordModel { key, value, headers, timestamp, id: None })
    }
}

/// Returns whether the policy of a topic allows to delete from the front.
fn deletes(broker: &Broker, topic: &str) -> bool {
    let only_compacts = ("cleanup.policy", "compact".to_owned());
    broker.describe_topic(topic).is_ok_and(|topic| !topic.config.contains(&only_compacts))
}

/// Returns the log start offsets of partitions.
pub(crate) fn starts(broker: &Broker, places: &[Place]) -> Vec<i64> {
    let start = |(topic, partition): &Place| {
        let topic = broker.describe_topic(topic).ok();
        topic.map_or(0, |topic| topic.partitions[*partition as usize].start_offset)
    };
    places.iter().map(start).collect()
}

fn size_of_value(model: &RecordModel) -> usize {
    model.value.as_ref().map_or(0, Vec::len)
}

fn id_of(model: &RecordModel) -> &'static str {
    model.id.map_or("", |id| id.name)
}

/// Checks that the record went where it had to. Notes the timestamp that it got.
pub(crate) fn placed(
    model: &Arc<RecordModel>,
    metadata: &RecordMetadata,
    place: &Place,
    expected: i64,
) -> Step<Arc<RecordModel>> {
    let time = metadata.timestamp().as_millis();
    let right = metadata.offset() == expected
        && metadata.topic() == place.0
        && metadata.partition() == place.1
        && model.timestamp.is_none_or(|asked| asked == time);
    if !right {
        return violation(format!("{metadata:?}, but the log end of {place:?} was {expected}"));
    }
    Ok(Arc::new(RecordModel { timestamp: Some(time), ..RecordModel::clone(model) }))
}

pub(crate) fn record<'a>((topic, partition): &'a Place, model: &'a RecordModel) -> Record<'a> {
    let mut record = Record::to(topic).partition(*partition);
    if let Some(key) = &model.key {
        record = record.key(key);
    }
    if let Some(value) = &model.value {
        record = record.value(value);
    }
    for (name, value) in &model.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        };
    }
    if let Some(id) = model.id {
        record = record.id(id.name);
    }
    match model.timestamp {
        Some(timestamp) => record.timestamp(Timestamp::from_millis(timestamp)),
        None => record,
    }
}
