//! Guards that a test run can disable, to show that a test fails without them.

/// Returns whether the named guard is disabled. Always `false`, and no code at all, unless the
/// crate is built with `--cfg planted_faults`. Then it is true for the one fault that
/// `GROUPLOG_PLANTED_FAULT` names. See `tests/crash/planted.sh`.
#[cfg(not(planted_faults))]
#[inline(always)]
pub(crate) const fn planted(_fault: &str) -> bool {
    false
}

#[cfg(planted_faults)]
pub(crate) fn planted(fault: &str) -> bool {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("GROUPLOG_PLANTED_FAULT").ok()).as_deref() == Some(fault)
}
