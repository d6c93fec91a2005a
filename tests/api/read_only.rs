use std::time::Duration;

use grouplog::{Broker, Error, Record, TopicConfig};

use crate::world::{AT_ONCE, Owned, drain, owned, refused, tp, values};

fn read(path: &std::path::Path, partitions: u32) -> Vec<Owned> {
    let beside = Broker::open_read_only(path).unwrap();
    let mut reader = beside.consumer().unwrap();
    reader.assign((0..partitions).map(|partition| tp("t", partition))).unwrap();
    drain(&mut reader)
}

#[test]
fn a_reader_beside_the_writer_sees_topics_records_offsets_and_lag() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..3 {
        producer.send(Record::to("t").value(&format!("{n}"))).unwrap();
    }
    let mut consumer = broker.consumer("g").unwrap();
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 3);
    consumer.commit().unwrap();
    producer.send(Record::to("t").value("3")).unwrap();

    let mut beside = Broker::open_read_only(&path).unwrap();
    assert_eq!(beside.list_topics(), ["t"]);
    assert_eq!(beside.list_groups(), ["g"]);
    assert_eq!(beside.describe_topic("t").unwrap().partitions[0].end_offset, 4);
    let group = beside.describe_group("g").unwrap();
    let [offset] = group.offsets.as_slice() else { panic!("{group:?}") };
    assert_eq!((offset.committed, offset.end_offset, offset.lag), (Some(3), 4, 1));
    assert_eq!(values(&read(&path, 1)), ["0", "1", "2", "3"]);

    producer.send(Record::to("t").value("4")).unwrap();
    broker.checkpoint().unwrap();
    producer.send(Record::to("t").value("5")).unwrap();
    assert_eq!(beside.log_bounds(&tp("t", 0)).unwrap(), (0, 4));
    beside.refresh().unwrap();
    assert_eq!(beside.log_bounds(&tp("t", 0)).unwrap(), (0, 6));
    assert_eq!(read(&path, 1).len(), 6);

    let mut reader = beside.consumer().unwrap();
    reader.assign([tp("t", 0)]).unwrap();
    assert!(matches!(refused(reader.commit()), Error::Misuse(_)));
    let groups = beside.consumer().unwrap().subscribe(["t"]);
    assert!(matches!(refused(groups), Error::Misuse(_)));
    broker.close().unwrap();
    assert_eq!(read(&path, 1).len(), 6);
}

#[test]
fn a_reader_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let missing = Broker::open_read_only(&path);
    assert!(missing.is_err());
    assert!(!path.exists());
    let broker = Broker::open(&path).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.producer().unwrap().send(Record::to("t").value("v")).unwrap().wait().unwrap();
    // No writer, and not closed, as a killed process leaves it.
    let copy = folder.path().join("copy");
    copy_folder(&path, &copy);
    let before = listing(&copy);
    assert_eq!(read(&copy, 1).len(), 1);
    assert_eq!(listing(&copy), before);
}

#[test]
fn what_a_reader_sees_while_the_writer_goes_on_is_always_a_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let config = grouplog::BrokerConfig::new()
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(256 << 10)
        .batch_size(4096);
    let broker = Broker::open_with(&path, config).unwrap();
    let topic = TopicConfig::new().segment_bytes(64 << 10);
    broker.create_topic("t", topic).unwrap();
    let producer = broker.producer().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut looks = 0;
            let mut last = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) || looks < 3 {
                let beside = match Broker::open_read_only(&path) {
                    // The journal wraps very quickly here.
                    Err(error @ Error::Busy { .. }) if error.is_retryable() => continue,
                    opened => opened.unwrap(),
                };
                let mut reader = beside.consumer().unwrap();
                reader.assign([tp("t", 0)]).unwrap();
                let end = beside.log_bounds(&tp("t", 0)).unwrap().1;
                let mut next = 0;
                while next < end {
                    for record in &owned(&reader.poll(AT_ONCE).unwrap()) {
                        assert_eq!(record.offset, next);
                        assert_eq!(record.value.as_deref(), Some(&next.to_be_bytes()[..]));
                        next += 1;
                    }
                }
                assert!(end >= last, "{end} after {last}");
                last = end;
                looks += 1;
            }
        });
        for n in 0..20_000i64 {
            producer.send(Record::to("t").value(&n.to_be_bytes())).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
    broker.close().unwrap();
    assert_eq!(read(&path, 1).len(), 20_000);
}

/// As above, with a reader that refreshes from look to look.
#[test]
fn a_reader_that_refreshes_sees_what_a_new_one_sees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let config = grouplog::BrokerConfig::new()
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(1 << 20)
        .batch_size(4096);
    let broker = Broker::open_with(&path, config).unwrap();
    let topic = TopicConfig::new().partitions(2).segment_bytes(64 << 10);
    broker.create_topic("t", topic).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let looks = std::sync::atomic::AtomicU32::new(0);
    let looked = || looks.load(std::sync::atomic::Ordering::Acquire);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut beside = Broker::open_read_only(&path).unwrap();
            let (mut next, mut news) = ([0; 2], 0);
            loop {
                // Read before the look, so that the last look comes after the end of the writer.
                let last = done.load(std::sync::atomic::Ordering::Acquire);
                looks.fetch_add(1, std::sync::atomic::Ordering::Release);
                match beside.refresh() {
                    Err(error) => assert!(matches!(error, Error::Busy { .. }), "{error}"),
                    Ok(anything) => news += u32::from(anything),
                }
                let mut reader = beside.consumer().unwrap();
                for partition in 0..2 {
                    let end = beside.log_bounds(&tp("t", partition)).unwrap().1;
                    let next = &mut next[partition as usize];
                    assert!(end >= *next, "{end} after {next}");
                    reader.assign([tp("t", partition)]).unwrap();
                    reader.seek(&tp("t", partition), *next).unwrap();
                    while *next < end {
                        for record in &owned(&reader.poll(AT_ONCE).unwrap()) {
                            assert_eq!(record.offset, *next);
                            assert_eq!(record.value.as_deref(), Some(&next.to_be_bytes()[..]));
                            *next += 1;
                        }
                    }
                }
                if last && next == [10_000; 2] {
                    assert!(news > 2, "{news}");
                    return;
                }
            }
        });
        let producer = broker.producer().unwrap();
        for n in 0..10_000i64 {
            for partition in 0..2 {
                let value = n.to_be_bytes();
                producer.send(Record::to("t").partition(partition).value(&value)).unwrap();
            }
            // Another topic comes and goes, and checkpoints come on their own.
            match n % 4_000 {
                1_000 => broker.create_topic("u", TopicConfig::new()).unwrap(),
                3_000 => broker.delete_topic("u").unwrap(),
                _ => {}
            }
            // On a busy machine the reader may see nothing new. It then looks now and then, once more from
            // its beginning.
            let until = looked() + 2;
            while n % 1_000 == 999 && looked() < until && !reading.is_finished() {
                std::thread::yield_now();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
    broker.close().unwrap();
}

#[test]
fn a_readers_poll_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let beside = Broker::open_read_only(&path).unwrap();
    let mut reader = beside.consumer().unwrap();
    reader.assign([tp("t", 0)]).unwrap();
    assert!(reader.poll(Duration::MAX).unwrap().is_empty());
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                // The writer names a journal file once it is complete.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

/// Returns every file with its length and time of change.
fn listing(path: &std::path::Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        all.push((entry.path(), metadata.len(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            all.extend(listing(&entry.path()));
        }
    }
    all.sort();
    all
}
