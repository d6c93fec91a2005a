//! Which partition a record goes to.

use std::sync::Arc;

use super::Record;
use crate::broker::Topic;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::record::partition_for_key;
use crate::time::Random;

/// What a producer remembers from one record to the next: the topic, so that it need not be looked up,
/// and the sticky partition of records without key.
#[derive(Debug, Default)]
pub(super) struct Route {
    current: Option<Sticky>,
    /// Topics that records went to before the current one.
    others: Vec<Sticky>,
}

/// KIP-480 and KIP-794: records without key stay in one partition for about a batch, then go to
/// another one, chosen at random; over many records the bytes even out.
#[derive(Debug)]
struct Sticky {
    topic: Arc<Topic>,
    partition: Option<u32>,
    bytes: usize,
}

/// How many topics a producer remembers the sticky partition of.
const MAX_REMEMBERED: usize = 64;

impl Route {
    /// The topic of this name, looked up if it is not the one of the last record.
    #[inline]
    pub(super) fn topic(
        &mut self,
        name: &str,
        find: impl FnOnce(&str) -> Result<Arc<Topic>>,
    ) -> Result<&Arc<Topic>> {
        let known = self
            .current
            .as_ref()
            .is_some_and(|current| *current.topic.name == *name && !current.topic.is_deleted());
        if !known {
            self.change(name, find)?;
        }
        match &self.current {
            Some(current) => Ok(&current.topic),
            None => Err(Error::UnknownTopic { topic: name.to_owned() }),
        }
    }

    fn change(&mut self, name: &str, find: impl FnOnce(&str) -> Result<Arc<Topic>>) -> Result<()> {
        self.others.retain(|sticky| !sticky.topic.is_deleted());
        if let Some(last) = self.current.take()
            && !last.topic.is_deleted()
        {
            self.others.truncate(MAX_REMEMBERED - 1);
            self.others.insert(0, last);
        }
        let known = self.others.iter().position(|sticky| *sticky.topic.name == *name);
        self.current = Some(match known {
            Some(at) => self.others.remove(at),
            None => Sticky { topic: find(name)?, partition: None, bytes: 0 },
        });
        Ok(())
    }

    /// The partition for a record of the current topic: the one it names, that of its key, or the
    /// sticky one.
    #[inline]
    pub(super) fn log(
        &mut self,
        record: &Record<'_>,
        bytes: usize,
        batch_size: usize,
        random: &dyn Random,
    ) -> Result<&Arc<Log>> {
        let Some(current) = &mut self.current else {
            return Err(Error::UnknownTopic { topic: record.topic.to_owned() });
        };
        let count = current.topic.logs.len() as u32;
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, _) if count == 1 => 0,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => current.stick(bytes, batch_size, random),
        };
        current.topic.log(partition)
    }
}

impl Sticky {
    fn stick(&mut self, bytes: usize, batch_size: usize, random: &dyn Random) -> u32 {
        let count = self.topic.logs.len() as u64;
        let partition = match self.partition {
            Some(partition) if self.bytes < batch_size => partition,
            _ => {
                self.bytes = 0;
                (random.next_u64() % count.max(1)) as u32
            }
        };
        self.partition = Some(partition);
        self.bytes += bytes;
        partition
    }
}
