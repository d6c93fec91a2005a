//! What a folder takes on a real disk: as much as `du` counts, and little without data.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use grouplog::storage::{Disk, OpenMode, Storage};
use grouplog::{
    Acks, Broker, BrokerConfig, DiskUsage, Producer, ProducerConfig, Record, TopicConfig,
};

const MIB: u64 = 1 << 20;

/// Counts the blocks of a file, or of a folder and all that it holds, as `du` does.
fn du(path: &Path) -> u64 {
    let metadata = path.symlink_metadata().unwrap();
    let inside: u64 = if metadata.is_dir() {
        path.read_dir().unwrap().map(|entry| du(&entry.unwrap().path())).sum()
    } else {
        0
    };
    metadata.blocks() * 512 + inside
}

fn du_if_there(path: &Path) -> u64 {
    if path.exists() { du(path) } else { 0 }
}

/// Without a thread that changes files while they are counted.
fn config() -> BrokerConfig {
    BrokerConfig::new().background(false)
}

fn producer(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

/// Sends `records` records of 10 KB each.
fn send(broker: &Broker, records: usize) {
    let producer = producer(broker);
    for _ in 0..records {
        producer.send(Record::to("t").partition(0).value(&[7; 10_000])).unwrap();
    }
}

/// Checks a folder that is open.
fn check(broker: &Broker, path: &Path) -> DiskUsage {
    let usage = broker.admin().disk_usage().unwrap();
    assert_eq!(usage.total(), du(path), "{usage:?}");
    assert_eq!(usage.journal, du(&path.join("journal")));
    assert_eq!(usage.reserve, du_if_there(&path.join("reserve")));
    assert!(usage.reserve <= usage.journal, "{usage:?}");
    usage
}

/// Checks a folder that is closed and holds this much data.
fn check_closed(path: &Path, data: u64) {
    assert_eq!(du_if_there(&path.join("reserve")), 0);
    let found = du(path);
    assert!(found < data + 2 * MIB, "{found} bytes for {data} bytes of data");
    let beside = Broker::open_read_only(path).unwrap();
    assert_eq!(beside.disk_usage().unwrap().total(), found);
}

/// Returns the lengths of the segments.
fn data(path: &Path) -> u64 {
    let segments = path.join("t-0").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let logs = segments.filter(|path| path.extension().is_some_and(|it| it == "log"));
    logs.map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn an_empty_topic_takes_little() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    for config in [config(), BrokerConfig::new()] {
        let broker = Broker::open_with(&path, config).unwrap();
        let _made_before = broker.create_topic("t", TopicConfig::new());
        broker.checkpoint().unwrap();
        assert!(du(&path) < 2 * MIB, "{:?}", broker.admin().disk_usage().unwrap());
        broker.close().unwrap();
        check_closed(&path, 0);
    }
}

#[test]
fn the_disk_usage_is_what_du_counts_and_a_close_gives_back_what_holds_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open_with(&path, config()).unwrap();
    check(&broker, &path);
    broker.create_topic("t", TopicConfig::new()).unwrap();
    check(&broker, &path);
    send(&broker, 2_000);
    check(&broker, &path);
    broker.checkpoint().unwrap();
    let usage = check(&broker, &path);
    assert!(usage.topics["t"] >= data(&path));
    broker.close().unwrap();
    check_closed(&path, data(&path));

    // What the journal took is not taken again, and the reserve is as large as what is.
    let broker = Broker::open_with(&path, config()).unwrap();
    let usage = check(&broker, &path);
    assert!(usage.journal + usage.reserve < 2 * MIB, "{usage:?}");
}

#[test]
fn the_reserve_shrinks_with_the_journal_though_the_folder_was_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    drop(Broker::open_with(&path, config()).unwrap());
    // A killed process left it.
    let disk = Disk::open(&path).unwrap();
    let left = disk.open(Path::new("reserve"), OpenMode::CreateNew).unwrap();
    left.preallocate(0, 64 * MIB).unwrap();
    let broker = Broker::open_with(&path, config()).unwrap();
    check(&broker, &path);
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 1_000);
    broker.checkpoint().unwrap();
    check(&broker, &path);
}

#[test]
fn segments_whose_files_were_closed_give_their_space_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    // So few that write-outs and checkpoints close the files of active segments.
    let config = config().max_open_files(64);
    let broker = Broker::open_with(&path, config).unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(40)).unwrap();
    let sender = producer(&broker);
    for _ in 0..60 {
        for partition in 0..40 {
            sender.send(Record::to("t").partition(partition).value(&[7; 10_000])).unwrap();
        }
    }
    drop(sender);
    broker.checkpoint().unwrap();
    broker.close().unwrap();
    check_closed(&path, 60 * 40 * 10_100);
}
