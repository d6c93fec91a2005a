//! What is to become of one letter.

use super::folder::Folder;
use super::report::NotRedriven;
use crate::engine::{CopiedRecord, Origin, copy_record};
use crate::error::{Error, Result};
use crate::producer::Record;
use crate::types::TopicPartition;

#[derive(Debug)]
pub(super) enum Verdict {
    /// It is no letter of the group.
    Foreign,
    /// The record goes back.
    Send(Original),
    Skip(Option<(TopicPartition, i64)>, NotRedriven),
}

/// A record as it was, and where it goes.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    record: CopiedRecord,
}

impl Original {
    /// Returns the record to send.
    pub(super) fn record(&self) -> Record<'_> {
        let mut record = Record::to(self.partition.topic()).partition(self.partition.partition());
        if let Some(key) = &self.record.key {
            record = record.key(key);
        }
        if let Some(value) = &self.record.value {
            record = record.value(value);
        }
        for (name, value) in &self.record.headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        record
    }
}

/// Says what is to become of a letter.
///
/// # Errors
/// Those that are not of this letter alone.
pub(super) fn judge(folder: &impl Folder, group: &str, letter: CopiedRecord) -> Result<Verdict> {
    let Some(origin) = Origin::of(&letter).filter(|origin| origin.group == group) else {
        return Ok(Verdict::Foreign);
    };
    let Some((partition, offset)) = origin.source.clone() else {
        return Ok(Verdict::Skip(None, NotRedriven::Malformed));
    };
    let skip = |why| Ok(Verdict::Skip(Some((partition.clone(), offset)), why));
    let log = match folder.registry().log(&partition) {
        Err(error) => match of_record(&error) {
            Some(why) => return skip(why),
            None => return Err(error),
        },
        Ok(log) => log,
    };
    let topic_id = origin.topic_id;
    let record = match origin.original(letter) {
        Ok(record) => record,
        Err(_) if topic_id.is_some_and(|id| id != log.topic_id()) => {
            return skip(NotRedriven::TopicReplaced);
        }
        Err(_) => match copy_record(&log, offset) {
            Ok(Some(record)) => record,
            Ok(None) => return skip(NotRedriven::RecordGone),
            Err(error) => match of_record(&error) {
                Some(why) => return skip(why),
                None => return Err(error),
            },
        },
    };
    Ok(Verdict::Send(Original { partition, offset, record }))
}

/// Returns why a letter is skipped, if an error is about its record alone.
pub(super) fn of_record(error: &Error) -> Option<NotRedriven> {
    Some(match error {
        Error::UnknownTopic { .. } => NotRedriven::UnknownTopic,
        Error::UnknownPartition { partitions, .. } => {
            NotRedriven::UnknownPartition { partitions: *partitions }
        }
        Error::RecordTooLarge { .. } | Error::NullKey { .. } | Error::LimitExceeded { .. } => {
            NotRedriven::Refused { error: error.to_string() }
        }
        error if error.is_corruption() => NotRedriven::Refused { error: error.to_string() },
        _ => return None,
    })
}
