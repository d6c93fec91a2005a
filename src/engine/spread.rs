//! Spreads work over many partitions to several threads, while a folder is opened or closed. Nothing else
//! needs the processor then, and most of the time passes in the kernel: looking up and creating files.
//!
//! Imported by `checkpoint`, `close`, `recovery` and `verify`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::config::BrokerConfig;

/// A thread gets at least this many partitions. Starting one takes as long as a few of them.
const FEWEST: usize = 64;
/// The kernel creates files no faster with more threads, because they meet at the same locks.
const MOST: usize = 4;

/// Returns how many threads work on `count` partitions. One without background threads, so that tests repeat.
pub(super) fn threads(config: &BrokerConfig, count: usize) -> usize {
    if !config.background {
        return 1;
    }
    available().min(MOST).min(count / FEWEST).max(1)
}

/// Returns the number of processors that this process may use.
pub(super) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` for each item on several threads. Returns the results in the order of the items, or the first
/// error in that order among those that occurred. After an error, begins no further work.
pub(super) fn try_map<T: Sync, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed)
            && let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(number)
        {
            let result = work(item);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.push((number, result));
        }
        done
    };
    let mut all = std::thread::scope(|scope| {
        // Where the system refuses a thread, the others do its work.
        let name = || std::thread::Builder::new().name("grouplog-spread".to_owned());
        let others: Vec<_> =
            (1..threads).filter_map(|_| name().spawn_scoped(scope, run).ok()).collect();
        let mut all = run();
        for other in others {
            // A panic in a thread is a bug, and continues in the caller.
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_unstable_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1_000).collect();
        for threads in [0, 1, 4] {
            let doubled = try_map(threads, &items, |item| Ok::<_, ()>(item * 2)).unwrap();
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let items: Vec<usize> = (0..100_000).collect();
        for threads in [1, 4] {
            let begun = AtomicUsize::new(0);
            let failed = try_map(threads, &items, |item| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *item == 3 { Err(*item) } else { Ok(()) }
            });
            assert_eq!(failed, Err(3));
            assert!(begun.into_inner() < items.len());
        }
    }

    #[test]
    fn few_partitions_get_one_thread() {
        let config = BrokerConfig::new();
        assert_eq!(threads(&config, 0), 1);
        assert_eq!(threads(&config, FEWEST), 1);
        assert_eq!(threads(&config, 100_000), available().min(MOST));
        assert_eq!(threads(&config.background(false), 100_000), 1);
    }
}
