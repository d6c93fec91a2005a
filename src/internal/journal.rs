use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::input::Input;
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalConfig, JournalMode, Replayed, Start, replay};
use crate::storage::{Memory, OpenMode, Storage};
use crate::time::{ManualClock, SeededRandom};
use crate::types::{Lsn, Timestamp};

const DIRECTORY: [u8; 16] = [3; 16];
/// The position where the frames of a file begin.
const FRAMES: u64 = 4096;
const FRAME_HEADER: u64 = 32;

/// A frame that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    lsn: Lsn,
    end: Lsn,
    payload: Vec<u8>,
    /// The position known as synced when the frame was written.
    known_synced: Lsn,
}

type Found = Vec<(Lsn, Lsn, Vec<u8>)>;

/// Writes a journal and then changes its files, as the input says. Replay gives a prefix of the written
/// frames or a typed error, and the same twice. If only frames were changed, replay silently loses nothing
/// that an unchanged frame knows to be synced. A journal that continues behind it is read back.
pub fn fuzz_journal_replay(data: &[u8]) {
    let mut input = Input::new(data);
    let mut script = Script::new(data, input.u8());
    for _ in 0..input.u8() % 48 {
        script.step(&mut input);
    }
    script.journal.close().expect("memory");
    let (found, _) = script.replay().expect("nothing is damaged");
    assert_eq!(found, frames_of(&script.written));

    let changes = change(&script.storage, &mut input);
    let result = script.replay();
    let again = script.replay();
    match (&result, &again) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
        _ => panic!("{result:?} and then {again:?}"),
    }
    match result {
        Ok((found, replayed)) => script.check_prefix(&found, &replayed, &changes),
        Err(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => assert!(!changes.is_empty()),
        Err(error) => panic!("{error:?}"),
    }
}

fn frames_of(written: &[Written]) -> Found {
    written.iter().map(|frame| (frame.lsn, frame.end, frame.payload.clone())).collect()
}

struct Script {
    storage: Memory,
    journal: Arc<Journal>,
    config: JournalConfig,
    random: Arc<SeededRandom>,
    /// A checkpoint holds the state at this position.
    from: Lsn,
    /// The frames written since.
    written: Vec<Written>,
}

impl Script {
    fn new(data: &[u8], flags: u8) -> Self {
        let config = JournalConfig {
            file_bytes: 16 << 10,
            max_bytes: 96 << 10,
            mode: if flags & 1 == 0 { JournalMode::Map } else { JournalMode::Write },
            directory_id: DIRECTORY,
            epoch: 1,
            sync_interval: Duration::from_secs(1),
            background: false,
        };
        let storage = Memory::new();
        // The salts depend on the whole input, so no input can contain the salts of the files that it
        // changes.
        let random = Arc::new(SeededRandom::new(u64::from(crc32fast::hash(data))));
        let start = Start { min_sequence: 1, ..Start::default() };
        let journal = open(&storage, &config, &random, &start).expect("memory");
        let from = journal.end();
        Self { storage, journal, config, random, from, written: Vec::new() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let journal = &self.journal;
        match input.u8() % 8 {
            0..=3 => self.append(usize::from(input.u16()) % 12_000),
            // Nothing would end a wait while the journal is held.
            4 if !journal.is_held() => {
                journal.wait_synced(journal.end(), None).expect("memory");
            }
            4 => {}
            5 => {
                journal.request_sync(journal.end());
                journal.step().expect("memory");
            }
            6 => {
                self.from = journal.end();
                self.written.clear();
                journal.checkpointed(self.from);
                journal.release_synced();
            }
            _ => self.reopen(),
        }
    }

    fn append(&mut self, bytes: usize) {
        let payload: Vec<u8> = (0..bytes).map(|i| (i * 7 + self.written.len()) as u8).collect();
        let Ok(mut credit) = self.journal.reserve(bytes, Duration::ZERO) else { return };
        let known_synced = self.journal.synced();
        let (front, back) = payload.split_at(bytes / 3);
        let end = self.journal.append(&mut credit, &[front, back]).expect("it has a credit");
        drop(credit);
        let length = (FRAME_HEADER + bytes as u64).next_multiple_of(8) as u32;
        let lsn = Lsn::new(end.sequence(), end.position() - length);
        self.written.push(Written { lsn, end, payload, known_synced });
    }

    fn replay(&self) -> Result<(Found, Replayed)> {
        let mut found = Vec::new();
        let replayed = replay(&self.storage, DIRECTORY, self.from, &mut |frame| {
            found.push((frame.lsn, frame.end, frame.payload.to_vec()));
            Ok(())
        })?;
        Ok((found, replayed))
    }

    /// Reopens without a close, as after a kill.
    fn reopen(&mut self) {
        let (found, replayed) = self.replay().expect("nothing is damaged");
        assert_eq!(found, frames_of(&self.written));
        assert!(!replayed.torn);
        self.config.epoch = replayed.last_epoch_seen + 1;
        let start = Start { held: true, ..Start::after(&replayed) };
        self.journal =
            open(&self.storage, &self.config, &self.random, &start).expect("memory has room");
    }

    fn check_prefix(&mut self, found: &Found, replayed: &Replayed, changes: &[Change]) {
        let written = frames_of(&self.written);
        assert!(written.starts_with(found), "{found:?} of {written:?}");
        assert_eq!(replayed.frames, found.len() as u64);
        assert_eq!(replayed.end, found.last().map_or(self.from, |(_, end, _)| *end));
        if changes.iter().all(|change| change.bytes.start >= FRAMES) {
            let witnesses = self.written.iter().filter(|frame| !touched(frame, changes));
            let known = witnesses.map(|frame| frame.known_synced).max().unwrap_or_default();
            let promised = self.written.iter().filter(|frame| frame.end <= known).count();
            assert!(found.len() >= promised, "{} of {promised} synced frames", found.len());
        }
        // The next open continues there, and its frames follow the frames found.
        let start = Start::after(replayed);
        let Ok(journal) = open(&self.storage, &self.config, &self.random, &start) else { return };
        self.journal = journal;
        self.written.truncate(found.len());
        self.append(100);
        self.journal.close().expect("memory");
        let (again, _) = self.replay().expect("the damage is behind the end");
        assert_eq!(again, frames_of(&self.written));
    }
}

fn open(
    storage: &Memory,
    config: &JournalConfig,
    random: &Arc<SeededRandom>,
    start: &Start,
) -> Result<Arc<Journal>> {
    Journal::create(
        Arc::new(storage.clone()),
        config.clone(),
        Arc::clone(random) as _,
        Arc::new(ManualClock::at(Timestamp::from_millis(0))),
        start,
        Box::new(|| {}),
    )
}

/// Bytes of a file that were changed.
#[derive(Debug)]
struct Change {
    sequence: u32,
    bytes: Range<u64>,
}

/// Returns whether the header of a frame was changed.
fn touched(frame: &Written, changes: &[Change]) -> bool {
    let begin = u64::from(frame.lsn.position());
    changes.iter().any(|change| {
        change.sequence == frame.lsn.sequence()
            && change.bytes.start < begin + FRAME_HEADER
            && change.bytes.end > begin
    })
}

/// Flips, zeroes, overwrites or copies bytes of the files.
fn change(storage: &Memory, input: &mut Input<'_>) -> Vec<Change> {
    let folder = Path::new("journal");
    let names = storage.list(folder).expect("it is there");
    let paths: Vec<PathBuf> = names.iter().map(|entry| folder.join(&entry.name)).collect();
    let mut changes = Vec::new();
    while !input.rest.is_empty() && changes.len() < 8 {
        let path = &paths[usize::from(input.u8()) % paths.len()];
        let file = storage.open(path, OpenMode::Write).expect("it is there");
        let mut all = vec![0; file.len().expect("memory") as usize];
        file.read_at(&mut all, 0).expect("memory");
        let sequence = all[40..44].iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
        let at = usize::from(input.u16()) % all.len();
        let kind = input.u8();
        let len = usize::from(input.u8()) + 1;
        let bytes: Vec<u8> = match kind % 4 {
            0 => vec![all[at] ^ (1 << (len % 8))],
            1 => vec![0; len * 16],
            2 => input.bytes(len).to_vec(),
            _ => {
                // Copies frames of the same file to another place.
                let from = usize::from(input.u16()) % all.len();
                all[from..(from + len * 16).min(all.len())].to_vec()
            }
        };
        let bytes = &bytes[..bytes.len().min(all.len() - at)];
        file.write_at(bytes, at as u64).expect("memory");
        let range = at as u64..(at + bytes.len()) as u64;
        changes.push(Change { sequence, bytes: range });
    }
    changes
}
