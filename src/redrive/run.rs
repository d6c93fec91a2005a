use std::time::Duration;

use super::folder::{keeper, topic_of_letters};
use super::letter::{Original, Verdict, judge, of_record};
use super::report::{NotRedriven, Redriven, SkippedLetter};
use crate::config::{ProducerConfig, ShareConsumerConfig, ShareGroupConfig};
use crate::engine::{CopiedRecord, EngineHandle};
use crate::error::{Error, Result};
use crate::producer::Producer;
use crate::share::{KeptRecords, ShareConsumer, ShareRecord, ShareRecords};
use crate::transaction::Transaction;
use crate::types::{TopicPartition, planted};

/// The most letters of one transaction, and their bytes unless one is larger.
const LETTERS: u32 = 500;
const LETTERS_BYTES: u32 = 4 << 20;

/// Sends letters of a group back, at most `max`. What it has done survives power loss when it returns.
pub(crate) fn redrive(engine: &EngineHandle, group: &str, max: u64) -> Result<Redriven> {
    let topic = topic_of_letters(&***engine, group)?;
    if engine.registry.topic(&topic).is_err() {
        // Without a letter there is no topic yet.
        return Ok(Redriven::default());
    }
    let keeper = keeper(group);
    // What a crash interrupts counts as a delivery. Letters that are skipped stay in the window.
    let patient = ShareGroupConfig::new()
        .delivery_count_limit(10_000)
        .record_lock_duration(Duration::from_hours(12))
        .max_record_locks(10_000_000);
    engine.share_group_or(&keeper, &patient)?;
    let letters = LETTERS.min(u32::try_from(max).unwrap_or(LETTERS)).max(1);
    let config =
        ShareConsumerConfig::new().max_poll_records(letters).fetch_max_bytes(LETTERS_BYTES);
    let producer = Producer::new(engine.clone(), ProducerConfig::new())?;
    let mut member = ShareConsumer::new(engine.clone(), &keeper, config)?;
    member.subscribe([&topic])?;
    // Dropped before the member leaves.
    let kept = KeptRecords::new(engine);
    let mut run = Run { engine, group, producer, kept, report: Redriven::default(), left: max };
    while run.left > 0 {
        let letters = member.poll(Duration::ZERO)?;
        if letters.is_empty() {
            break;
        }
        run.send_back(letters)?;
    }
    let Run { producer, report, kept, .. } = run;
    drop(kept);
    member.close()?;
    producer.await_written()?;
    Ok(report)
}

struct Run<'a> {
    engine: &'a EngineHandle,
    group: &'a str,
    producer: Producer,
    /// Letters that stay as they are. The member keeps them, so that the next poll returns others.
    kept: KeptRecords,
    report: Redriven,
    left: u64,
}

/// A transaction, and how many letters it accepts.
struct Open {
    transaction: Transaction,
    letters: usize,
}

impl Open {
    /// Adds what a letter was made of, if the letter has room beside it.
    fn send(&mut self, letter: &ShareRecord, original: &Original) -> Result<()> {
        if !planted("redrive_forgets_letter") {
            self.transaction.leave_room(letter)?;
        }
        self.transaction.send(original.record())
    }

    fn accept(&mut self, letter: ShareRecord) -> Result<()> {
        self.transaction.accept(letter)?;
        self.letters = self.letters.saturating_add(1);
        Ok(())
    }

    /// Returns whether the transaction has letters, and no room for another one.
    fn is_full_for(&mut self, letter: &ShareRecord) -> Result<bool> {
        match self.transaction.leave_room(letter) {
            Err(Error::LimitExceeded { .. }) if self.letters > 0 => Ok(true),
            room => room.map(|()| false),
        }
    }
}

impl Run<'_> {
    fn begin(&self) -> Result<Open> {
        Ok(Open { transaction: self.producer.begin()?, letters: 0 })
    }

    fn send_back(&mut self, letters: ShareRecords) -> Result<()> {
        let mut open = self.begin()?;
        for letter in letters {
            if self.left == 0 {
                self.kept.keep(letter);
                continue;
            }
            match judge(&***self.engine, self.group, copy(&letter))? {
                Verdict::Foreign => {
                    if open.is_full_for(&letter)? {
                        open.transaction.commit()?;
                        open = self.begin()?;
                    }
                    open.accept(letter)?;
                }
                Verdict::Send(original) => open = self.send(open, letter, &original)?,
                Verdict::Skip(source, reason) => self.skip(letter, source, reason),
            }
        }
        open.transaction.commit().map(|_| ())
    }

    /// Adds a letter to the transaction. If it has no room, commits it and begins another one.
    fn send(&mut self, open: Open, letter: ShareRecord, original: &Original) -> Result<Open> {
        let mut open = open;
        let mut sent = open.send(&letter, original);
        if matches!(sent, Err(Error::LimitExceeded { .. })) && open.letters > 0 {
            open.transaction.commit()?;
            open = self.begin()?;
            sent = open.send(&letter, original);
        }
        match sent {
            Ok(()) => {
                open.accept(letter)?;
                self.left = self.left.saturating_sub(1);
                self.report.add_sent(&original.partition);
            }
            Err(error) => {
                let source = (original.partition.clone(), original.offset);
                let reason = of_record(&error).ok_or(error)?;
                self.skip(letter, Some(source), reason);
            }
        }
        Ok(open)
    }

    fn skip(
        &mut self,
        letter: ShareRecord,
        source: Option<(TopicPartition, i64)>,
        reason: NotRedriven,
    ) {
        let (partition, offset) = (letter.topic_partition().clone(), letter.offset());
        self.report.add_skipped(SkippedLetter { partition, offset, source, reason });
        self.kept.keep(letter);
    }
}

fn copy(letter: &ShareRecord) -> CopiedRecord {
    let own = |bytes: &[u8]| bytes.to_vec();
    let headers = letter.headers().map(|header| {
        let name = String::from_utf8_lossy(header.name_bytes()).into_owned();
        (name, header.value().map(own))
    });
    CopiedRecord {
        offset: letter.offset(),
        key: letter.key().map(own),
        value: letter.value().map(own),
        headers: headers.collect(),
    }
}
