//! This build reads what earlier builds wrote as they read it, and can continue to work with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Disk, Memory, Storage};
use grouplog::{Broker, Error, ProducerConfig, Record, TopicConfig, TopicPartition};

use crate::container::{self, Files, fill};
use crate::listing;
use crate::make::Life;

/// A folder of an earlier build: its name, its files, and the listing that the build made of it.
pub(crate) struct Old {
    pub(crate) name: String,
    pub(crate) files: Files,
    expected: String,
}

/// Returns all folders, sorted by name.
pub(crate) fn all() -> Vec<Old> {
    let builds = std::fs::read_dir(container::root()).unwrap().map(|entry| entry.unwrap().path());
    let builds: Vec<PathBuf> = builds.filter(|path| path.is_dir()).collect();
    let mut folders = Vec::new();
    for path in builds.iter().flat_map(|build| std::fs::read_dir(build).unwrap()) {
        let path = path.unwrap().path();
        let Some(name) = path.to_str().unwrap().strip_suffix(".folder.zst") else { continue };
        let expected = std::fs::read_to_string(format!("{name}.txt")).unwrap();
        let files = container::unpack(&std::fs::read(&path).unwrap());
        folders.push(Old { name: name.to_owned(), files, expected });
    }
    folders.sort_by(|a, b| a.name.cmp(&b.name));
    folders
}

/// Returns the folder of this name.
pub(crate) fn named(name: &str) -> Old {
    let mut folders = all().into_iter().filter(|old| old.name.ends_with(&format!("/{name}")));
    folders.next().unwrap()
}

impl Old {
    #[track_caller]
    fn assert_listed(&self, listing: &str, when: &str) {
        let known = listing::known_to(listing, &self.expected);
        for (number, (found, expected)) in known.lines().zip(self.expected.lines()).enumerate() {
            assert_eq!(found, expected, "{}, {when}: line {number}", self.name);
        }
        assert_eq!(known.len(), self.expected.len(), "{}, {when}: lines are missing", self.name);
    }
}

#[test]
fn there_are_folders_of_all_kinds() {
    let names: Vec<String> = all().into_iter().map(|old| old.name).collect();
    for kind in ["fresh", "closed", "journal-only", "killed"] {
        let name = format!("/v0.1-d34d46c/{kind}");
        assert!(names.iter().any(|path| path.ends_with(&name)), "{name} of {names:?}");
    }
}

#[test]
fn a_reader_finds_what_was_written_and_changes_nothing() {
    for old in all() {
        let temp = tempfile::tempdir().unwrap();
        let disk = Disk::open(temp.path()).unwrap();
        fill(&disk, &old.files);
        let reader = Broker::open_read_only(temp.path()).unwrap();
        old.assert_listed(&listing::of(&reader), "beside no writer");
        assert!(container::files_of(&disk) == old.files, "{}", old.name);
    }
}

#[test]
fn a_writer_finds_it_too_and_goes_on() {
    for old in all() {
        let storage = Memory::crash_simulating(1);
        fill(&storage, &old.files);
        let life = Life::new(storage);
        let broker = life.open();
        old.assert_listed(&listing::of(&broker), "opened");
        broker.checkpoint().unwrap();
        old.assert_listed(&listing::of(&broker), "after a checkpoint");
        broker.create_topic("more", TopicConfig::new()).unwrap();
        let producer = broker.producer().unwrap();
        for topic in broker.list_topics() {
            producer.send(Record::to(&topic).partition(0).key("new").value("new")).unwrap();
        }
        let before = listing::of(&broker);
        drop(producer);
        broker.close().unwrap();
        let again = life.open();
        assert_eq!(listing::of(&again), before, "{}", old.name);
        drop(again);
        let reader = Broker::open_storage_read_only(Arc::new(life.storage)).unwrap();
        assert_eq!(listing::of(&reader), before, "{}", old.name);
    }
}

#[test]
fn a_writer_on_a_real_disk_opens_and_closes_it_without_a_change_of_what_it_holds() {
    for old in all() {
        let temp = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Storage> = Arc::new(Disk::open(temp.path()).unwrap());
        fill(&*disk, &old.files);
        let config = Life::new(Memory::new()).config();
        let broker = Broker::open_with(temp.path(), config.clone()).unwrap();
        old.assert_listed(&listing::of(&broker), "opened");
        broker.close().unwrap();
        let again = Broker::open_with(temp.path(), config).unwrap();
        old.assert_listed(&listing::of(&again), "opened again");
    }
}

/// The ids, names, sequences and offsets of an earlier build count: those of its checkpoint, and those of its journal.
#[test]
fn transactions_of_an_earlier_build_count() {
    let old = named("transactions");
    assert!(old.files.keys().any(|path| path.starts_with("dedup")), "a bucket of ids");
    let storage = Memory::new();
    fill(&storage, &old.files);
    let life = Life::new(storage);
    life.clock.advance(Duration::from_mins(10));
    let broker = life.open();
    assert_eq!(broker.describe_topic("out").unwrap().ids, 12);
    all_ids_are_known(&broker);
    epochs_and_sequences_go_on(&broker);
    broker.close().unwrap();
    let again = life.open();
    all_ids_are_known(&again);
    let ends = again.describe_topic("out").unwrap().partitions;
    assert_eq!(ends.iter().map(|partition| partition.end_offset).sum::<i64>(), 12);
    life.clock.advance(Duration::from_hours(1));
    let sent = again.producer().unwrap().send(with_id(0, "0-0")).unwrap();
    assert!(!sent.metadata().is_duplicate(), "its window is over");
}

fn with_id(partition: u32, id: &str) -> Record<'_> {
    Record::to("out").partition(partition).value(id).id(id)
}

/// Sends all records with ids again.
fn all_ids_are_known(broker: &Broker) {
    let producer = broker.producer().unwrap();
    for partition in 0..2 {
        let places = (0..2).flat_map(|round| (0..3).map(move |at| (round, 2 * at + partition)));
        for (offset, (round, number)) in (0..).zip(places) {
            let sent = producer.send(with_id(0, &format!("{round}-{number}"))).unwrap();
            let place = (sent.metadata().partition(), sent.metadata().offset());
            assert_eq!(place, (partition, offset), "{round}-{number}");
            assert!(sent.metadata().is_duplicate(), "{round}-{number}");
        }
    }
}

fn epochs_and_sequences_go_on(broker: &Broker) {
    let owners = || {
        let owners = broker.admin().list_owners().unwrap().into_iter();
        owners
            .map(|owner| (owner.transactional_id, owner.epoch, owner.last_sequence))
            .collect::<Vec<_>>()
    };
    let [importer, checkpoint, journal] =
        ["importer", "of a checkpoint", "of the journal"].map(str::to_owned);
    let others = [(checkpoint, 0, None), (journal, 0, None)];
    assert_eq!(owners()[0], (importer.clone(), 3, Some(15)));
    assert_eq!(owners()[1..], others);
    let named = || broker.producer_with(ProducerConfig::new().transactional_id(&importer)).unwrap();
    let before = named();
    assert_eq!(before.last_sequence().unwrap(), Some(15));
    let producer = named();
    let fenced = before.send(Record::to("in").value("late"));
    assert!(matches!(fenced, Err(Error::ProducerFenced { epoch: 4, current: Some(5), .. })));
    assert!(producer.send_sequenced(15, Record::to("in").value("line")).unwrap().is_none());
    let mut transaction = producer.begin().unwrap();
    transaction.expect_committed("movers", &TopicPartition::new("in", 0), Some(3)).unwrap();
    assert!(transaction.send_sequenced(16, Record::to("in").value("line")).unwrap());
    transaction.commit().unwrap();
    assert_eq!(owners()[0], (importer.clone(), 5, Some(16)));
}

/// What is known of each job by an earlier build counts: what is done stays done, and the others come again, each at its
/// time, with its delivery count and its reason.
#[test]
fn share_groups_of_an_earlier_build_go_on() {
    let old = named("shares");
    for name in ["shares.a", "shares.b"] {
        assert!(old.files.contains_key(std::path::Path::new(name)), "{name}");
    }
    let storage = Memory::new();
    fill(&storage, &old.files);
    let life = Life::new(storage);
    life.clock.advance(Duration::from_secs(10));
    let broker = life.open();
    let admin = broker.admin();
    assert_eq!(admin.list_share_groups(), ["mailers", "ordered", "paused"]);
    // Those under way have lost their members. A key that waits for its backoff holds up its later jobs.
    let held = "the lock ended";
    assert_eq!(accepted(&broker, "mailers"), [], "they wait for the backoff");
    let ordered = accepted(&broker, "ordered");
    assert_eq!(not_new(&ordered), [(0, 1, 2, held), (1, 1, 2, held)]);
    let new: Vec<_> = ordered.iter().filter(|job| job.2 == 1).map(|job| (job.0, job.1)).collect();
    assert_eq!(new, [(0, 5), (0, 10), (0, 11), (0, 12), (0, 14), (0, 15), (0, 16), (1, 4), (1, 5)]);
    life.clock.advance(Duration::from_secs(1));
    assert_eq!(not_new(&accepted(&broker, "mailers")), [(0, 7, 2, held), (0, 13, 2, held)]);

    // An hour after they failed, and the producer wanted them then.
    life.clock.advance(Duration::from_hours(1));
    let mailers = accepted(&broker, "mailers");
    assert_eq!(not_new(&mailers), [(0, 6, 2, "released"), (0, 12, 2, "released")]);
    assert_eq!((mailers[1].1, mailers[3].1, mailers.len()), (8, 17, 4));
    let ordered = accepted(&broker, "ordered");
    assert_eq!(not_new(&ordered), [(0, 0, 2, "no answer"), (1, 0, 2, "no answer")]);
    assert_eq!(ordered.len(), 8);
    life.clock.advance(Duration::from_hours(1));
    let put_off: Vec<_> = [5, 11].map(|offset| (0, offset, 1, "put off".to_owned())).into();
    assert_eq!(accepted(&broker, "mailers"), put_off);

    assert_eq!(accepted(&broker, "paused"), []);
    admin.pause_share_group("paused", false).unwrap();
    let paused = accepted(&broker, "paused");
    assert_eq!(
        not_new(&paused),
        [(0, 1), (0, 2), (1, 1), (1, 2)].map(|(of, at)| (of, at, 2, held))
    );
    assert_eq!(paused.len(), 22);
    for name in admin.list_share_groups() {
        assert_eq!(admin.describe_share_group(&name).unwrap().lag(), 0, "{name}");
    }
    assert_eq!(broker.describe_topic("dead").unwrap().partitions[0].end_offset, 4);
}

/// Partition, offset, delivery count, reason.
type Taken = (u32, i64, u16, String);

/// Those that were delivered before.
fn not_new(jobs: &[Taken]) -> Vec<(u32, i64, u16, &str)> {
    let again = jobs.iter().filter(|job| job.2 > 1);
    again.map(|(partition, offset, count, why)| (*partition, *offset, *count, &**why)).collect()
}

/// Accepts all jobs that are there.
fn accepted(broker: &Broker, group: &str) -> Vec<Taken> {
    let mut member = broker.share_consumer(group).unwrap();
    member.subscribe(["jobs"]).unwrap();
    let mut all = Vec::new();
    loop {
        let jobs = member.poll(Duration::ZERO).unwrap();
        if jobs.is_empty() {
            all.sort();
            return all;
        }
        for job in jobs {
            let reason = job.last_reason().unwrap_or_default().to_owned();
            all.push((job.partition(), job.offset(), job.delivery_count(), reason));
            job.accept().unwrap();
        }
    }
}
