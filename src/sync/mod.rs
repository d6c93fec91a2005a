//! Locks, conditions and atomics of the protocols between threads: those of `parking_lot` and
//! `std`. With `cfg(loom)` they are ones whose every order a model checker explores (see
//! `tests/README.md`).
//!
//! Code that takes part in a modelled protocol must take all of them from here. The checker does
//! not know other locks. Such a lock would block it forever when the thread that holds it yields to
//! another.
//!
//! Imported by `storage`, `journal`, `log`, `engine`, `consumer`, `share` and `broker`.

mod gate;
#[cfg(loom)]
mod model;
#[cfg(all(test, loom))]
mod models;

pub(crate) use gate::Gate;

#[cfg(loom)]
pub(crate) use model::{
    Accesses, Calls, Condvar, MappedMutexGuard, Mutex, MutexGuard, OnceLock, RwLock, atomic, check,
    spawn,
};
#[cfg(not(loom))]
pub(crate) use parking_lot::{Condvar, MappedMutexGuard, Mutex, MutexGuard, RwLock};
#[cfg(not(loom))]
pub(crate) use std::sync::{OnceLock, atomic};

/// Reports reads and writes of plain memory to the model checker, which finds unordered accesses.
/// An empty type without effect otherwise.
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

/// Calls whose order matters, such as system calls. The model checker may run other threads before
/// each of them. An empty type without effect otherwise.
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
