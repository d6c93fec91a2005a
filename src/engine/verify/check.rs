//! Runs the checks, file by file.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::strays::{Listed, State};
use super::{Finding, FindingKind, Verify, VerifyReport};
use crate::config::BrokerConfig;
use crate::engine::catalogue::Catalogue;
use crate::engine::files::{self, FolderState};
use crate::engine::image::CheckpointImage;
use crate::engine::recovery::Loaded;
use crate::engine::registry::Registry;
use crate::engine::spread;
use crate::error::{CorruptReason, Error, Result};
use crate::log::{Log, LogShared, Verified, read_topic_id};
use crate::storage::{FileKind, OpenMode, Storage};
use crate::types::{Epoch, PartitionNumber, planted};

/// How many times a folder is checked if a writer changes it meanwhile.
const ATTEMPTS: usize = 5;

pub(super) fn run(verify: &Verify, storage: &Arc<dyn Storage>) -> Result<VerifyReport> {
    if files::classify(&**storage)? == FolderState::New {
        return Err(Error::NotADatabase {
            path: storage.display_path(Path::new("")),
            reason: "it has no checkpoint",
        });
    }
    let config = BrokerConfig::new();
    let began = config.clock.monotonic();
    let mut attempt: usize = 1;
    let mut report = loop {
        let mut check = Check { storage, report: VerifyReport::default() };
        let seen = check.folder(verify, &config)?;
        if check.report.findings.is_empty() || attempt == ATTEMPTS {
            break check.report;
        }
        let now = Loaded::read(storage, &config).ok();
        let now = now.map(|now| Seen::new(now.image.generation, &now.registry));
        if seen == now || planted("verify_looks_once") {
            break check.report;
        }
        attempt = attempt.saturating_add(1);
    };
    report.duration = config.clock.monotonic().saturating_sub(began);
    Ok(report)
}

/// What a writer changes when it removes files.
#[derive(PartialEq, Eq)]
struct Seen {
    generation: u64,
    /// The log start offset of each partition.
    starts: BTreeMap<PartitionNumber, i64>,
}

impl Seen {
    fn new(generation: u64, registry: &Registry) -> Self {
        let topics = registry.topics();
        let logs = topics.iter().flat_map(|topic| &topic.logs);
        let starts = logs.map(|log| (log.number(), log.start_offset())).collect();
        Self { generation, starts }
    }
}

struct Check<'a> {
    storage: &'a Arc<dyn Storage>,
    report: VerifyReport,
}

impl Check<'_> {
    fn add(&mut self, kind: FindingKind, path: &Path, cause: Error) {
        let path = self.storage.display_path(path);
        self.report.findings.push(Finding { kind, path, cause });
    }

    fn corrupt(&mut self, kind: FindingKind, path: &Path, reason: CorruptReason) {
        let cause = Error::corrupt(self.storage.display_path(path), 0, reason);
        self.add(kind, path, cause);
    }

    /// Checks the whole folder. Returns the state that it was checked against.
    fn folder(&mut self, verify: &Verify, config: &BrokerConfig) -> Result<Option<Seen>> {
        let image = match files::read_checkpoint(&**self.storage) {
            Ok(image) => image,
            Err(error @ (Error::NotADatabase { .. } | Error::UnsupportedFormat { .. })) => {
                return Err(error);
            }
            Err(error) => {
                self.add(FindingKind::Damage, path_of(&error, Path::new("")).as_path(), error);
                return Ok(None);
            }
        };
        if let Some((path, error)) = files::other_checkpoint(&**self.storage, image.generation)? {
            self.add(FindingKind::Derived, path, error);
        }
        self.meta(&image)?;
        let (registry, catalogue, state) = self.replay(&image, config)?;
        self.partitions(verify, &registry, state)?;
        self.strays(&Listed { registry: &registry, catalogue: &catalogue, state }, config)?;
        Ok(Some(Seen::new(image.generation, &registry)))
    }

    fn meta(&mut self, image: &CheckpointImage) -> Result<()> {
        if !files::is_meta_of(&**self.storage, image.directory_id)? {
            let path = Path::new(files::META_FILE);
            self.corrupt(FindingKind::Derived, path, CorruptReason::Field);
        }
        Ok(())
    }

    /// Checks committed offsets and journal. Returns the state after them, and how the folder was left.
    fn replay(
        &mut self,
        image: &CheckpointImage,
        config: &BrokerConfig,
    ) -> Result<(Arc<Registry>, Catalogue, State)> {
        Ok(match Loaded::read(self.storage, config) {
            Ok(loaded) => {
                self.report.frames = loaded.replayed.frames;
                self.report.torn_bytes = loaded.replayed.discarded_bytes;
                self.report.groups = loaded.offsets.iter().count() as u64;
                let state =
                    State { is_empty: loaded.replayed.frames == 0, is_closed: loaded.is_closed() };
                (loaded.registry, loaded.catalogue, state)
            }
            Err(error @ Error::UnsupportedFormat { .. }) => return Err(error),
            Err(error) => {
                let path = path_of(&error, Path::new(files::JOURNAL_DIR));
                self.add(FindingKind::Damage, &path, error);
                // Check the state of the checkpoint in spite of this.
                let storage = Arc::clone(self.storage);
                let logs = LogShared::new(storage, image.epoch, config);
                let of_log = |number| image.logs.get(&number);
                let registry = Registry::load(&image.catalogue, &Arc::new(logs), of_log);
                let state = State { is_empty: false, is_closed: false };
                (Arc::new(registry), image.catalogue.clone(), state)
            }
        })
    }

    fn partitions(&mut self, verify: &Verify, registry: &Registry, state: State) -> Result<()> {
        let logs: Vec<Arc<Log>> =
            registry.topics().iter().flat_map(|topic| topic.logs.iter().cloned()).collect();
        for log in &logs {
            add(&mut self.report.partitions, 1);
            if log.segment_count() > 0 {
                self.identity(log, state)?;
            }
        }
        for verified in verify_all(verify, &logs, state.is_closed) {
            add(&mut self.report.segments, verified.segments);
            add(&mut self.report.batches, verified.batches);
            add(&mut self.report.records, verified.records);
            add(&mut self.report.bytes, verified.bytes);
            for error in verified.findings {
                let derived = matches!(&error, Error::Corrupt(damage) if matches!(
                    damage.reason,
                    CorruptReason::Index | CorruptReason::Sums | CorruptReason::Absent
                ));
                let kind = if derived { FindingKind::Derived } else { FindingKind::Damage };
                let path = path_of(&error, Path::new(""));
                self.report.findings.push(Finding { kind, path, cause: error });
            }
        }
        Ok(())
    }

    /// Checks the folder's topic id, and the epochs exported for Kafka's tools.
    fn identity(&mut self, log: &Log, state: State) -> Result<()> {
        let dir = PathBuf::from(log.partition().to_string());
        if !matches!(self.storage.metadata(&dir)?, Some((FileKind::Dir, _))) {
            // Each of its segments is reported as missing.
            return Ok(());
        }
        let path = dir.join(crate::log::METADATA_FILE);
        match read_topic_id(&**self.storage, &dir)? {
            Some(id) if id == log.topic_id() => {}
            Some(_) => self.corrupt(FindingKind::Damage, &path, CorruptReason::TopicId),
            // The checkpoint knows the id.
            None if self.storage.metadata(&path)?.is_none() => {
                self.corrupt(FindingKind::Derived, &path, CorruptReason::Absent);
            }
            None => self.corrupt(FindingKind::Derived, &path, CorruptReason::Field),
        }
        let path = dir.join(files::EPOCHS_FILE);
        let there = self.storage.metadata(&path)?;
        if there.is_none() && state.is_closed && files::needs_epochs_file(&log.epochs()) {
            self.corrupt(FindingKind::Derived, &path, CorruptReason::Absent);
        }
        if let Some((FileKind::File, len)) = there {
            let file = self.storage.open(&path, OpenMode::Read)?;
            let mut text = vec![0; usize::try_from(len.min(MAX_EXPORT)).unwrap_or(0)];
            let read = file.read_at(&mut text, 0)?;
            text.truncate(read);
            let exported = parse_epochs(&text);
            // A close writes the file. Until the next close, it may lack the newest epochs.
            let stale = !state.is_empty;
            let agrees = |found: &Vec<(Epoch, i64)>| {
                if stale { log.epochs().starts_with(found) } else { *found == log.epochs() }
            };
            if !exported.as_ref().is_some_and(agrees) {
                self.corrupt(FindingKind::Derived, &path, CorruptReason::Field);
            }
        }
        Ok(())
    }

    /// Reports files that nothing refers to.
    fn strays(&mut self, listed: &Listed<'_>, config: &BrokerConfig) -> Result<()> {
        let mut strays = listed.strays(&**self.storage)?;
        // A writer may have created them after its journal was read.
        if !strays.is_empty()
            && !listed.state.is_closed
            && let Ok(now) = Loaded::read(self.storage, config)
        {
            let (registry, catalogue) = (&now.registry, &now.catalogue);
            let listed = Listed { registry, catalogue, state: listed.state };
            let still = listed.strays(&**self.storage)?;
            strays.retain(|stray| still.contains(stray));
        }
        for (kind, path) in strays {
            self.corrupt(kind, &path, CorruptReason::Field);
        }
        Ok(())
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// Verifies logs on several threads. Returns the results in the order of the logs.
fn verify_all(verify: &Verify, logs: &[Arc<Log>], closed: bool) -> Vec<Verified> {
    let total: u64 = logs.iter().map(|log| log.stored_bytes()).sum();
    let done = AtomicU64::new(0);
    let threads = verify.threads.unwrap_or_else(spread::available).min(logs.len());
    let verified = spread::try_map(threads, logs, |log| {
        let mut progress = |bytes: u64| {
            let done = done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
            if let Some(progress) = &verify.progress {
                progress(done, total);
            }
        };
        Ok::<_, Infallible>(log.verify(closed, &mut progress))
    });
    verified.unwrap_or_else(|never| match never {})
}

/// Returns the file that an error names.
fn path_of(error: &Error, otherwise: &Path) -> PathBuf {
    match error {
        Error::Corrupt(corruption) => corruption.path.clone(),
        Error::MissingSegment { path, .. }
        | Error::Busy { path }
        | Error::UnsupportedFormat { path, .. } => path.clone(),
        Error::Io { path, .. } => path.to_path_buf(),
        _ => otherwise.to_owned(),
    }
}

/// Parses Kafka's `leader-epoch-checkpoint`: a version, a count, and a line for each epoch.
fn parse_epochs(text: &[u8]) -> Option<Vec<(Epoch, i64)>> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let parse = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((epoch.parse().ok()?, start.parse().ok()?))
    };
    let epochs: Vec<_> = lines.map(parse).collect::<Option<_>>()?;
    (epochs.len() == count).then_some(epochs)
}

/// The largest file of epochs to read, in bytes. It limits what a damaged file can allocate.
const MAX_EXPORT: u64 = 16 << 20;
