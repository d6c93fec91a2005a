//! Creates a new folder.

use std::path::Path;
use std::sync::Arc;

use super::start::start_journal;
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::image::CheckpointImage;
use crate::error::Result;
use crate::journal::Start;
use crate::storage::Storage;
use crate::types::TopicId;

/// Creates a new folder. The first checkpoint, written last, makes it valid. Files of an earlier attempt are
/// replaced.
pub(super) fn create(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<()> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&config.random.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&config.random.next_u64().to_be_bytes());
    let journal = Path::new(files::JOURNAL_DIR);
    if storage.metadata(journal)?.is_some() {
        for entry in storage.list(journal)? {
            storage.remove(&journal.join(&entry.name))?;
        }
    }
    files::write_meta(&**storage, TopicId::from_bytes(id))?;
    let start = Start { min_sequence: 1, ..Start::default() };
    let journal = start_journal(storage, config, id, 0, &start, Box::new(|| {}))?;
    let image =
        CheckpointImage { directory_id: id, end: journal.end(), ..CheckpointImage::default() };
    journal.close()?;
    files::write_first_checkpoint(&**storage, &image)
}
