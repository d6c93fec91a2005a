use std::sync::Arc;

use crate::engine::{Engine, EngineHandle, Registry, Snapshot};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::time::Clock;

/// Where a consumer reads: the engine of this process, or a folder as it was when it was looked at.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Live(EngineHandle),
    Snapshot(Arc<Snapshot>),
}

impl Source {
    /// The topics; not those of a parent's engine, whose locks may be held by threads of the parent.
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

    /// The engine, where something is to be changed.
    pub(super) fn engine(&self) -> Result<&Arc<Engine>> {
        match self {
            Self::Live(engine) => {
                engine.check_open()?;
                Ok(engine)
            }
            Self::Snapshot(_) => {
                Err(Error::Misuse("the folder is open for reading only: nothing can be committed"))
            }
        }
    }

    /// Why a position in `log`, which was deleted, is of no use.
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

    /// Whether records can still arrive.
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
