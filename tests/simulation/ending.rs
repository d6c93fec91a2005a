//! How a life ends, and the last life.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{Broker, Error};

use crate::folder;
use crate::observe::observe;
use crate::oracle::{Place, State};
use crate::session::Session;
use crate::world::{Step, World, violation};

impl World {
    /// Closes the folder, drops everything, or kills the process.
    pub(crate) fn end_life(&mut self, session: &mut Session) -> Step {
        match self.below(4) {
            0 => {
                if !self.is_troubled() {
                    self.settle(session)?;
                }
                self.close(session)
            }
            1 => {
                self.note("left open");
                session.members.clear();
                Err(self.kill())
            }
            _ => Err(self.kill()),
        }
    }

    fn close(&mut self, session: &mut Session) -> Step {
        self.note("close");
        session.members.clear();
        session.unwaited.clear();
        session.open.clear();
        let had_failed = session.has_failed();
        let mark = self.mark();
        let closed = session.broker.clone().close();
        self.alive()?;
        match closed {
            Ok(()) if had_failed => {
                return violation("a close succeeds although a write had failed");
            }
            Ok(()) if self.is_uncertain() => {
                return violation("a close succeeds although a change may not be there");
            }
            Ok(()) => self.was_closed(),
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)?;
                self.trace.tally.failures += 1;
            }
        }
        self.end_trouble();
        Ok(())
    }

    /// Checks that, when all members poll, every subscribed partition gets one owner, which reads
    /// all of it.
    fn settle(&mut self, session: &mut Session) -> Step {
        // A member that waits for a missing topic never settles, because no one creates the topic.
        session.members.retain(|member| !self.has_lost_a_partition(member));
        let rounds =
            10 + 2 * self.history.state().topics.values().flatten().map(Vec::len).sum::<usize>();
        for round in 0.. {
            let mut busy = false;
            let mut at = 0;
            while at < session.members.len() {
                let before = session.members.len();
                busy |= self.poll(session, at)?;
                at += usize::from(session.members.len() == before);
            }
            if !busy && round > session.members.len() {
                break;
            }
            if round > rounds {
                return violation("the members never come to rest");
            }
        }
        let mut wanted: BTreeMap<(&str, Place), usize> = BTreeMap::new();
        let topics = &self.history.state().topics;
        for member in session.members.iter().filter(|member| member.is_subscribed()) {
            let group = member.group.unwrap_or_default();
            for topic in &member.subscription {
                let partitions = topics.get(topic).map_or(0, Vec::len) as u32;
                for partition in 0..partitions {
                    wanted.entry((group, (topic.clone(), partition))).or_default();
                }
            }
        }
        for member in session.members.iter().filter(|member| member.is_subscribed()) {
            let group = member.group.unwrap_or_default();
            for partition in member.consumer.assignment() {
                let place = (partition.topic().to_owned(), partition.partition());
                let end = self.history.state().end(&place);
                // Its polls pass what compaction has removed from the end.
                if !member.paused.contains(&place)
                    && member.positions.get(&place).map(|(_, next)| *next) != Some(end)
                {
                    return violation(format!("{place:?} was not read to its end {end}"));
                }
                *wanted.entry((group, place)).or_default() += 1;
            }
        }
        match wanted.iter().find(|(_, owners)| **owners != 1) {
            Some((what, owners)) => violation(format!("{what:?} has {owners} owners")),
            None => Ok(()),
        }
    }

    /// Checks the folder after all faults have ended. Appends succeed everywhere, and acknowledged
    /// records survive. The folder closes, and it is the same for a reader and after another
    /// opening. Damage yields no other records.
    pub(crate) fn last_life(&mut self) -> Step {
        self.end_trouble();
        self.options.budget = false;
        let mut session = self.open(false)?;
        self.append_everywhere(&mut session)?;
        if self.one_in(2) {
            drop(self.kill());
            drop(session);
            self.memory = self.memory.crash(Crash::LoseAll, &self.random);
            self.note("power loss after the last acknowledgement");
            session = self.open(false)?;
        }
        self.settle(&mut session)?;
        self.close(&mut session)?;
        drop(session);

        let left = self.memory.crash(Crash::LoseAll, &self.random);
        self.trace.add(format!("{:?}", folder::contents(&left).keys()).as_bytes());
        for bytes in folder::contents(&left).values() {
            self.trace.add(bytes);
        }
        let reader = Broker::open_storage_read_only(Arc::new(left.clone()));
        let reader = reader.or_else(|error| violation(format!("read-only: {error:?}")))?;
        let seen = observe(&reader).or_else(violation)?;
        if !self.history.state().is(&seen) {
            return violation(format!("a reader sees {seen}, not {}", self.history.state()));
        }
        drop(reader);
        if self.options.damage {
            for _ in 0..4 {
                self.damage(&left)?;
            }
        }
        let session = self.open(false)?;
        drop(session);
        Ok(())
    }

    /// Sends one record to each partition, all of them `Synced`.
    fn append_everywhere(&mut self, session: &mut Session) -> Step {
        if self.history.state().topics.is_empty() {
            return self.create_topic(session);
        }
        let topics = self.history.state().topics.clone();
        let partitions = |logs: &Vec<_>| 0..logs.len() as u32;
        let places = topics
            .iter()
            .flat_map(|(topic, logs)| partitions(logs).map(|number| (topic.clone(), number)));
        for place in places {
            let record = self.record_for(&place, 24);
            if self.send_one(session, &place, &record, true)?.is_none() {
                return violation("an append is refused without need");
            }
        }
        self.flush(session)
    }

    /// Checks that a flipped bit anywhere is found, or changes nothing that can be seen (I9).
    fn damage(&mut self, left: &Memory) -> Step {
        let memory = left.crash(Crash::KeepAll, &SeededRandom::new(0));
        let files: Vec<(PathBuf, usize)> = folder::contents(&memory)
            .into_iter()
            .filter(|(path, bytes)| !bytes.is_empty() && path != Path::new("reserve"))
            .map(|(path, bytes)| (path, bytes.len()))
            .collect();
        let (path, len) = &files[self.below(files.len())];
        // Most of the important bytes are at the start.
        let at = if self.one_in(2) { self.below(*len) } else { self.below((*len).min(200)) };
        let bit = self.below(8);
        let byte = folder::read_file(&memory, path)[at];
        let file = memory.open(path, OpenMode::Write).unwrap();
        file.write_at(&[byte ^ (1 << bit)], at as u64).unwrap();
        self.note(format!("bit {bit} of byte {at} of {} is flipped", path.display()));
        let reader = Broker::open_storage_read_only(Arc::new(memory.clone()));
        self.is_found_or_harmless(reader.map(|reader| observe(&reader)))?;
        let opened = Broker::open_storage(Arc::new(memory), self.config());
        self.is_found_or_harmless(opened.map(|broker| observe(&broker)))
    }

    fn is_found_or_harmless(&self, read: grouplog::Result<Result<State, String>>) -> Step {
        let said = match read {
            Ok(Ok(seen)) if self.history.state().is(&seen) => return Ok(()),
            Ok(Ok(seen)) => return violation(format!("damage shows {seen}")),
            Ok(Err(said)) => said,
            Err(error @ Error::UnsupportedFormat { .. }) => format!("{error:?}"),
            Err(error) if error.is_corruption() => return Ok(()),
            Err(error) => return violation(format!("damage makes opening fail: {error:?}")),
        };
        let typed = ["Corrupt", "MissingSegment", "LimitExceeded", "UnsupportedFormat"];
        if typed.iter().any(|name| said.contains(name)) {
            return Ok(());
        }
        violation(format!("damage is told as: {said}"))
    }
}
