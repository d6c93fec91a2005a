use std::time::Duration;

use super::{Consumer, ConsumerRecords};
use crate::error::{Error, Result};

/// What polls return, for ever: the iterator of [`Consumer::polls`].
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let producer = broker.producer()?;
/// producer.send_all(["1 pear", "2 pears", "stop"].map(|v| Record::to("orders").value(v)))?;
///
/// let mut consumer = broker.consumer("billing")?;
/// consumer.subscribe(["orders"])?;
/// let handle = consumer.wakeup_handle();
/// let mut polls = consumer.polls();
/// while let Some(records) = polls.next() {
///     for record in &records? {
///         if record.value() == Some(b"stop") {
///             handle.wakeup(); // from any thread: a signal's, another worker's, or this one
///         }
///     }
///     polls.consumer().commit()?;
/// }
/// consumer.close()?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct Polls<'a> {
    consumer: &'a mut Consumer,
}

impl Polls<'_> {
    /// The consumer, for what is done between two polls: commit, seek, pause.
    pub fn consumer(&mut self) -> &mut Consumer {
        self.consumer
    }
}

impl Iterator for Polls<'_> {
    type Item = Result<ConsumerRecords>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.consumer.poll(Duration::MAX) {
                Ok(records) if !records.is_empty() => return Some(Ok(records)),
                // Of a folder that is open for reading: nothing more can come.
                Ok(_) if !self.consumer.source.is_live() => return None,
                Ok(_) => {}
                Err(Error::Wakeup) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Consumer {
    /// An endless iterator: each step is a [`poll`](Consumer::poll) that waits until there are records,
    /// however long that takes. It ends when [`WakeupHandle::wakeup`](super::WakeupHandle::wakeup) is
    /// called, and can be taken again after that; of a folder that is open for reading it ends when
    /// everything is read.
    ///
    /// Errors are those of `poll`, and most of them come again at the next step: leave the loop by `?`.
    pub fn polls(&mut self) -> Polls<'_> {
        Polls { consumer: self }
    }
}
