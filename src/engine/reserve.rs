//! The `reserve` file: disk space that guarantees that the journal can be written out (hazard H10).
//!
//! The file holds no data, only as many blocks as the journal. A checkpoint that meets a full disk releases
//! them and continues in their space. Appends then fail until the reserve can be refilled. Commits and
//! deletions still work, and the space that deletions free refills the reserve.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::engine::files::RESERVE_FILE as FILE;
use crate::error::{Error, Result};
use crate::storage::{OpenMode, Storage};
use crate::types::planted;

/// The reserved disk space.
#[derive(Debug)]
pub(super) struct Reserve {
    storage: Arc<dyn Storage>,
    /// Reserved bytes.
    bytes: Mutex<u64>,
    given_up: AtomicBool,
}

impl Reserve {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, bytes: Mutex::new(0), given_up: AtomicBool::new(false) }
    }

    /// Returns whether the reserve was released for lack of space.
    #[inline]
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Reserves at least `bytes`.
    ///
    /// # Errors
    /// `DiskFull` if there is not enough space. The reserve is then empty, as after [`Reserve::give_up`].
    pub(super) fn ensure(&self, bytes: u64) -> Result<()> {
        let mut kept = self.bytes.lock();
        if *kept >= bytes && !self.is_given_up() || planted("no_reserve") {
            return Ok(());
        }
        let path = Path::new(FILE);
        let mode = match self.storage.metadata(path)? {
            Some(_) => OpenMode::Write,
            None => OpenMode::CreateNew,
        };
        let set_aside = self.storage.open(path, mode).and_then(|file| file.preallocate(0, bytes));
        match set_aside {
            Ok(()) => {
                *kept = bytes;
                self.given_up.store(false, Ordering::Release);
                Ok(())
            }
            Err(error @ Error::DiskFull { .. }) => {
                self.given_up.store(true, Ordering::Release);
                // A part of the reserve would be useless and take space from other files.
                self.remove()?;
                *kept = 0;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Releases the space. Returns whether there was any.
    pub(super) fn give_up(&self) -> Result<bool> {
        let mut kept = self.bytes.lock();
        self.given_up.store(true, Ordering::Release);
        if *kept == 0 {
            return Ok(false);
        }
        self.remove()?;
        *kept = 0;
        Ok(true)
    }

    fn remove(&self) -> Result<()> {
        let path = Path::new(FILE);
        match self.storage.metadata(path)? {
            Some(_) => self.storage.remove(path),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    #[test]
    fn the_reserve_is_released_once_and_refilled() {
        let memory = Memory::new();
        memory.set_capacity(10_000);
        let reserve = Reserve::new(Arc::new(memory.clone()));
        reserve.ensure(6_000).unwrap();
        assert_eq!(memory.free_space().unwrap(), 4_000);
        assert!(reserve.give_up().unwrap());
        assert!(reserve.is_given_up());
        assert!(!reserve.give_up().unwrap());
        assert_eq!(memory.free_space().unwrap(), 10_000);
        memory.set_capacity(5_000);
        assert!(matches!(reserve.ensure(6_000), Err(Error::DiskFull { .. })));
        assert_eq!(memory.free_space().unwrap(), 5_000);
        memory.set_capacity(7_000);
        reserve.ensure(6_000).unwrap();
        assert!(!reserve.is_given_up());
    }
}
