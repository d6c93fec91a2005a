//! Runs seeds on several threads; each seed on one of them alone.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Failure;
use crate::trace::Tally;

/// Runs the seeds, until one fails: the lowest of those that did.
pub(crate) fn run_all(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<Tally, Box<Failure>> + Sync,
) -> Result<Tally, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    let failed: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(seed) {
                        Ok(tally) => total.lock().unwrap().add(&tally),
                        Err(failure) => {
                            let mut failed = failed.lock().unwrap();
                            if failed.as_ref().is_none_or(|known| failure.seed < known.seed) {
                                *failed = Some(failure);
                            }
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap() {
        Some(failure) => Err(failure),
        None => Ok(total.into_inner().unwrap()),
    }
}
