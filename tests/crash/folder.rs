//! Checks that the folder contains what the broker reports, byte for byte, and nothing else (I7).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use grouplog::storage::{FileKind, Memory, OpenMode, Storage};
use grouplog::{Broker, PartitionDescription};

const ROOT_FILES: [&str; 10] = [
    "grouplog.lock",
    "meta.properties",
    "checkpoint.a",
    "checkpoint.b",
    "shares.a",
    "shares.b",
    "offsets.a",
    "offsets.b",
    "reserve",
    // Of the simulation.
    "ballast",
];

/// Openings after crashes may have created two files beyond the journal's limit: one to continue
/// in, and one in which the next opening could continue.
const FILES_BEYOND: u64 = 2;

/// Checks the folder of a broker whose last change is in a checkpoint.
pub(crate) fn check(memory: &Memory, broker: &Broker, journal_files: u64) -> Result<(), String> {
    let mut ends = BTreeMap::new();
    let mut with_ids = 0;
    for name in broker.list_topics() {
        let topic = broker.describe_topic(&name).map_err(|error| format!("{error:?}"))?;
        with_ids += usize::from(topic.ids > 0);
        for partition in topic.partitions {
            let id = topic.id.to_string();
            ends.insert(partition.partition.to_string(), (partition, id));
        }
    }
    for entry in list(memory, Path::new("")) {
        match entry.kind {
            FileKind::File if ROOT_FILES.contains(&entry.name.as_str()) => {}
            FileKind::Dir if entry.name == "journal" => check_journal(memory, journal_files)?,
            FileKind::Dir if entry.name == "dedup" => check_ids(memory, with_ids)?,
            FileKind::Dir if ends.contains_key(&entry.name) => {}
            _ => return Err(format!("left over: {}", entry.name)),
        }
    }
    for (folder, (partition, id)) in &ends {
        let logs = check_folder(memory, Path::new(folder), partition, id)?;
        if logs != partition.segments {
            return Err(format!("{folder} has {logs} log files, not {}", partition.segments));
        }
    }
    Ok(())
}

/// Checks the buckets of idempotency ids. A topic with few ids has as many buckets as failed checkpoints have begun,
/// and a topic without ids has none.
fn check_ids(memory: &Memory, topics: usize) -> Result<(), String> {
    let mut with_buckets = BTreeSet::new();
    for entry in list(memory, Path::new("dedup")) {
        match entry.name.strip_suffix(".ids").and_then(|name| name.rsplit_once('-')) {
            Some((topic, _)) => with_buckets.insert(topic.to_owned()),
            None => return Err(format!("left over: dedup/{}", entry.name)),
        };
    }
    if with_buckets.len() != topics {
        return Err(format!("{topics} topics have ids, {with_buckets:?} have buckets of them"));
    }
    Ok(())
}

fn check_journal(memory: &Memory, files: u64) -> Result<(), String> {
    let mut bytes = 0;
    for entry in list(memory, Path::new("journal")) {
        if extension(&entry.name) != "journal" {
            return Err(format!("left over: journal/{}", entry.name));
        }
        let path = Path::new("journal").join(&entry.name);
        bytes += memory.metadata(&path).unwrap().map_or(0, |(_, len)| len);
    }
    let most = (files + FILES_BEYOND) * (64 << 10);
    if bytes > most { Err(format!("the journal takes {bytes} bytes")) } else { Ok(()) }
}

/// Checks that the log files contain whole batches, end to end, from the one with the log start to
/// the log end. Returns the number of log files.
fn check_folder(
    memory: &Memory,
    folder: &Path,
    partition: &PartitionDescription,
    id: &str,
) -> Result<usize, String> {
    let (start, end) = (partition.start_offset, partition.end_offset);
    if memory.metadata(folder).unwrap().is_none() {
        // Power loss may take a folder whose records are all deleted. The next record makes it again.
        let empty = start == end;
        return empty.then_some(0).ok_or_else(|| format!("{} is missing", folder.display()));
    }
    let mut names: Vec<String> = list(memory, folder).into_iter().map(|entry| entry.name).collect();
    names.sort();
    // Segments that lie wholly below the log start are gone.
    let base = |name: &String| name.split('.').next().and_then(|base| base.parse::<i64>().ok());
    let logs = names.iter().filter(|name| extension(name) == "log");
    let first = logs.filter_map(base).take_while(|&base| base <= start).last();
    let mut next = first.unwrap_or(if start == end { end } else { 0 });
    let mut bases = Vec::new();
    let logs: Vec<&String> = names.iter().filter(|name| extension(name) == "log").collect();
    for (at, name) in logs.iter().enumerate() {
        let generation = name.split('.').nth(1).and_then(|part| part.parse::<u32>().ok());
        let cleaned = generation.map_or_else(String::new, |generation| format!(".{generation}"));
        if **name != format!("{next:020}{cleaned}.log") {
            return Err(format!(
                "{}/{name} begins at another offset than {next}",
                folder.display()
            ));
        }
        bases.push(format!("{next:020}{cleaned}"));
        let batches = check_log(&read_file(memory, &folder.join(name)), next, generation.is_some())
            .map_err(|what| format!("{}/{name}: {what}", folder.display()))?;
        // Of a segment that compaction has written, the last batches may be missing too.
        let following = logs.get(at + 1).map_or(Some(end), |next| base(next));
        let ends = following.filter(|next| generation.is_some() && *next >= batches);
        next = ends.unwrap_or(batches);
    }
    if next != end {
        return Err(format!("{} holds records up to {next}, not {end}", folder.display()));
    }
    for name in &names {
        let ours = match name.rsplit_once('.') {
            Some((base, "log" | "index" | "timeindex" | "sums")) => {
                bases.iter().any(|known| known == base)
            }
            Some(("partition", "metadata")) => {
                let text = read_file(memory, &folder.join(name));
                String::from_utf8_lossy(&text) == format!("version: 0\ntopic_id: {id}\n")
            }
            None => {
                name == "leader-epoch-checkpoint"
                    && is_export(&read_file(memory, &folder.join(name)))
            }
            Some(_) => false,
        };
        if !ours {
            return Err(format!("left over: {}/{name}", folder.display()));
        }
    }
    if end > 0 && !names.iter().any(|name| name == "partition.metadata") {
        return Err(format!("{} has no partition.metadata", folder.display()));
    }
    Ok(bases.len())
}

/// Returns whether `text` is Kafka's file of epochs: version, count, and a line for each epoch.
fn is_export(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.get(1).and_then(|count| count.parse().ok());
    lines.first() == Some(&"0") && count == lines.len().checked_sub(2) && text.ends_with('\n')
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// Walks Kafka's batches. Returns the offset after the last one. Offsets may be missing if `gaps`.
fn check_log(bytes: &[u8], base: i64, gaps: bool) -> Result<i64, String> {
    let (mut at, mut next) = (0, base);
    while at < bytes.len() {
        let header = bytes.get(at..at + 61).ok_or(format!("half a header at {at}"))?;
        let base = i64::from_be_bytes(header[..8].try_into().unwrap());
        let length = i32::from_be_bytes(header[8..12].try_into().unwrap());
        let last_delta = i32::from_be_bytes(header[23..27].try_into().unwrap());
        if base < next || base > next && !gaps {
            return Err(format!("the batch at {at} begins with offset {base}, not {next}"));
        }
        next = base + i64::from(last_delta) + 1;
        at += 12 + length as usize;
    }
    if at == bytes.len() { Ok(next) } else { Err("the last batch is cut".to_owned()) }
}

/// Returns all files with their bytes, except for the lock, to compare a folder before and after.
pub(crate) fn contents(memory: &Memory) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in list(memory, &folder) {
            let path = folder.join(&entry.name);
            match entry.kind {
                FileKind::Dir => {
                    // An empty folder counts too.
                    files.insert(path.join("."), Vec::new());
                    folders.push(path);
                }
                _ if entry.name == "grouplog.lock" => {}
                _ => {
                    files.insert(path.clone(), read_file(memory, &path));
                }
            }
        }
    }
    files
}

fn list(memory: &Memory, folder: &Path) -> Vec<grouplog::storage::DirEntry> {
    memory.list(folder).unwrap()
}

/// Returns the bytes of a file.
pub(crate) fn read_file(memory: &Memory, path: &Path) -> Vec<u8> {
    let file = memory.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let read = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(read);
    bytes
}
