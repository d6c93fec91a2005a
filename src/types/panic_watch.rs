use super::planted;

/// Reports whether a panic that began in its scope is unwinding that scope.
///
/// `std::thread::panicking` alone is also true in a program's own destructors while the thread
/// unwinds for a reason unrelated to the engine.
#[derive(Debug)]
pub(crate) struct PanicWatch {
    panicking_before: bool,
}

impl PanicWatch {
    #[inline]
    pub(crate) fn begin() -> Self {
        Self { panicking_before: std::thread::panicking() }
    }

    /// Called by the destructor of the guard that holds it.
    #[inline]
    pub(crate) fn has_panicked(&self) -> bool {
        let before = self.panicking_before && !planted("any_panic_counts");
        !before && std::thread::panicking() && !planted("panic_not_noticed")
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Guard<'a>(PanicWatch, &'a AtomicBool);

    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.1.store(self.0.has_panicked(), Ordering::Relaxed);
        }
    }

    struct Destructor<'a>(&'a AtomicBool);

    impl Drop for Destructor<'_> {
        fn drop(&mut self) {
            drop(Guard(PanicWatch::begin(), self.0));
        }
    }

    #[test]
    fn a_panic_counts_in_the_scope_where_it_began() {
        let (inside, beside) = (AtomicBool::new(false), AtomicBool::new(true));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _destructor = Destructor(&beside);
            let _guard = Guard(PanicWatch::begin(), &inside);
            panic!("on purpose");
        }));
        assert!(unwound.is_err());
        assert!(inside.load(Ordering::Relaxed));
        assert!(!beside.load(Ordering::Relaxed), "started while the thread was already unwinding");
    }
}
