//! Rebuilds files from other files, and removes leftover ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Finding, FindingKind};
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::recovery::{Loaded, open};
use crate::error::Result;
use crate::log::METADATA_FILE;
use crate::storage::{FileKind, Storage};
use crate::types::TopicId;

pub(super) fn run(storage: &Arc<dyn Storage>, findings: &[Finding]) -> Result<Vec<String>> {
    let config = BrokerConfig::new().create(false).background(false);
    let mut done = Vec::new();
    {
        let _lock = storage.lock(Path::new(files::LOCK_FILE))?;
        let loaded = Loaded::read(storage, &config)?;
        let mut repair = Repair { storage: &**storage, loaded: &loaded, done: &mut done };
        let is_damaged = |path: &Path| {
            let mut damage = findings.iter().filter(|finding| finding.kind == FindingKind::Damage);
            damage.any(|finding| finding.path.with_extension("") == path.with_extension(""))
        };
        for finding in findings {
            match finding.kind {
                FindingKind::Damage | FindingKind::Foreign => {}
                // The indexes and sums of a damaged segment are evidence of what it held.
                FindingKind::Derived if is_damaged(&finding.path) => {
                    repair.did("left as it is, because its segment is damaged", &finding.path);
                }
                FindingKind::Derived => repair.derive(&finding.path)?,
                FindingKind::Leftover => repair.remove(&finding.path)?,
            }
        }
    }
    // Writes both checkpoint files: one after the recovery, and one at the close.
    let (engine, report) = open(Arc::clone(storage), config)?;
    engine.close()?;
    done.push(format!(
        "opened and closed the folder: replayed {} frames, dropped {} torn bytes, wrote both checkpoints",
        report.frames_replayed, report.journal_bytes_discarded
    ));
    Ok(done)
}

struct Repair<'a> {
    storage: &'a dyn Storage,
    loaded: &'a Loaded,
    done: &'a mut Vec<String>,
}

impl Repair<'_> {
    /// Rebuilds a derived file.
    fn derive(&mut self, path: &Path) -> Result<()> {
        if *path == self.storage.display_path(Path::new(files::META_FILE)) {
            let id = TopicId::from_bytes(self.loaded.image.directory_id);
            files::write_meta(self.storage, id)?;
            self.did("wrote", path);
            return Ok(());
        }
        for topic in self.loaded.registry.topics() {
            for log in &topic.logs {
                let dir = PathBuf::from(log.partition().to_string());
                if *path == self.storage.display_path(&dir.join(files::EPOCHS_FILE)) {
                    if let Some((file, _)) =
                        files::export_epochs(self.storage, &dir, &log.epochs())?
                    {
                        file.sync_data()?;
                    }
                    self.did("wrote", path);
                    return Ok(());
                }
                if *path == self.storage.display_path(&dir.join(METADATA_FILE)) {
                    log.write_metadata()?;
                    self.did("wrote", path);
                    return Ok(());
                }
                if log.rebuild_side_files(path)? {
                    self.did("rebuilt from its segment", path);
                    return Ok(());
                }
            }
        }
        // The file is a checkpoint. Opening and closing the folder writes it.
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        let root = self.storage.display_path(Path::new(""));
        let Ok(path_in_folder) = path.strip_prefix(&root) else { return Ok(()) };
        match self.storage.metadata(path_in_folder)? {
            None => return Ok(()),
            Some((FileKind::Dir, _)) => {
                for entry in self.storage.list(path_in_folder)? {
                    if entry.kind == FileKind::File {
                        self.storage.remove(&path_in_folder.join(&entry.name))?;
                    }
                }
                self.storage.remove_dir(path_in_folder)?;
            }
            Some(_) => self.storage.remove(path_in_folder)?,
        }
        self.did("removed", path);
        Ok(())
    }

    fn did(&mut self, what: &str, path: &Path) {
        self.done.push(format!("{what}: {}", path.display()));
    }
}
