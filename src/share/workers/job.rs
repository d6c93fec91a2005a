use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::share::batch::ShareBatch;
use crate::share::record::ShareRecord;

/// A record that a handler of [`Workers`](super::Workers) is called with. What the handler returns says what becomes of it.
///
/// It has all that a [`ShareRecord`] tells: key, value, headers, timestamp, topic, partition, offset, the delivery count
/// and the reason why the delivery before this one failed.
///
/// ```
/// use grouplog::{Broker, Job, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("emails").key("alice").value("hello"))?;
/// let (told, heard) = std::sync::mpsc::channel();
/// let workers = broker.workers("emails").run(move |job: &Job| {
///     told.send((job.key().map(<[u8]>::to_vec), job.offset(), job.delivery_count()))?;
///     Ok(())
/// })?;
/// assert_eq!(heard.recv().unwrap(), (Some(b"alice".to_vec()), 0, 1));
/// workers.shutdown(Duration::from_secs(10))?;
/// # Ok::<(), grouplog::Error>(())
/// ```
pub struct Job {
    /// Counts as ended: the workers say what became of it.
    record: ShareRecord,
}

impl Job {
    pub(super) fn new(batch: &Arc<ShareBatch>, at: usize) -> Self {
        Self { record: ShareRecord::ended(batch, at) }
    }
}

impl Deref for Job {
    type Target = ShareRecord;

    fn deref(&self) -> &ShareRecord {
        &self.record
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Job").field(&self.record).finish()
    }
}
