use std::fmt;
use std::time::Duration;

use crate::engine::Said;

/// How a job ends that is not done. A handler of [`Workers`](super::Workers) returns it.
///
/// Every `std::error::Error` becomes one with `?`: the job is released and comes again after the group's backoff, with the
/// text of the error as [`last_reason`](crate::ShareRecord::last_reason). The other ends have functions here.
///
/// ```
/// use grouplog::{Job, JobError};
/// use std::time::Duration;
///
/// fn send(job: &Job) -> Result<(), JobError> {
///     let address = std::str::from_utf8(job.value().unwrap_or_default())?;
///     match address {
///         "" => Err(JobError::reject("no address")),
///         "busy" => Err(JobError::retry_after(Duration::from_secs(60)).because("the server is busy")),
///         "later" => Err(JobError::snooze(Duration::from_secs(3600))),
///         "withdrawn" => Err(JobError::cancel()),
///         "down" => Err(JobError::retry("the server is down")),
///         _ => Ok(()),
///     }
/// }
/// # let _ = send;
/// ```
// It is no `std::error::Error` itself, so that each of these can become one.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a handler returns it"]
pub struct JobError {
    said: Said,
}

impl JobError {
    /// The job comes again after the group's backoff, or becomes a dead letter if this was its last delivery.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self { said: Said::Release { delay: None, reason: Some(reason.into()) } }
    }

    /// The job comes again after `delay`, whatever the group's backoff is, or becomes a dead letter if this was its last
    /// delivery.
    pub fn retry_after(delay: Duration) -> Self {
        Self { said: Said::Release { delay: Some(delay), reason: None } }
    }

    /// The job never comes again. It becomes a dead letter with this reason if the group has a topic for them.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self { said: Said::Reject { reason: Some(reason.into()) } }
    }

    /// The job never comes again, and becomes no dead letter.
    pub fn cancel() -> Self {
        Self { said: Said::Cancel }
    }

    /// The job comes again after `delay`, and this delivery does not count.
    pub fn snooze(delay: Duration) -> Self {
        Self { said: Said::Snooze { delay } }
    }

    /// Adds a reason, or replaces the one that there is. Of a long one as much is kept as
    /// [`ShareRecord::release_because`](crate::ShareRecord::release_because) and
    /// [`ShareRecord::reject`](crate::ShareRecord::reject) keep. Jobs that are
    /// cancelled or snoozed have none.
    pub fn because(mut self, why: impl Into<String>) -> Self {
        if let Said::Release { reason, .. } | Said::Reject { reason } = &mut self.said {
            *reason = Some(why.into());
        }
        self
    }

    pub(super) fn into_said(self) -> Said {
        self.said
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::retry(error.to_string())
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobError").field(&self.said).finish()
    }
}
