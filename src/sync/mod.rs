//! Locks, conditions and atomics of the protocols between threads: those of `parking_lot` and `std`, or,
//! with `cfg(loom)`, ones whose every order a model checker goes through (see `tests/README.md`).
//!
//! What takes part in a modelled protocol takes all of them from here: a lock that the checker does not know
//! would stop it for good when a thread that holds one gives way to another.

#[cfg(loom)]
mod model;

#[cfg(loom)]
pub(crate) use model::{
    Accesses, Calls, Condvar, MappedMutexGuard, Mutex, MutexGuard, OnceLock, RwLock, atomic, check,
    spawn,
};
#[cfg(not(loom))]
pub(crate) use parking_lot::{Condvar, MappedMutexGuard, Mutex, MutexGuard, RwLock};
#[cfg(not(loom))]
pub(crate) use std::sync::{OnceLock, atomic};

/// Tells the model checker which bytes of plain memory are read and written, so that it finds those that
/// nothing orders. It is nothing and does nothing otherwise.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Accesses;

#[cfg(not(loom))]
#[expect(clippy::unused_self, reason = "the same calls as in a model")]
impl Accesses {
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn read(&self, _from: usize, _to: usize) {}

    #[inline(always)]
    pub(crate) fn write(&self, _from: usize, _to: usize) {}
}

/// Calls that come one after the other in any order, like those of a system: the model checker lets others go
/// first at each of them. It is nothing and does nothing otherwise.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Calls;

#[cfg(not(loom))]
#[expect(clippy::unused_self, reason = "the same calls as in a model")]
impl Calls {
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn enter(&self) {}
}
