//! A process with a low limit of open files.

use std::fs::read_dir;
use std::path::Path;
use std::sync::Arc;

use grouplog::{
    Acks, Broker, BrokerConfig, Consumer, ProducerConfig, ReadMode, Record, TopicConfig, Verify,
};

use crate::faulty::{Act, Faulty};
use crate::fork::in_child;
use crate::world::{AT_ONCE, World, all, drain, reader, refused, tp};

/// Reads the limit that `ulimit -n` shows.
const LIMIT: u64 = 256;
/// 20 MB in segments of 64 KiB, which are more files than that.
const RECORDS: usize = 20_000;

fn limit_files(most: u64) {
    let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

/// At least half of the files are left for the program.
#[expect(clippy::disallowed_types, reason = "the program's own files")]
fn the_program_opens_files(path: &Path) {
    let open = read_dir("/proc/self/fd").unwrap().count() as u64;
    assert!(open < LIMIT / 2, "{open} files are open");
    let file = path.join("grouplog.lock");
    drop((std::fs::File::open(&file).unwrap(), std::fs::File::open(&file).unwrap()));
}

fn fill(broker: &Broker, records: usize) {
    let config = ProducerConfig::new().acks(Acks::Written);
    let producer = broker.producer_with(config).unwrap();
    for n in 0..records {
        producer.send(Record::to("t").partition(0).value(&[n as u8; 1000])).unwrap();
    }
}

fn commit(broker: &Broker) {
    let mut member = broker.consumer("g").unwrap();
    member.assign([tp("t", 0)]).unwrap();
    member.commit_offsets([(tp("t", 0), 7)]).unwrap();
}

fn count(mut reader: Consumer) -> usize {
    drain(&mut reader).len()
}

fn many_segments(path: &Path, mode: ReadMode, background: bool) {
    limit_files(LIMIT);
    let config = BrokerConfig::new().read_mode(mode).background(background);
    let broker = Broker::open_with(path, config.clone()).unwrap();
    broker.create_topic("t", TopicConfig::new().segment_bytes(64 << 10)).unwrap();
    fill(&broker, RECORDS);
    the_program_opens_files(path);
    assert_eq!(count(reader(&broker, "t", 1)), RECORDS);
    the_program_opens_files(path);
    let beside = Broker::open_read_only(path).unwrap();
    let mut consumer = beside.consumer().unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    assert_eq!(count(consumer), RECORDS);
    the_program_opens_files(path);
    broker.close().unwrap();
    let broker = Broker::open_with(path, config).unwrap();
    assert_eq!(count(reader(&broker, "t", 1)), RECORDS);
    assert!(broker.health().is_ok(), "{}", broker.health());
    broker.close().unwrap();
    assert!(Verify::new().run(path).unwrap().findings.is_empty());
}

#[test]
fn a_log_of_more_segments_than_files_may_be_open_is_written_and_read() {
    for (mode, background) in [(ReadMode::Map, true), (ReadMode::Pread, false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let done = in_child(|| {
            many_segments(&path, mode, background);
            true
        });
        assert!(done, "{mode:?}, background {background}");
    }
}

/// Creates a folder with 20 segments. All of them were just read and are open.
fn read_by_calls() -> (World, Faulty, Broker, Consumer) {
    let world = World::new().batch_size(1024);
    let storage = Faulty::new(world.storage.clone());
    let config = world.config.clone().read_mode(ReadMode::Pread);
    let broker = Broker::open_storage(Arc::new(storage.clone()), config).unwrap();
    broker.create_topic("t", TopicConfig::new().segment_bytes(2048)).unwrap();
    fill(&broker, 40);
    broker.checkpoint().unwrap();
    let mut consumer = reader(&broker, "t", 1);
    assert_eq!(drain(&mut consumer).len(), 40);
    (world, storage, broker, consumer)
}

#[test]
fn files_that_are_open_to_be_read_give_way_when_no_other_can_be_opened() {
    let (_world, storage, broker, mut consumer) = read_by_calls();
    // Each of these calls opens one more file, beside those that it keeps open.
    let open = storage.open_files();
    assert!(open > 20, "{open}");
    let mut closed = Vec::new();
    let mut limited = |work: &mut dyn FnMut()| {
        storage.limit_files(storage.open_files());
        work();
        closed.push(storage.open_files());
        storage.heal();
        assert_eq!(all(&broker, "t").len() % 40, 0);
    };
    limited(&mut || {
        consumer.seek(&tp("t", 0), 0).and_then(|()| consumer.poll(AT_ONCE)).map(drop).unwrap();
    });
    limited(&mut || commit(&broker));
    limited(&mut || broker.checkpoint().unwrap());
    limited(&mut || broker.create_topic("u", TopicConfig::new()).unwrap());
    limited(&mut || fill(&broker, 40));
    limited(&mut || broker.checkpoint().unwrap());
    limited(&mut || broker.delete_topic("u").unwrap());
    assert!(closed.iter().any(|files| *files < open / 2), "{closed:?}");
    assert!(broker.health().is_ok(), "{}", broker.health());
    storage.limit_files(storage.open_files());
    broker.close().unwrap();
}

/// If no file can be closed, only that call fails. A folder that cannot be opened for its sync does not count
/// as a failed sync.
#[test]
fn a_checkpoint_that_may_open_no_file_is_tried_again() {
    for op in ["open", "create", "sync"] {
        let (_world, storage, broker, _consumer) = read_by_calls();
        fill(&broker, 40);
        commit(&broker);
        let part = if op == "sync" { "t-0" } else { "" };
        // The files are synced through their handles, which are open.
        if op == "sync" {
            storage.order_folder_sync(part, Act::Fail(24));
        } else {
            storage.order(op, part, Act::Fail(24));
        }
        let error = refused(broker.checkpoint());
        assert!(error.to_string().contains("os error 24"), "{error}");
        assert!(!error.is_fatal(), "{error}");
        storage.heal();
        broker.checkpoint().unwrap();
        assert!(broker.health().is_ok(), "{}", broker.health());
        assert_eq!(all(&broker, "t").len(), 80);
    }
}
