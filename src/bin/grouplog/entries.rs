//! Files of the folder other than segments: journal, checkpoints, offsets, indexes, checksums, texts.

use std::path::{Path, PathBuf};

use grouplog::{Entry, EntryValue};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::Output;

/// Returns the path that `what` names: as given, or within the folder.
pub(crate) fn find(data: &Path, what: &Path) -> Option<PathBuf> {
    // Not only regular files: the engine reports what is wrong with others.
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    [what.to_owned(), data.join(what)].into_iter().find(is_there)
}

/// Returns whether the engine reads this kind of file entry by entry.
pub(crate) fn is_known(path: &Path) -> bool {
    const NAMES: [&str; 7] = [
        "checkpoint.a",
        "checkpoint.b",
        "offsets.a",
        "offsets.b",
        "meta.properties",
        "partition.metadata",
        "leader-epoch-checkpoint",
    ];
    const EXTENSIONS: [&str; 4] = ["journal", "index", "timeindex", "sums"];
    let is_one_of = |names: &[&str], name: Option<&std::ffi::OsStr>| {
        name.and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name))
    };
    is_one_of(&NAMES, path.file_name()) || is_one_of(&EXTENSIONS, path.extension())
}

/// Prints every intact entry, and then returns damage as an error.
pub(crate) fn print(path: &Path, out: &mut Output) -> Result<(), Failure> {
    let mut printed = Ok(());
    Entry::visit(path, |entry| {
        if printed.is_ok() {
            printed = print_one(&entry, out);
        }
    })?;
    printed
}

fn print_one(entry: &Entry, out: &mut Output) -> Result<(), Failure> {
    if !out.json {
        return out.text(&format!("{entry}\n"));
    }
    let mut object = Map::new();
    object.insert("kind".to_owned(), entry.kind.into());
    if let Some(position) = entry.position {
        object.insert("position".to_owned(), position.into());
    }
    for (name, value) in &entry.fields {
        let value = match value {
            EntryValue::Number(number) => (*number).into(),
            other => Value::String(other.to_string()),
        };
        object.insert((*name).to_owned(), value);
    }
    out.object(&Value::Object(object))
}
