//! Reads and writes the files of the folder that belong to neither journal nor partitions: identity,
//! checkpoints, offsets, lock, and exports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::catalogue::Deletion;
use crate::engine::image::{self, CheckpointImage, ImageFile};
use crate::engine::shares::{SHARE_IMAGE, ShareStates, decode_share_image};
use crate::error::{CorruptReason, Error, Result, Unreadable};
use crate::group::{
    IMAGE_HEADER_BYTES, ImageHeader, ImageKind, OFFSET_IMAGE, OffsetStore, decode_image,
    encode_image, image_bytes,
};
use crate::journal;
use crate::log::read_topic_id;
use crate::segment::{deleted_folder_name, folder_name};
use crate::storage::{FileKind, OpenMode, Storage, StorageFile};
use crate::types::{TopicId, TopicPartition, planted};

pub(super) const LOCK_FILE: &str = "grouplog.lock";
pub(super) const META_FILE: &str = "meta.properties";
pub(super) const JOURNAL_DIR: &str = "journal";
pub(super) const RESERVE_FILE: &str = "reserve";
/// Kafka's file of leader epochs. It is an export.
pub(super) const EPOCHS_FILE: &str = "leader-epoch-checkpoint";
pub(super) const OFFSET_FILES: [&str; 2] = ["offsets.a", "offsets.b"];
pub(super) const SHARE_FILES: [&str; 2] = ["shares.a", "shares.b"];
pub(super) const NEW_SUFFIX: &str = ".new";

/// The contents of the root folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderState {
    /// Nothing, or the files of a creation that a crash interrupted.
    New,
    /// A grouplog folder: a checkpoint file has its final name.
    Existing,
}

/// Returns whether the folder is new or an existing grouplog folder. Changes nothing.
///
/// Creation renames a synced file to `checkpoint.a` as its last step. So in a folder without a checkpoint
/// nothing was ever acknowledged, and only files that creation makes earlier may exist.
///
/// # Errors
/// `NotADatabase` if the folder holds other files.
pub(super) fn classify(storage: &dyn Storage) -> Result<FolderState> {
    let names = storage.list(Path::new(""))?;
    if names.iter().any(|entry| image::FILES.contains(&entry.name.as_str())) {
        return Ok(FolderState::Existing);
    }
    let new_checkpoint = format!("{}{NEW_SUFFIX}", image::FILES[0]);
    for entry in &names {
        let ours = match entry.name.as_str() {
            LOCK_FILE | META_FILE | RESERVE_FILE => entry.kind == FileKind::File,
            JOURNAL_DIR => entry.kind == FileKind::Dir,
            name => name == new_checkpoint && entry.kind == FileKind::File,
        };
        // File systems create this folder in the root of a volume.
        if !ours && entry.name != "lost+found" {
            return Err(Error::NotADatabase {
                path: storage.display_path(Path::new(&entry.name)),
                reason: "the folder that holds it has no checkpoint",
            });
        }
    }
    Ok(FolderState::New)
}

/// Rejects links, pipes and folders in the place of the engine's files. Links are not followed, pipes are not
/// waited for, and folders are not removed.
fn check_kinds(storage: &dyn Storage) -> Result<()> {
    let own = [LOCK_FILE, META_FILE, RESERVE_FILE];
    for entry in storage.list(Path::new(""))? {
        let name = entry.name.as_str();
        let is_own = own.contains(&name) || image::FILES.contains(&name);
        let is_state = OFFSET_FILES.contains(&name) || SHARE_FILES.contains(&name);
        if (is_own || is_state) && entry.kind != FileKind::File {
            return refuse(storage, Path::new(name));
        }
        if name == JOURNAL_DIR && entry.kind != FileKind::Dir {
            return refuse(storage, Path::new(name));
        }
    }
    let slots = match storage.metadata(Path::new(JOURNAL_DIR))? {
        Some(_) => storage.list(Path::new(JOURNAL_DIR))?,
        None => Vec::new(),
    };
    for entry in slots {
        if entry.kind != FileKind::File {
            return refuse(storage, &Path::new(JOURNAL_DIR).join(&entry.name));
        }
    }
    Ok(())
}

fn refuse(storage: &dyn Storage, path: &Path) -> Result<()> {
    // The storage returns the reason. If the entry has become a file meanwhile, the next attempt succeeds.
    storage.open(path, OpenMode::Read)?;
    Err(Error::Busy { path: storage.display_path(path) })
}

/// Rejects a folder before the engine creates even a lock file in it. The reasons are files that are not
/// regular files, checkpoints that are not checkpoints, and checkpoints or a journal of another version.
pub(super) fn check_format(storage: &dyn Storage) -> Result<()> {
    if !planted("follow_strangers") {
        check_kinds(storage)?;
    }
    journal::check_versions(storage)?;
    for name in image::FILES {
        let path = Path::new(name);
        let mut head = [0; image::HEAD_BYTES];
        let known = match storage.metadata(path)? {
            None => true,
            Some((FileKind::File, _)) => {
                let read = storage.open(path, OpenMode::Read)?.read_at(&mut head, 0)?;
                read == head.len() && image::is_readable(&head)
            }
            Some(_) => false,
        };
        if !known {
            // Reads the checkpoints again, with checksums: a torn or damaged one is no reason to reject the
            // folder here.
            return match read_checkpoint(storage) {
                Err(error @ (Error::NotADatabase { .. } | Error::UnsupportedFormat { .. })) => {
                    Err(error)
                }
                _ => Ok(()),
            };
        }
    }
    Ok(())
}

/// Returns whether `meta.properties` says that the folder is grouplog's.
fn has_meta(storage: &dyn Storage) -> Result<bool> {
    let path = Path::new(META_FILE);
    if !matches!(storage.metadata(path)?, Some((FileKind::File, _))) {
        return Ok(false);
    }
    let mut head = [0; META_HEAD.len()];
    let read = storage.open(path, OpenMode::Read)?.read_at(&mut head, 0)?;
    Ok(read == head.len() && head == *META_HEAD.as_bytes())
}

/// The first line of `meta.properties`.
const META_HEAD: &str = "# grouplog\n";

/// Writes `meta.properties`, a text file that Kafka has, too.
pub(super) fn write_meta(storage: &dyn Storage, directory_id: TopicId) -> Result<()> {
    let text = format!(
        "{META_HEAD}version=1\nnode.id=0\ncluster.id=grouplog\ndirectory.id={directory_id}\n"
    );
    let path = Path::new(META_FILE);
    if storage.metadata(path)?.is_some() {
        storage.remove(path)?;
    }
    let file = storage.open(path, OpenMode::CreateNew)?;
    file.write_at(text.as_bytes(), 0)?;
    file.sync_data()
}

/// Writes the first checkpoint. Its rename completes the creation of the folder.
pub(super) fn write_first_checkpoint(storage: &dyn Storage, image: &CheckpointImage) -> Result<()> {
    let name = image::FILES[0];
    let new = PathBuf::from(format!("{name}{NEW_SUFFIX}"));
    if storage.metadata(&new)?.is_some() {
        storage.remove(&new)?;
    }
    let file = storage.open(&new, OpenMode::CreateNew)?;
    file.write_at(&image.encode()?, 0)?;
    file.sync_data()?;
    storage.sync_dir(Path::new(""))?;
    storage.rename(&new, Path::new(name))?;
    storage.sync_dir(Path::new(""))
}

/// Returns whether this may be the first complete file in its place. A failed attempt may have left a file
/// whose name is not durable, so its name is synced again.
fn is_first_of_its_file(generation: u64) -> bool {
    generation <= 2 && !planted("name_not_synced_again")
}

/// A file that is written, but not yet synced.
pub(super) struct Unsynced {
    file: Arc<dyn StorageFile>,
    /// Whether its name is new in the root folder.
    new: bool,
}

impl Unsynced {
    pub(super) fn sync(&self, storage: &dyn Storage) -> Result<()> {
        self.file.sync_data()?;
        if self.new { storage.sync_dir(Path::new("")) } else { Ok(()) }
    }
}

/// Writes a checkpoint over the older of the two files.
pub(super) fn write_checkpoint(storage: &dyn Storage, image: &CheckpointImage) -> Result<Unsynced> {
    // Encode first: nothing is written if that fails.
    let bytes = image.encode()?;
    let slot = checkpoint_slot(image.generation);
    let (file, new) = open_or_create(storage, Path::new(image::FILES[slot]))?;
    file.write_at(&bytes, 0)?;
    Ok(Unsynced { file, new: new || is_first_of_its_file(image.generation) })
}

/// Reads the newer of the valid checkpoints.
///
/// # Errors
/// - `UnsupportedFormat` if a newer version wrote one of them.
/// - `Corrupt` if none is valid.
/// - `NotADatabase` if there is none, or if nothing shows that the files ever were checkpoints.
pub(super) fn read_checkpoint(storage: &dyn Storage) -> Result<CheckpointImage> {
    let mut best: Option<CheckpointImage> = None;
    let mut failure = None;
    let mut foreign = true;
    for name in image::FILES {
        let path = Path::new(name);
        let Some((kind, _)) = storage.metadata(path)? else { continue };
        let mut damaged = |reason| {
            foreign &= reason == CorruptReason::Magic;
            Error::corrupt(storage.display_path(path), 0, reason)
        };
        if kind != FileKind::File {
            failure = Some(damaged(CorruptReason::Length));
            continue;
        }
        let bytes = read_checkpoint_file(storage, path)?;
        match CheckpointImage::decode(&bytes) {
            Ok(image) => {
                if best.as_ref().is_none_or(|best| best.generation < image.generation) {
                    best = Some(image);
                }
            }
            Err(newer @ Unreadable::Unsupported(_)) => {
                return Err(newer.at(&storage.display_path(path), 0));
            }
            Err(Unreadable::Corrupt(reason)) => failure = Some(damaged(reason)),
        }
    }
    match (best, failure) {
        (Some(image), _) => Ok(image),
        (None, Some(_)) if foreign && !has_meta(storage)? => Err(Error::NotADatabase {
            path: storage.display_path(Path::new(image::FILES[0])),
            reason: "it is not a checkpoint, and there is no meta.properties of grouplog beside it",
        }),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(Error::NotADatabase {
            path: storage.display_path(Path::new("")),
            reason: "it has no checkpoint",
        }),
    }
}

/// The headers of both checkpoint files. Any two checkpoints differ in their headers.
pub(super) type CheckpointHeads = [Option<[u8; image::HEADER_BYTES]>; 2];

/// Reads the headers of the checkpoint files.
pub(super) fn checkpoint_heads(storage: &dyn Storage) -> Result<CheckpointHeads> {
    let mut heads = [None; 2];
    for (head, name) in heads.iter_mut().zip(image::FILES) {
        let path = Path::new(name);
        if let Some((FileKind::File, _)) = storage.metadata(path)? {
            let mut bytes = [0; image::HEADER_BYTES];
            storage.open(path, OpenMode::Read)?.read_at(&mut bytes, 0)?;
            *head = Some(bytes);
        }
    }
    Ok(heads)
}

/// Returns what is wrong with the older checkpoint file, if it exists.
pub(super) fn other_checkpoint(
    storage: &dyn Storage,
    generation: u64,
) -> Result<Option<(&'static Path, Error)>> {
    let path = Path::new(image::FILES[checkpoint_slot(generation) ^ 1]);
    let damaged = |reason| Some((path, Error::corrupt(storage.display_path(path), 0, reason)));
    match storage.metadata(path)? {
        None => Ok(None),
        Some((FileKind::File, _)) => {
            let decoded = CheckpointImage::decode(&read_checkpoint_file(storage, path)?);
            Ok(decoded.err().map(|cause| (path, cause.at(&storage.display_path(path), 0))))
        }
        Some(_) => Ok(damaged(CorruptReason::Length)),
    }
}

/// Returns whether `meta.properties` exists and names this folder.
pub(super) fn is_meta_of(storage: &dyn Storage, directory_id: [u8; 16]) -> Result<bool> {
    let path = Path::new(META_FILE);
    let Some((FileKind::File, len)) = storage.metadata(path)? else { return Ok(false) };
    let bytes = read_all(&*storage.open(path, OpenMode::Read)?, len.min(MAX_META))?;
    let id = format!("directory.id={}", TopicId::from_bytes(directory_id));
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    Ok(text.lines().any(|line| line == id) && text.lines().any(|line| line == "version=1"))
}

/// The largest `meta.properties` to read, in bytes.
const MAX_META: u64 = 64 << 10;

fn checkpoint_slot(generation: u64) -> usize {
    if planted("one_checkpoint_file") { 0 } else { (generation % 2) as usize }
}

/// Makes the checkpoint that was read durable, bytes and name. After a kill it may exist only in the page
/// cache. Everything acknowledged from here on depends on it, and would be lost with it. It is written again,
/// because an earlier sync may have failed.
pub(super) fn keep_checkpoint(storage: &dyn Storage, generation: u64) -> Result<()> {
    let path = Path::new(image::FILES[checkpoint_slot(generation)]);
    let bytes = read_checkpoint_file(storage, path)?;
    let file = storage.open(path, OpenMode::Write)?;
    // No crash can tear this write: it puts the same bytes in the same place.
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    storage.sync_dir(Path::new(""))
}

/// Writes all committed offsets to the offset file that the last checkpoint does not name.
pub(super) fn write_offsets(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    offsets: &OffsetStore,
    last: Option<ImageFile>,
) -> Result<(ImageFile, Unsynced)> {
    let names = if planted("one_offset_file") { [OFFSET_FILES[0]; 2] } else { OFFSET_FILES };
    let (version, body) = encode_image(offsets);
    write_image(storage, (names, OFFSET_IMAGE), directory_id, (version, &body), last)
}

/// Writes an image of the share groups with this body to the file that the last checkpoint does not name.
pub(super) fn write_shares(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    body: &[u8],
    last: Option<ImageFile>,
) -> Result<(ImageFile, Unsynced)> {
    let names = if planted("one_share_file") { [SHARE_FILES[0]; 2] } else { SHARE_FILES };
    write_image(storage, (names, SHARE_IMAGE), directory_id, (SHARE_IMAGE.versions.1, body), last)
}

/// Writes the next image to that of two files that the last checkpoint does not name.
fn write_image(
    storage: &dyn Storage,
    (names, kind): ([&str; 2], ImageKind),
    directory_id: [u8; 16],
    (version, body): (u32, &[u8]),
    last: Option<ImageFile>,
) -> Result<(ImageFile, Unsynced)> {
    let (slot, generation) =
        last.map_or((0, 1), |last| (last.slot ^ 1, last.generation.saturating_add(1)));
    let (header, crc) = kind.header((version, body), directory_id, generation);
    let (handle, new) = open_or_create(storage, image_path(names, slot))?;
    handle.write_at(&header, 0)?;
    handle.write_at(body, header.len() as u64)?;
    Ok((
        ImageFile { slot, generation, crc },
        Unsynced { file: handle, new: new || is_first_of_its_file(generation) },
    ))
}

fn image_path(names: [&str; 2], slot: u8) -> &Path {
    let [first, second] = names;
    Path::new(if slot == 0 { first } else { second })
}

/// Reads the offset file that a checkpoint names.
pub(super) fn read_offsets(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    file: ImageFile,
) -> Result<OffsetStore> {
    let decode = |bytes: &[u8], path: &Path| decode_image(bytes).map_err(|error| error.at(path));
    read_image(storage, OFFSET_FILES, directory_id, file, decode)
}

/// Reads the file of share groups that a checkpoint names.
pub(super) fn read_shares(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    file: ImageFile,
) -> Result<ShareStates> {
    read_image(storage, SHARE_FILES, directory_id, file, decode_share_image)
}

/// Reads the image that a checkpoint names.
fn read_image<T>(
    storage: &dyn Storage,
    names: [&str; 2],
    directory_id: [u8; 16],
    file: ImageFile,
    decode: impl FnOnce(&[u8], &Path) -> Result<(ImageHeader, T)>,
) -> Result<T> {
    let path = image_path(names, file.slot);
    let shown = storage.display_path(path);
    let Some((FileKind::File, _)) = storage.metadata(path)? else {
        return Err(Error::corrupt(shown, 0, CorruptReason::Missing));
    };
    let stored = storage.open(path, OpenMode::Read)?;
    let head = read_all(&*stored, IMAGE_HEADER_BYTES as u64)?;
    let bytes = read_all(&*stored, image_bytes(&head))?;
    let (header, state) = decode(&bytes, &shown)?;
    let ImageFile { generation, crc, .. } = file;
    if header != (ImageHeader { directory_id, generation, crc, version: header.version })
        && !planted("any_offset_file_taken")
    {
        return Err(Error::corrupt(shown, 0, CorruptReason::Field));
    }
    Ok(state)
}

/// Renames the folders of a deleted topic to names that mark them for removal. [`restore_folder`] undoes
/// this, so it may happen before the deletion is synced.
pub(super) fn set_aside(storage: &dyn Storage, deletion: &Deletion) -> Result<()> {
    set_aside_with(storage, deletion, |_, _| false)
}

/// Renames the folders of a deleted topic as [`set_aside`] does. `takes` decides by partition and topic id
/// whether to rename a folder with another topic id, too.
pub(super) fn set_aside_with(
    storage: &dyn Storage,
    deletion: &Deletion,
    takes: impl Fn(u32, TopicId) -> bool,
) -> Result<()> {
    let mut renamed = false;
    for partition in 0..deletion.partitions {
        let from = PathBuf::from(folder_name(&deletion.name, partition));
        let to = PathBuf::from(deleted_folder_name(&deletion.name, partition, deletion.id));
        // A folder without a topic id is the deleted topic's, unless that one is renamed already. Then it
        // belongs to a new topic of the same name that is being created.
        if storage.metadata(&from)?.is_some()
            && storage.metadata(&to)?.is_none()
            && read_topic_id(storage, &from)?
                .is_none_or(|id| id == deletion.id || takes(partition, id))
        {
            storage.rename(&from, &to)?;
            renamed = true;
        }
    }
    if renamed { storage.sync_dir(Path::new("")) } else { Ok(()) }
}

/// Gives a folder its name back, after power loss undid the deletion that it was renamed for.
pub(super) fn restore_folder(
    storage: &dyn Storage,
    topic: &str,
    partition: u32,
    id: TopicId,
) -> Result<()> {
    let to = PathBuf::from(folder_name(topic, partition));
    let from = PathBuf::from(deleted_folder_name(topic, partition, id));
    if storage.metadata(&to)?.is_none() && storage.metadata(&from)?.is_some() {
        storage.rename(&from, &to)?;
        storage.sync_dir(Path::new(""))?;
    }
    Ok(())
}

/// Returns the folder of a partition: that of its own name, or the one that was renamed for the deletion of the
/// topic. The latter if only that one exists, or if the former belongs to another topic.
pub(super) fn find_folder(
    storage: &dyn Storage,
    partition: &TopicPartition,
    id: TopicId,
) -> Result<PathBuf> {
    let (topic, number) = (partition.topic(), partition.partition());
    let named = PathBuf::from(folder_name(topic, number));
    let aside = PathBuf::from(deleted_folder_name(topic, number, id));
    let is_there = |dir: &Path| Ok::<_, Error>(storage.metadata(dir)?.is_some());
    if read_topic_id(storage, &named)? != Some(id) && is_there(&aside)? {
        return Ok(aside);
    }
    Ok(named)
}

/// Removes the renamed folders of a deleted topic. Call it only after the deletion is synced.
pub(super) fn remove_folders(storage: &dyn Storage, deletion: &Deletion) -> Result<()> {
    for partition in 0..deletion.partitions {
        let dir = PathBuf::from(deleted_folder_name(&deletion.name, partition, deletion.id));
        if !matches!(storage.metadata(&dir)?, Some((FileKind::Dir, _))) {
            continue;
        }
        for entry in storage.list(&dir)? {
            if entry.kind == FileKind::File {
                storage.remove(&dir.join(&entry.name))?;
            }
        }
        storage.remove_dir(&dir)?;
    }
    // Sync even if nothing was removed: an earlier attempt may have removed it, and its sync may have failed.
    storage.sync_dir(Path::new(""))
}

/// Returns whether a closed folder has Kafka's `leader-epoch-checkpoint` for a partition with these epochs.
///
/// A single epoch is also in every batch, from where Kafka takes it if there is no file. Without the file,
/// many small partitions take less time and space.
pub(super) fn needs_epochs_file(epochs: &[(i32, i64)]) -> bool {
    epochs.len() > 1
}

/// Writes Kafka's `leader-epoch-checkpoint` into a partition's folder, which must exist. The file is an
/// export that the engine never reads.
///
/// Writes it if it is needed, or if it exists and says something else. Returns a written file, which the
/// caller has to sync, and whether its name is new.
pub(super) fn export_epochs(
    storage: &dyn Storage,
    dir: &Path,
    epochs: &[(i32, i64)],
) -> Result<Option<(Arc<dyn StorageFile>, bool)>> {
    let path = dir.join(EPOCHS_FILE);
    if storage.metadata(&path)?.is_some() {
        return Ok(mend_epochs(storage, dir, epochs)?.map(|file| (file, false)));
    }
    if !needs_epochs_file(epochs) {
        return Ok(None);
    }
    let file = storage.open(&path, OpenMode::CreateNew)?;
    file.write_at(epochs_text(epochs).as_bytes(), 0)?;
    Ok(Some((file, true)))
}

/// Writes the file of epochs again if it exists and differs from what a close would write now. It differs if
/// a close was interrupted, or came before the last records. Returns a written file, which the caller has to
/// sync.
pub(super) fn mend_epochs(
    storage: &dyn Storage,
    dir: &Path,
    epochs: &[(i32, i64)],
) -> Result<Option<Arc<dyn StorageFile>>> {
    let path = dir.join(EPOCHS_FILE);
    let Some((FileKind::File, len)) = storage.metadata(&path)? else { return Ok(None) };
    let expected = epochs_text(epochs);
    let same_length = len == expected.len() as u64;
    if same_length && read_all(&*storage.open(&path, OpenMode::Read)?, len)? == expected.as_bytes()
    {
        return Ok(None);
    }
    write_epochs(storage, &path, len, &expected).map(Some)
}

/// Writes the file of epochs again if it exists, whatever it holds: after a kill it may exist only in the page cache.
/// Returns the file, which the caller has to sync.
pub(super) fn keep_epochs(
    storage: &dyn Storage,
    dir: &Path,
    epochs: &[(i32, i64)],
) -> Result<Option<Arc<dyn StorageFile>>> {
    if planted("epochs_file_not_kept") {
        return mend_epochs(storage, dir, epochs);
    }
    let path = dir.join(EPOCHS_FILE);
    let Some((FileKind::File, len)) = storage.metadata(&path)? else { return Ok(None) };
    write_epochs(storage, &path, len, &epochs_text(epochs)).map(Some)
}

/// Writes a text over a file of `len` bytes.
fn write_epochs(
    storage: &dyn Storage,
    path: &Path,
    len: u64,
    text: &str,
) -> Result<Arc<dyn StorageFile>> {
    let file = storage.open(path, OpenMode::Write)?;
    file.write_at(text.as_bytes(), 0)?;
    if len != text.len() as u64 {
        file.set_len(text.len() as u64)?;
    }
    Ok(file)
}

fn epochs_text(epochs: &[(i32, i64)]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("0\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        // Writing to a `String` cannot fail.
        let _ok = writeln!(text, "{epoch} {start}");
    }
    text
}

fn open_or_create(storage: &dyn Storage, path: &Path) -> Result<(Arc<dyn StorageFile>, bool)> {
    match storage.metadata(path)? {
        Some(_) => Ok((storage.open(path, OpenMode::Write)?, false)),
        None => Ok((storage.open(path, OpenMode::CreateNew)?, true)),
    }
}

/// Reads the image in a checkpoint file, but not the bytes behind it.
fn read_checkpoint_file(storage: &dyn Storage, path: &Path) -> Result<Vec<u8>> {
    let file = storage.open(path, OpenMode::Read)?;
    let head = read_all(&*file, image::HEADER_BYTES as u64)?;
    read_all(&*file, image::image_bytes(&head))
}

/// Reads the first `len` bytes of a file, or all of a shorter file. A `len` beyond the file's end allocates
/// nothing.
///
/// # Errors
/// `LimitExceeded` if the bytes do not fit into memory.
fn read_all(file: &dyn StorageFile, len: u64) -> Result<Vec<u8>> {
    let len = len.min(file.len()?);
    let mut bytes = Vec::new();
    let too_large = || Error::LimitExceeded {
        what: "bytes to read into memory",
        found: len,
        max: usize::MAX as u64,
    };
    let size = usize::try_from(len).map_err(|_| too_large())?;
    bytes.try_reserve_exact(size).map_err(|_| too_large())?;
    bytes.resize(size, 0);
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Returns the text of the lock file, or `None` if there is no lock file. Then no process has the folder open
/// for writing, because a writer creates the file.
pub(super) fn lock_text(storage: &dyn Storage) -> Result<Option<Vec<u8>>> {
    let path = Path::new(LOCK_FILE);
    match storage.metadata(path)? {
        Some((FileKind::File, len)) => {
            let file = storage.open(path, OpenMode::Read)?;
            read_all(&*file, len.min(MAX_LOCK_TEXT)).map(Some)
        }
        _ => Ok(None),
    }
}

/// Restores the text that the lock file had before this process took the lock, which it still holds.
pub(super) fn restore_lock_text(storage: &dyn Storage, text: &[u8]) -> Result<()> {
    let file = storage.open(Path::new(LOCK_FILE), OpenMode::Write)?;
    file.write_at(text, 0)?;
    file.set_len(text.len() as u64)
}

/// The largest text of a lock file to read, in bytes. It holds a process id.
const MAX_LOCK_TEXT: u64 = 4096;

#[cfg(test)]
mod tests;
