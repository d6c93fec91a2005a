use std::sync::Arc;

use crate::engine::{Engine, EngineHandle, Registry, Snapshot};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::time::Clock;

/// The source of a consumer's records: the engine of this process, or a snapshot of a folder.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Live(EngineHandle),
    Snapshot(Arc<Snapshot>),
}

impl Source {
    /// Returns the topics. A forked child gets an error, because a thread of the parent may hold the locks.
    pub(super) fn registry(&self) -> Result<&Registry> {
        match self {
            Self::Live(engine) => {
                engine.check_fork()?;
                Ok(&engine.registry)
            }
            Self::Snapshot(snapshot) => Ok(&snapshot.registry),
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        match self {
            Self::Live(engine) => engine.clock(),
            Self::Snapshot(snapshot) => &*snapshot.clock,
        }
    }

    /// Returns the engine, for a call that changes something.
    pub(super) fn engine(&self) -> Result<&Arc<Engine>> {
        match self {
            Self::Live(engine) => {
                engine.check_open()?;
                Ok(engine)
            }
            Self::Snapshot(_) => Err(Error::Misuse(
                "the folder is open read-only: open it with Broker::open to commit or subscribe",
            )),
        }
    }

    /// Returns the error for a position in `log`, whose topic was deleted.
    pub(super) fn gone(&self, log: &Log) -> Error {
        let partition = log.partition();
        match self.registry().and_then(|registry| registry.log(partition)) {
            Ok(now) if now.topic_id() != log.topic_id() => Error::InconsistentTopicId {
                partition: partition.clone(),
                given: log.topic_id(),
                start: now.start_offset(),
            },
            Ok(_) => Error::UnknownTopic { topic: partition.topic().to_owned() },
            Err(error) => error,
        }
    }

    /// Returns whether records can still arrive.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    pub(super) fn check_open(&self) -> Result<()> {
        match self {
            Self::Live(engine) => engine.check_open(),
            Self::Snapshot(_) => Ok(()),
        }
    }
}
