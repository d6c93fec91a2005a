//! Model checks of the gate.

use std::sync::Arc;

use super::atomic::{AtomicUsize, Ordering};
use super::gate::Gate;
use super::model::check_preempted;
use super::spawn;

/// With fewer, no thread enters between the look of another that leaves and its call that wakes.
const PREEMPTIONS: usize = 4;

/// Passes of `threads` threads, each `times` times. A thread that sleeps for ever is a deadlock, which the checker reports.
fn pass(threads: usize, times: usize) {
    check_preempted(PREEMPTIONS, move || {
        let shared = Arc::new((Gate::new(), AtomicUsize::new(0)));
        let pass = move |shared: &(Gate, AtomicUsize)| {
            for _ in 0..times {
                let inside = shared.0.enter();
                assert_eq!(shared.1.fetch_add(1, Ordering::Relaxed), 0, "two are inside");
                shared.1.fetch_sub(1, Ordering::Relaxed);
                drop(inside);
            }
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let shared = Arc::clone(&shared);
                spawn(move || pass(&shared))
            })
            .collect();
        pass(&shared);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_gate_lets_one_thread_in_and_forgets_none() {
    pass(2, 2);
}

#[test]
fn a_gate_of_three_threads_forgets_none() {
    pass(3, 1);
}
