//! Files of the folder that are no segments: journal, checkpoints, offsets, indexes, sums, texts.

use std::path::{Path, PathBuf};

use grouplog::{Entry, EntryValue};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::Output;

/// The file, if `what` names one of these: as it is, or in the folder.
pub(crate) fn file(data: &Path, what: &Path) -> Option<PathBuf> {
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
    let name = what.file_name()?.to_str()?;
    let extension = what.extension().and_then(|extension| extension.to_str());
    let known = NAMES.contains(&name) || extension.is_some_and(|e| EXTENSIONS.contains(&e));
    // Not only regular files: the engine says what is wrong with others.
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    let paths = [what.to_owned(), data.join(what)];
    paths.into_iter().find(is_there).filter(|_| known)
}

/// Prints every entry; damage is an error after those that are whole.
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
