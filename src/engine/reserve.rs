//! The `reserve` file: disk space that guarantees that the journal can be written out (hazard H10).
//!
//! The file holds no data, only as many blocks as the journal. It grows and shrinks with the journal, and a
//! closed folder has none. A checkpoint that meets a full disk releases
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
    kept: Mutex<Kept>,
    given_up: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    /// Reserved bytes.
    bytes: u64,
    /// Whether the file may belong to the next writer of the folder.
    given_back: bool,
}

impl Reserve {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, kept: Mutex::default(), given_up: AtomicBool::new(false) }
    }

    /// Returns whether the reserve was released for lack of space.
    #[inline]
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Makes the reserve as large as the journal, which has `bytes`.
    ///
    /// # Errors
    /// `DiskFull` if there is not enough space. The reserve is then empty, as after [`Reserve::give_up`]. `Closed`
    /// after [`Reserve::give_back`].
    pub(super) fn fit(&self, bytes: u64) -> Result<()> {
        let mut kept = self.kept.lock();
        if kept.given_back {
            return Err(Error::Closed);
        }
        let larger = kept.bytes > bytes && !planted("reserve_only_grows");
        let fits = kept.bytes >= bytes && !larger && !self.is_given_up();
        if fits || planted("no_reserve") {
            return Ok(());
        }
        match self.set_aside(larger || kept.bytes == 0, bytes) {
            Ok(()) => {
                kept.bytes = bytes;
                self.given_up.store(false, Ordering::Release);
                Ok(())
            }
            Err(error @ Error::DiskFull { .. }) => {
                self.given_up.store(true, Ordering::Release);
                // A part of the reserve would be useless and take space from other files.
                self.remove()?;
                kept.bytes = 0;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Reserves `bytes`. If the file may be larger, as one is that a killed process left, makes it smaller.
    fn set_aside(&self, may_be_larger: bool, bytes: u64) -> Result<()> {
        let path = Path::new(FILE);
        let there = self.storage.metadata(path)?.is_some();
        let mode = if there { OpenMode::Write } else { OpenMode::CreateNew };
        let file = self.storage.open(path, mode)?;
        if there && may_be_larger {
            // The blocks below the length stay, so that the space cannot be lost in between.
            file.set_len(bytes)?;
            file.trim()?;
        }
        file.preallocate(0, bytes)
    }

    /// Removes the file at a clean close, because the next opening has nothing to write out.
    pub(super) fn remove_at_close(&self) -> Result<()> {
        let mut kept = self.kept.lock();
        if planted("reserve_stays") {
            return Ok(());
        }
        kept.given_back = true;
        self.remove()?;
        kept.bytes = 0;
        Ok(())
    }

    /// Leaves the file alone from here on.
    pub(super) fn give_back(&self) {
        self.kept.lock().given_back = true;
    }

    /// Releases the space. Returns whether there was any.
    pub(super) fn give_up(&self) -> Result<bool> {
        let mut kept = self.kept.lock();
        self.given_up.store(true, Ordering::Release);
        if kept.bytes == 0 {
            return Ok(false);
        }
        self.remove()?;
        kept.bytes = 0;
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
        reserve.fit(6_000).unwrap();
        assert_eq!(memory.free_space().unwrap(), 4_000);
        assert!(reserve.give_up().unwrap());
        assert!(reserve.is_given_up());
        assert!(!reserve.give_up().unwrap());
        assert_eq!(memory.free_space().unwrap(), 10_000);
        memory.set_capacity(5_000);
        assert!(matches!(reserve.fit(6_000), Err(Error::DiskFull { .. })));
        assert_eq!(memory.free_space().unwrap(), 5_000);
        memory.set_capacity(7_000);
        reserve.fit(6_000).unwrap();
        assert!(!reserve.is_given_up());
    }

    #[test]
    fn the_reserve_shrinks_with_the_journal_and_vanishes_at_a_close() {
        let memory = Memory::new();
        memory.set_capacity(10_000);
        let new = || Reserve::new(Arc::new(memory.clone()));
        let reserve = new();
        reserve.fit(8_000).unwrap();
        for bytes in [5_000, 2_000, 6_000, 1_000] {
            reserve.fit(bytes).unwrap();
            assert_eq!(memory.free_space().unwrap(), 10_000 - bytes);
        }
        reserve.fit(9_000).unwrap();
        // A killed process left a larger one.
        let reserve = new();
        reserve.fit(3_000).unwrap();
        assert_eq!(memory.free_space().unwrap(), 7_000);
        reserve.remove_at_close().unwrap();
        assert!(memory.metadata(Path::new(FILE)).unwrap().is_none());
        assert_eq!(memory.free_space().unwrap(), 10_000);
    }
}
