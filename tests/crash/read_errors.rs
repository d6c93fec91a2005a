//! Makes the n-th read-only call fail, for n = 1, 2, ... until a run makes fewer: once, and until
//! some call reports it. Such a failure is never final. The engine reports it as `Io` with the
//! operation and the file. It delivers nothing wrong, and loses or repeats nothing. Once the file
//! is readable again, the same call succeeds without another opening (fault F7).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Broker, Consumer, Error, FindingKind, HealthStatus, JournalMode, ReadMode, Result, Timestamp,
    TopicPartition, Verify,
};

use crate::campaign::Plan;
use crate::check::verify;
use crate::folder;
use crate::life::{self, End, Life, NOW, Setup};
use crate::observe::{Readable, model_of};
use crate::oracle::{History, State, gone};
use crate::script::{self, Script, Step};

/// EIO, which has no `ErrorKind` of its own.
fn eio() -> io::ErrorKind {
    io::Error::from_raw_os_error(5).kind()
}

/// Returns the faults of the n-th call: once, and until healed. In turn unless everything is tried.
fn kinds(read: u64) -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(move |persistent| Plan::is_full() || read.is_multiple_of(2) == *persistent)
}

/// Returns whether the debug text of an error names the operation, the file and the position.
fn is_told(what: &str) -> bool {
    let placed = !what.contains("op: \"read\"") || what.contains("position: Some(");
    let told = what.contains("Io { op: \"") && what.contains("path: \"memory:");
    told && placed && what.contains("injected")
}

/// Writes a script's folder, while its reads fail.
struct Work<'a> {
    script: &'a Script,
    setup: Setup,
    memory: Memory,
    history: History,
    read: u64,
}

impl Work<'_> {
    /// Checks that a call reported the fault, and ends it: everything is readable from here on.
    fn heal(&self, what: &str) {
        let met = self.memory.reads() >= self.read;
        assert!(met && is_told(what), "{} read {} fails: {what}", self.script.name, self.read);
        self.memory.heal();
    }

    fn begin(&mut self) -> Life {
        let promised = self.history.promised(false);
        let mut begin = || Life::begin(&self.memory, self.setup, &mut self.history, promised, 0);
        match begin() {
            Ok(life) => life,
            Err(End::Violation(what)) => {
                self.heal(&what);
                let promised = self.history.promised(false);
                Life::begin(&self.memory, self.setup, &mut self.history, promised, 0)
                    .unwrap_or_else(|end| panic!("a second opening fails, too: {end:?}"))
            }
            Err(End::Crash) => panic!("a crash that nobody asked for"),
        }
    }

    /// Does the steps, and repeats those that fail. Returns whether the fault was met.
    fn run(&mut self) -> bool {
        let mut life = self.begin();
        for step in &self.script.steps {
            let before = life.history.attempted();
            let Err(end) = life.run(std::slice::from_ref(step)) else { continue };
            let End::Violation(what) = end else { panic!("a crash that nobody asked for") };
            self.heal(&what);
            assert!(life.broker.health().status() < HealthStatus::Failed, "{what}");
            // If a change waits for a checkpoint, it may be unknown whether it survives.
            let unknown = what.contains("Indeterminate");
            if unknown || matches!(step, Step::Reopen) {
                self.history = life.history.clone();
                drop(life);
                life = self.begin();
                if unknown {
                    break;
                }
                continue;
            }
            life.history.cut_to(before);
            life.run(std::slice::from_ref(step)).unwrap_or_else(|end| {
                panic!("{} read {}: {step:?} again: {end:?}", self.script.name, self.read)
            });
        }
        self.memory.heal();
        life.broker.checkpoint().unwrap();
        assert!(life.broker.health().is_ok(), "{}", life.broker.health());
        self.history = life.history.clone();
        life.kill();
        self.memory.reads() >= self.read
    }
}

fn fail_each_while_writing(script: &Script, mode: JournalMode) {
    let setup = Setup {
        mode,
        files: script.journal_files,
        stored_from: script.stored_from,
        budget: script.budget,
    };
    let mut read = 0;
    let mut met = true;
    while met {
        read += 1;
        met = false;
        for persistent in kinds(read) {
            let memory = Memory::crash_simulating(read);
            memory.fail_read_at(read, eio(), persistent);
            let history = History::default();
            let mut work = Work { script, setup, memory, history, read };
            met |= work.run();
            for crash in [Crash::Kill, Crash::LoseAll] {
                let promised = work.history.promised(crash != Crash::Kill);
                let left = work.memory.crash(crash, &SeededRandom::new(read));
                verify(&left, setup, &work.history, promised).unwrap_or_else(|what| {
                    panic!("{} {mode:?}, read {read} fails ({persistent}): {what}", script.name)
                });
            }
        }
    }
    println!("{} {mode:?}: {read} reads failed", script.name);
    assert!(read > 20, "{read}");
}

/// Makes a call that may fail once, with `Io`. Then everything is readable again, and the call
/// succeeds.
fn insist<T>(memory: &Memory, mut call: impl FnMut() -> Result<T>) -> T {
    match call() {
        Ok(value) => value,
        Err(error) => {
            assert!(
                matches!(error, Error::Io { .. }) && is_told(&format!("{error:?}")),
                "{error:?}"
            );
            assert!(!error.is_corruption());
            memory.heal();
            call().unwrap_or_else(|error| panic!("again: {error:?}"))
        }
    }
}

/// Reads everything that can be read.
fn read_all(memory: &Memory, broker: &impl Readable) -> State {
    let mut state = State::default();
    let mut partitions = Vec::new();
    for name in broker.topics() {
        let topic = broker.topic(&name).unwrap();
        let logs = topic.partitions.iter().map(|at| vec![gone(); at.start_offset as usize]);
        state.topics.insert(name.clone(), logs.collect());
        let moved = topic.partitions.iter().filter(|at| at.start_offset > 0);
        let place = |partition: &TopicPartition| (name.clone(), partition.partition());
        state.starts.extend(moved.map(|at| (place(&at.partition), at.start_offset)));
        partitions.extend(topic.partitions.into_iter().map(|at| at.partition));
    }
    let mut reader = broker.reader().unwrap();
    reader.assign(partitions.clone()).unwrap();
    // Forwards and backwards, and no record is delivered twice.
    for partition in &partitions {
        seek_by_time(memory, &mut reader, partition);
        reader.seek_to_beginning(partition).unwrap();
    }
    loop {
        let records = insist(memory, || reader.poll(Duration::ZERO));
        if records.is_empty() {
            break;
        }
        for record in &records {
            let log = state.topics.get_mut(record.topic()).unwrap();
            let log = &mut log[record.partition() as usize];
            assert_eq!(record.offset(), log.len() as i64, "{}", record.topic_partition());
            log.push(Arc::new(model_of(&record)));
        }
    }
    for group in broker.groups() {
        for row in broker.group(&group).unwrap().offsets {
            let place = (row.partition.topic().to_owned(), row.partition.partition());
            state.offsets.extend(row.committed.map(|offset| ((group.clone(), place), offset)));
        }
    }
    state
}

fn seek_by_time(memory: &Memory, reader: &mut Consumer, partition: &TopicPartition) {
    insist(memory, || reader.seek_to_timestamp(partition, Timestamp::from_millis(NOW - 3)));
}

/// Returns what a script leaves, closed or killed.
fn folder_of(script: &Script, setup: Setup, closed: bool) -> (Memory, History) {
    let memory = Memory::crash_simulating(1);
    let mut life = Life::begin(&memory, setup, &mut History::default(), 0, 0).unwrap();
    life.run(&script.steps).unwrap();
    if closed {
        life.close().unwrap();
    }
    let history = life.history.clone();
    let left = memory.crash(Crash::Kill, &SeededRandom::new(0));
    life.kill();
    (left, history)
}

/// Runs `look` on copies of a folder, with the n-th read-only call failing. Returns how many calls
/// fail.
fn fail_each(left: &Memory, look: impl Fn(&Memory)) -> u64 {
    for read in 1.. {
        let mut met = false;
        for persistent in kinds(read) {
            let memory = left.crash(Crash::KeepAll, &SeededRandom::new(0));
            memory.fail_read_at(read, eio(), persistent);
            look(&memory);
            met |= memory.reads() >= read;
        }
        if !met {
            return read;
        }
    }
    unreachable!("runs end")
}

fn fail_each_while_reading(script: &Script, mode: ReadMode) {
    let setup = Setup {
        mode: JournalMode::Write,
        files: script.journal_files,
        stored_from: script.stored_from,
        budget: script.budget,
    };
    for closed in [false, true] {
        let (left, history) = folder_of(script, setup, closed);
        let by_writer = fail_each(&left, |memory| {
            let config = life::config(setup, 2).read_mode(mode);
            let open = || Broker::open_storage(Arc::new(memory.clone()), config.clone());
            let broker = insist(memory, open);
            let seen = read_all(memory, &broker);
            assert!(history.state().is(&seen), "{seen}, not {}", history.state());
        });
        let before = folder::contents(&left);
        let by_reader = fail_each(&left, |memory| {
            let open = || Broker::open_storage_read_only(Arc::new(memory.clone()));
            let broker = insist(memory, open);
            let seen = read_all(memory, &broker);
            assert!(history.state().is(&seen), "{seen}, not {}", history.state());
            memory.heal();
            assert_eq!(folder::contents(memory), before, "a reader changes nothing");
        });
        println!("{} {mode:?} closed {closed}: {by_writer} and {by_reader} reads", script.name);
        assert!(by_writer > 20 && by_reader > 20);
    }
}

/// Checks that an unreadable file is reported as that. It must not be reported as damaged, and not
/// as a file that can be rebuilt or removed.
fn fail_each_while_verifying(script: &Script) {
    let setup = Setup {
        mode: JournalMode::Write,
        files: script.journal_files,
        stored_from: script.stored_from,
        budget: script.budget,
    };
    let (left, _) = folder_of(script, setup, true);
    let reads = fail_each(&left, |memory| {
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let run = || Verify::new().threads(1).run_storage(&storage);
        let findings = match run() {
            Ok(report) => report.findings,
            Err(error) => {
                assert!(is_told(&format!("{error:?}")), "{error:?}");
                Vec::new()
            }
        };
        for finding in findings {
            assert_eq!(finding.kind, FindingKind::Damage, "{finding}");
            assert!(is_told(&format!("{:?}", finding.cause)), "{finding}");
        }
        memory.heal();
        assert!(run().unwrap().findings.is_empty());
    });
    println!("{}: {reads} reads of verify failed", script.name);
    assert!(reads > 20, "{reads}");
}

macro_rules! scripts {
    ($($name:ident)*) => {$(
        mod $name {
            use super::{JournalMode, ReadMode, script};

            #[test]
            fn write() {
                super::fail_each_while_writing(&script::$name(), JournalMode::Write);
            }

            #[test]
            fn map() {
                super::fail_each_while_writing(&script::$name(), JournalMode::Map);
            }

            #[test]
            fn read_by_map() {
                super::fail_each_while_reading(&script::$name(), ReadMode::Map);
            }

            #[test]
            fn read_by_pread() {
                super::fail_each_while_reading(&script::$name(), ReadMode::Pread);
            }

            #[test]
            fn verify() {
                super::fail_each_while_verifying(&script::$name());
            }
        }
    )*};
}

scripts! { seal_and_roll send_all commits delete_and_recreate delete_records compressed }
