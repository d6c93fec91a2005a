//! Paths inside a storage.

use std::io;
use std::path::{Component, Path};

use crate::error::{Error, Result};

/// Rejects paths that could lead out of a storage's root: absolute ones, and those with `.` or `..`
/// as a component. The empty path names the root.
pub(crate) fn check(op: &'static str, path: &Path) -> Result<()> {
    if path.components().all(|component| matches!(component, Component::Normal(_))) {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "the path leaves its root");
    Err(Error::io(op, path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for inside in ["", "a", "a/b.log", "a//b"] {
            assert!(check("open", Path::new(inside)).is_ok(), "{inside}");
        }
        for outside in ["/", "/a", "..", "a/../b", "./a", "../a"] {
            assert!(check("open", Path::new(outside)).is_err(), "{outside}");
        }
    }
}
