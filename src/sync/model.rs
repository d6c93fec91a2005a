//! loom's primitives with the interface of `parking_lot`.
//!
//! Each lock is a pair. loom's lock decides which thread continues, and orders memory. The data lie
//! in a `parking_lot` lock that is only taken while loom's is held, so it is always free.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

use loom::cell::UnsafeCell;
pub(crate) use loom::sync::atomic;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread::JoinHandle;

/// How often a thread may be preempted in one execution. Nearly all faults show with two.
const PREEMPTIONS: usize = 2;
/// Stack size in words. Larger than loom's default: the engine needs some of it for paths and
/// messages.
const STACK: usize = 64 << 10;

/// Explores all orders of the threads that `body` [spawns](spawn), with up to `PREEMPTIONS`.
pub(crate) fn check(body: impl Fn() + Send + Sync + 'static) {
    check_preempted(PREEMPTIONS, body);
}

/// As [`check`], with up to `preemptions`.
pub(crate) fn check_preempted(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = builder.max_branches.max(20_000);
    let body = std::sync::Arc::new(body);
    builder.check(move || {
        let body = std::sync::Arc::clone(&body);
        spawn(move || body()).join().unwrap();
    });
}

/// Starts a thread of a model. loom allows five, of which `check` uses two.
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    loom::thread::Builder::new().stack_size(STACK).spawn(body).unwrap()
}

pub(crate) struct Mutex<T> {
    turn: loom::sync::Mutex<()>,
    data: parking_lot::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` while the lock is released for a time, as `turn` is.
    data: Option<parking_lot::MutexGuard<'a, T>>,
    turn: Option<loom::sync::MutexGuard<'a, ()>>,
}

pub(crate) struct MappedMutexGuard<'a, T> {
    data: parking_lot::MappedMutexGuard<'a, T>,
    _turn: Option<loom::sync::MutexGuard<'a, ()>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { turn: loom::sync::Mutex::new(()), data: parking_lot::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard(turn)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.turn.try_lock().ok().map(|turn| self.guard(turn))
    }

    fn guard<'a>(&'a self, turn: loom::sync::MutexGuard<'a, ()>) -> MutexGuard<'a, T> {
        MutexGuard { mutex: self, data: self.data.try_lock(), turn: Some(turn) }
    }
}

impl<'a, T> MutexGuard<'a, T> {
    pub(crate) fn unlocked<R>(guard: &mut Self, body: impl FnOnce() -> R) -> R {
        guard.data = None;
        guard.turn = None;
        let result = body();
        *guard = guard.mutex.lock();
        result
    }

    pub(crate) fn map<U>(
        guard: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        let data = parking_lot::MutexGuard::map(guard.data.unwrap(), part);
        MappedMutexGuard { data, _turn: guard.turn }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.fmt(f)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.data.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.data.as_mut().unwrap()
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.fmt(f)
    }
}

impl<T> Deref for MappedMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for MappedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

pub(crate) struct RwLock<T> {
    turn: loom::sync::RwLock<()>,
    data: parking_lot::RwLock<T>,
}

/// A held lock: the guard of the data and loom's guard, its turn.
pub(crate) struct Held<D, T> {
    data: D,
    _turn: T,
}

type Reading<'a, T> =
    Held<parking_lot::RwLockReadGuard<'a, T>, loom::sync::RwLockReadGuard<'a, ()>>;
type Writing<'a, T> =
    Held<parking_lot::RwLockWriteGuard<'a, T>, loom::sync::RwLockWriteGuard<'a, ()>>;

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { turn: loom::sync::RwLock::new(()), data: parking_lot::RwLock::new(value) }
    }

    pub(crate) fn read(&self) -> Reading<'_, T> {
        let turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        Held { data: self.data.try_read().unwrap(), _turn: turn }
    }

    pub(crate) fn write(&self) -> Writing<'_, T> {
        let turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        Held { data: self.data.try_write().unwrap(), _turn: turn }
    }

    pub(crate) fn try_write(&self) -> Option<Writing<'_, T>> {
        let turn = self.turn.try_write().ok()?;
        Some(Held { data: self.data.try_write().unwrap(), _turn: turn })
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.fmt(f)
    }
}

impl<D: Deref, T> Deref for Held<D, T> {
    type Target = D::Target;
    fn deref(&self) -> &D::Target {
        &self.data
    }
}

impl<D: DerefMut, T> DerefMut for Held<D, T> {
    fn deref_mut(&mut self) -> &mut D::Target {
        &mut self.data
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

/// Reports whether a wait timed out. Never true here, where time does not advance.
pub(crate) struct WaitTimeoutResult;

impl WaitTimeoutResult {
    #[expect(clippy::unused_self, reason = "as parking_lot has it")]
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.data = None;
        let turn = self.0.wait(guard.turn.take().unwrap());
        guard.turn = Some(turn.unwrap_or_else(PoisonError::into_inner));
        guard.data = guard.mutex.data.try_lock();
    }

    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _limit: Duration,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { is_set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    /// `init` must not meet another thread.
    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let value = self.value.get_or_init(init);
        self.is_set.store(true, Ordering::Release);
        value
    }
}

/// The accesses to some memory, write by write. The model fails if nothing orders a read after the
/// writes to the same bytes.
#[derive(Debug, Default)]
pub(crate) struct Accesses(parking_lot::Mutex<Vec<(usize, usize, UnsafeCell<()>)>>);

impl Accesses {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn read(&self, from: usize, to: usize) {
        for (start, end, written) in &*self.0.lock() {
            if *start < to && from < *end {
                written.with(|_| ());
            }
        }
    }

    pub(crate) fn write(&self, from: usize, to: usize) {
        let written = UnsafeCell::new(());
        written.with_mut(|_| ());
        self.0.lock().push((from, to, written));
    }
}

/// Orders the calls: each one sees the effects of those before it.
#[derive(Debug, Default)]
pub(crate) struct Calls(AtomicUsize);

impl Calls {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
