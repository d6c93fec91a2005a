//! A load that lasts: `cargo bench --bench sustained -- [seconds]` (10 by default).
//!
//! Sends records of 100 bytes with `Written` for that long while the segments grow, with all the
//! checkpoints that fall due, then writes as many bytes to a plain file in blocks of 64 KiB, which
//! nobody syncs, and then syncs it once. Before each part the disk is left to finish what the one before
//! it began. Writes that nobody syncs go to memory until the kernel slows them down, so they show the
//! disk only if the load lasts long enough; the synced figure is what the disk takes at any length.
//!
//! Then it counts what `Synced` appends cost the device: by what the kernel charges this process
//! (`/proc/self/io`, pages made dirty) and by what the device wrote (`/proc/diskstats`; other processes
//! are in it too), beside a plain file that is written and synced for each record.

#![allow(clippy::disallowed_methods, reason = "the clocks that the engine is measured with")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(clippy::print_stdout, reason = "a bench reports")]

mod common;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{BLOCK_BYTES, VALUE, broker, folder, plain_file, time};
use grouplog::{Acks, Broker, ProducerConfig, Record, TopicConfig};

const SYNCED_APPENDS: u64 = 5_000;

/// What a run of the engine did.
struct Load {
    records: u64,
    elapsed: Duration,
    longest: Duration,
    per_second: Vec<u64>,
}

fn load(broker: &Broker, duration: Duration) -> Load {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let begin = Instant::now();
    let mut last = begin;
    let mut longest = Duration::ZERO;
    let (mut records, mut per_second) = (0, vec![0]);
    while last - begin < duration {
        producer.send(Record::to("t").value(&VALUE)).unwrap();
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
        records += 1;
        let second = (now - begin).as_secs() as usize;
        if second >= per_second.len() {
            per_second.resize(second + 1, 0);
        }
        per_second[second] += 1;
    }
    Load { records, elapsed: last - begin, longest, per_second }
}

/// The number of the newest checkpoint: bytes 28 to 36 of the newer checkpoint file.
fn checkpoints(data: &Path) -> u64 {
    let generation = |name| {
        let mut bytes = [0; 8];
        let file = std::fs::read(data.join(name)).unwrap_or_default();
        bytes.copy_from_slice(file.get(28..36).unwrap_or(&[0; 8]));
        u64::from_be_bytes(bytes)
    };
    generation("checkpoint.a").max(generation("checkpoint.b"))
}

/// Bytes that this process has made dirty.
fn charged() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Bytes that the device under `folder` has written.
fn device_bytes(folder: &Path) -> Option<u64> {
    let device = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string("/proc/diskstats").ok()?;
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut fields = fields.filter(|f| f.len() > 9);
    let own = fields.find(|f| f[0] == major.to_string() && f[1] == minor.to_string())?;
    Some(own[9].parse::<u64>().ok()? * 512)
}

/// Runs `one` for each append and says what each cost.
fn cost(name: &str, folder: &Path, mut one: impl FnMut(u64)) {
    rustix::fs::sync();
    let before = (charged(), device_bytes(folder));
    let elapsed = time(|| (0..SYNCED_APPENDS).for_each(&mut one));
    let after = (charged(), device_bytes(folder));
    let each = |before: Option<u64>, after: Option<u64>| match (before, after) {
        (Some(before), Some(after)) => ((after - before) / SYNCED_APPENDS).to_string(),
        _ => "unknown".to_owned(),
    };
    println!(
        "{name}: {:.0}/s, {} bytes charged and {} bytes of device writes for each",
        SYNCED_APPENDS as f64 / elapsed.as_secs_f64(),
        each(before.0, after.0),
        each(before.1, after.1),
    );
}

fn sustained(duration: Duration) {
    let folder = folder();
    rustix::fs::sync();
    let broker = broker(folder.path(), TopicConfig::new());
    let before = checkpoints(&folder.path().join("data"));
    let run = load(&broker, duration);
    let count = checkpoints(&folder.path().join("data")) - before;
    let close = time(|| broker.close().unwrap());
    let total = run.records * VALUE.len() as u64;
    rustix::fs::sync();

    let blocks = total / BLOCK_BYTES as u64;
    let block = vec![b'v'; BLOCK_BYTES];
    let file = plain_file(folder.path(), "plain");
    let plain = time(|| {
        for i in 0..blocks {
            file.write_all_at(&block, i * BLOCK_BYTES as u64).unwrap();
        }
    });
    let synced = plain + time(|| file.sync_data().unwrap());
    let rate = |bytes: u64, elapsed: Duration| bytes as f64 / elapsed.as_secs_f64() / 1e6;
    let (engine, plain) = (rate(total, run.elapsed), rate(total, plain));
    println!("{} records of {} bytes in {:?}", run.records, VALUE.len(), run.elapsed);
    println!("engine {engine:.0} MB/s, plain writes of 64 KiB {plain:.0} MB/s");
    let synced = rate(total, synced);
    println!("plain writes and one sync at the end {synced:.0} MB/s");
    println!(
        "ratio {:.2} to unsynced writes, {:.2} to synced ones",
        engine / plain,
        engine / synced
    );
    println!("longest send {:?}, {count} checkpoints, close {close:?}", run.longest);
    println!("records in each second: {:?}", run.per_second);
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10);
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    sustained(Duration::from_secs(seconds));

    let folder = folder();
    let file = plain_file(folder.path(), "plain");
    cost("plain write and fdatasync", folder.path(), |i| {
        file.write_all_at(&VALUE, i * VALUE.len() as u64).unwrap();
        file.sync_data().unwrap();
    });
    let broker = broker(folder.path(), TopicConfig::new());
    let producer = broker.producer().unwrap();
    cost("synced send", folder.path(), |_| {
        producer.send(Record::to("t").value(&VALUE)).unwrap().wait().unwrap();
    });
    broker.close().unwrap();
}
