//! A gate before a lock that many threads take for a short time.
//!
//! A lock that wakes a waiting thread each time it is released makes each release a system call, and the woken thread finds
//! the lock taken again. Here at most one woken thread is on its way. Until it arrives, the threads that run pass the gate
//! among themselves.

use super::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use super::{Condvar, Mutex};
use crate::types::planted;

/// A gate: one thread at a time is inside. It protects no data; the lock behind it does.
#[derive(Debug)]
pub(crate) struct Gate {
    taken: AtomicBool,
    /// How many threads sleep, or are about to.
    sleeping: AtomicUsize,
    /// Whether a thread was woken that has not looked yet.
    waking: AtomicBool,
    sleep: Mutex<()>,
    left: Condvar,
}

/// How often a thread looks before it sleeps: about a microsecond.
const LOOKS: usize = if cfg!(loom) { 1 } else { 40 };

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            waking: AtomicBool::new(false),
            sleep: Mutex::new(()),
            left: Condvar::new(),
        }
    }

    /// Waits until no other thread is inside. The thread is inside until the pass is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> Pass<'_> {
        if !self.try_enter() {
            self.wait();
        }
        Pass { gate: self }
    }

    #[inline]
    fn try_enter(&self) -> bool {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self) {
        for _ in 0..LOOKS {
            std::hint::spin_loop();
            if !self.taken.load(Ordering::Relaxed) && self.try_enter() {
                return;
            }
        }
        let mut guard = self.sleep.lock();
        self.sleeping.fetch_add(1, Ordering::Relaxed);
        // With the fence of `leave`: the thread that leaves sees this sleeper, or this one sees that it has left.
        fence(Ordering::SeqCst);
        while !self.try_enter() {
            self.left.wait(&mut guard);
            self.waking.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    fn leave(&self) {
        self.taken.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
        let sleeping =
            self.sleeping.load(Ordering::Relaxed) > usize::from(planted("gate_keeps_one"));
        if sleeping && !self.waking.swap(true, Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let guard = self.sleep.lock();
        if self.sleeping.load(Ordering::Relaxed) > 0 || planted("gate_waits_for_nobody") {
            self.left.notify_one();
        } else {
            // The sleeper has entered meanwhile.
            self.waking.store(false, Ordering::Relaxed);
        }
        drop(guard);
    }
}

/// The thread is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'g> {
    gate: &'g Gate,
}

impl Drop for Pass<'_> {
    #[inline]
    fn drop(&mut self) {
        self.gate.leave();
    }
}
