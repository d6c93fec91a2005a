//! A process that may open few files.

use std::fs::read_dir;
use std::path::Path;

use grouplog::{
    Acks, Broker, BrokerConfig, Consumer, ProducerConfig, ReadMode, Record, TopicConfig, Verify,
};

use crate::fork::in_child;
use crate::world::{drain, reader, tp};

/// What `ulimit -n` says.
const LIMIT: u64 = 256;
/// 30 MB in segments of 64 KiB: more files than that.
const RECORDS: usize = 30_000;

fn limit_files(most: u64) {
    let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

/// The program has at least half of its files for itself.
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
    for mode in [ReadMode::Map, ReadMode::Pread] {
        for background in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data");
            let done = in_child(|| {
                many_segments(&path, mode, background);
                true
            });
            assert!(done, "{mode:?}, background {background}");
        }
    }
}
