use std::time::Duration;

use super::{Consumer, ConsumerRecords};
use crate::error::{Error, Result};

/// An endless iterator over polls, from [`Consumer::polls`].
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
///             handle.wakeup(); // from any thread: one that waits for signals, a worker, or this one
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
    /// Returns the consumer, to commit, seek or pause between two polls.
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
                // A read-only folder gets no more records.
                Ok(_) if !self.consumer.source.is_live() => return None,
                Ok(_) => {}
                Err(Error::Wakeup) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Consumer {
    /// Returns an endless iterator. Each step is a [`poll`](Consumer::poll) that waits for records without a
    /// time limit.
    ///
    /// The iterator ends after a call of [`WakeupHandle::wakeup`](super::WakeupHandle::wakeup); a new one can
    /// be made after that. With a read-only folder it ends when everything is read.
    ///
    /// # Errors
    /// Each step returns the errors of `poll`. Most of them come again at the next step, so leave the loop
    /// with `?`.
    pub fn polls(&mut self) -> Polls<'_> {
        Polls { consumer: self }
    }
}
