//! Runs seeds on several threads, each seed on one thread.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::Failure;

/// A seed takes some milliseconds. If none ends for this long, the running ones are stuck.
const STUCK: Duration = Duration::from_mins(2);

/// What is counted of each seed.
pub(crate) trait Sum: Default + Display + Send {
    fn add(&mut self, other: &Self);
}

/// Runs the seeds until one fails. Returns the lowest of those that failed.
pub(crate) fn run_all<T: Sum>(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<T, Box<Failure>> + Sync,
) -> Result<T, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(T::default());
    let failed: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    let running: Mutex<BTreeMap<usize, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |thread: usize, ended: &dyn Fn()| {
        while failed.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            running.lock().unwrap().insert(thread, seed);
            match run(seed) {
                Ok(tally) => total.lock().unwrap().add(&tally),
                Err(failure) => {
                    let mut failed = failed.lock().unwrap();
                    if failed.as_ref().is_none_or(|known| failure.seed < known.seed) {
                        *failed = Some(failure);
                    }
                }
            }
            ended();
        }
        running.lock().unwrap().remove(&thread);
    };
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        for thread in 0..threads {
            let (tell, work) = (tell.clone(), &work);
            scope.spawn(move || work(thread, &|| tell.send(()).unwrap_or_default()));
        }
        drop(tell);
        watch(&told, &running);
    });
    match failed.into_inner().unwrap() {
        Some(failure) => Err(failure),
        None => Ok(total.into_inner().unwrap()),
    }
}

/// Watches until all seeds are done. Threads that wait forever cannot be stopped, but their seeds
/// can be named.
fn watch(ended: &Receiver<()>, running: &Mutex<BTreeMap<usize, u64>>) {
    loop {
        match ended.recv_timeout(STUCK) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // Written directly, because the test harness holds captured output back until a
                // test has ended.
                let running = running.lock().unwrap();
                writeln!(io::stderr(), "one of these seeds never ends: {:?}", running.values())
                    .unwrap_or_default();
                std::process::abort();
            }
        }
    }
}
