//! Callbacks of `send_with`. Each producer that uses them has one thread, so user code never runs
//! on a thread of the engine.

use std::sync::Arc;
use std::sync::Weak;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::RecordMetadata;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::types::Lsn;

type Done = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

/// A record whose callback has not been called yet.
pub(super) struct Pending {
    metadata: RecordMetadata,
    wait: Option<Lsn>,
    done: Done,
}

/// The maximum number of outstanding callbacks. Beyond it `send_with` waits for room.
const MAX_OUTSTANDING: usize = 10_000;

/// The callback thread, started with the first callback.
#[derive(Debug, Default)]
pub(super) struct Completion {
    thread: Mutex<Option<Running>>,
    outstanding: Arc<Outstanding>,
}

#[derive(Debug)]
struct Running {
    sender: Sender<Pending>,
    handle: JoinHandle<()>,
    /// The process in which the thread runs. A forked child has no such thread.
    pid: u32,
}

#[derive(Debug, Default)]
struct Outstanding {
    count: Mutex<usize>,
    none: Condvar,
}

impl Completion {
    /// Passes `done` to the thread behind `sender`, which [`Completion::start`] returned.
    pub(super) fn push(
        &self,
        sender: &Sender<Pending>,
        metadata: RecordMetadata,
        wait: Option<Lsn>,
        done: Done,
    ) -> Result<()> {
        {
            let mut count = self.outstanding.count.lock();
            *count = count.saturating_add(1);
        }
        sender.send(Pending { metadata, wait, done }).map_err(|_| {
            self.outstanding.done();
            Error::Closed
        })
    }

    /// Waits until every callback has returned. Returns at once if called from a callback.
    pub(super) fn wait(&self) {
        let thread = self.thread.lock().as_ref().map(|running| running.handle.thread().id());
        if thread == Some(std::thread::current().id()) {
            return;
        }
        let mut count = self.outstanding.count.lock();
        while *count > 0 {
            self.outstanding.none.wait(&mut count);
        }
    }

    /// Returns the channel to the thread, and starts the thread if necessary.
    pub(super) fn start(&self, engine: &Arc<Engine>) -> Result<Sender<Pending>> {
        let mut thread = self.thread.lock();
        if let Some(running) = &*thread {
            return Ok(running.sender.clone());
        }
        let (sender, receiver) = bounded::<Pending>(MAX_OUTSTANDING);
        let engine_ref: Weak<Engine> = Arc::downgrade(engine);
        let outstanding = Arc::clone(&self.outstanding);
        let handle = std::thread::Builder::new()
            .name("grouplog-callbacks".to_owned())
            .spawn(move || {
                for pending in receiver {
                    // A callback that panics ends neither the thread nor the waits for it.
                    let counted = CountDown(&outstanding);
                    complete(&engine_ref, pending);
                    drop(counted);
                }
            })
            .map_err(|error| Error::io("start a thread for", engine.path(), error))?;
        let pid = std::process::id();
        *thread = Some(Running { sender: sender.clone(), handle, pid });
        Ok(sender)
    }
}

fn complete(engine: &Weak<Engine>, pending: Pending) {
    let Pending { metadata, wait, done } = pending;
    let result = match (wait, engine.upgrade()) {
        (None, _) => Ok(metadata),
        (Some(lsn), Some(engine)) => engine.wait_synced(lsn).map(|()| metadata),
        // Closing the engine synced everything, or reported to its caller that it could not.
        (Some(_), None) => Err(Error::Closed),
    };
    let call = std::panic::AssertUnwindSafe(move || done(result));
    // The panic hook has reported it. The callback belongs to the user, and so does its panic.
    let _reported = std::panic::catch_unwind(call);
}

struct CountDown<'a>(&'a Outstanding);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl Outstanding {
    fn done(&self) {
        let mut count = self.count.lock();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.none.notify_all();
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let Some(Running { sender, handle, pid }) = self.thread.get_mut().take() else { return };
        if pid != std::process::id() {
            // The thread may have held the channel's lock when the process was forked. Nobody releases it here.
            std::mem::forget(sender);
            return;
        }
        drop(sender);
        if handle.thread().id() != std::thread::current().id() {
            // The thread ends when the channel is empty. It has caught the panics of its callbacks.
            let _ended = handle.join();
        }
    }
}
