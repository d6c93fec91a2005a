//! A lasting load: `cargo bench --bench sustained -- [seconds]` (10 by default).
//!
//! Sends records of 100 bytes with `Written` for that time while the segments grow, with all the
//! checkpoints that fall due. Then writes the same number of bytes to a plain file in blocks of 64
//! KiB without a sync, and syncs it once. Before each part the bench waits until the disk has
//! finished the writes of the part before. Unsynced writes go to memory, up to a fifth of it, until
//! the kernel slows them down. So the second half of a long run says more, and the synced figure is
//! what the disk takes at any length.
//!
//! Then it measures what `Synced` appends cost the device: what the kernel charges this process
//! (`/proc/self/io`, pages made dirty) and what the device wrote (`/proc/diskstats`, which includes
//! other processes). A plain file that is written and synced for each record is the comparison.

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

/// The result of a run.
struct Load {
    bytes: u64,
    elapsed: Duration,
    /// The duration of the longest call.
    longest: Duration,
    /// Bytes in each second.
    per_second: Vec<u64>,
}

impl Load {
    /// Calls `one`, which writes `bytes` bytes, for as long as `more` returns true.
    fn run(bytes: u64, more: impl Fn(&Self) -> bool, mut one: impl FnMut(u64)) -> Self {
        let begin = Instant::now();
        let mut load = Self {
            bytes: 0,
            elapsed: Duration::ZERO,
            longest: Duration::ZERO,
            per_second: vec![0],
        };
        while more(&load) {
            one(load.bytes);
            let elapsed = begin.elapsed();
            load.longest = load.longest.max(elapsed.saturating_sub(load.elapsed));
            load.elapsed = elapsed;
            load.bytes += bytes;
            load.per_second.resize(elapsed.as_secs() as usize + 1, 0);
            *load.per_second.last_mut().unwrap() += bytes;
        }
        load
    }

    /// Returns MB/s.
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64() / 1e6
    }

    /// Returns MB/s in the second half of the whole seconds.
    fn steady(&self) -> f64 {
        let whole = &self.per_second[..self.per_second.len() - 1];
        let half = &whole[whole.len() / 2..];
        half.iter().sum::<u64>() as f64 / half.len().max(1) as f64 / 1e6
    }

    fn print(&self, name: &str) {
        println!(
            "{name}: {:.0} MB/s, {:.0} in the second half, longest call {:?}",
            self.rate(),
            self.steady(),
            self.longest
        );
        let seconds: Vec<_> = self.per_second.iter().map(|bytes| bytes / 1_000_000).collect();
        println!("  in each second: {seconds:?}");
    }
}

fn send_for(broker: &Broker, duration: Duration) -> Load {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    Load::run(
        VALUE.len() as u64,
        |load| load.elapsed < duration,
        |_| {
            producer.send(Record::to("t").value(&VALUE)).unwrap();
        },
    )
}

/// Returns the number of the newest checkpoint: bytes 28 to 36 of the newer checkpoint file.
fn checkpoints(data: &Path) -> u64 {
    let generation = |name| {
        let mut bytes = [0; 8];
        let file = std::fs::read(data.join(name)).unwrap_or_default();
        bytes.copy_from_slice(file.get(28..36).unwrap_or(&[0; 8]));
        u64::from_be_bytes(bytes)
    };
    generation("checkpoint.a").max(generation("checkpoint.b"))
}

/// Returns the number of bytes that this process has made dirty.
fn charged() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Returns the number of bytes that the device under `folder` has written.
fn device_bytes(folder: &Path) -> Option<u64> {
    let device = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string("/proc/diskstats").ok()?;
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut fields = fields.filter(|f| f.len() > 9);
    let own = fields.find(|f| f[0] == major.to_string() && f[1] == minor.to_string())?;
    Some(own[9].parse::<u64>().ok()? * 512)
}

/// Runs `one` for each append and prints the cost of each.
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
    let engine = send_for(&broker, duration);
    let count = checkpoints(&folder.path().join("data")) - before;
    let close = time(|| broker.close().unwrap());
    rustix::fs::sync();

    let block = vec![b'v'; BLOCK_BYTES];
    let file = plain_file(folder.path(), "plain");
    let plain = Load::run(
        BLOCK_BYTES as u64,
        |load| load.bytes < engine.bytes,
        |position| {
            file.write_all_at(&block, position).unwrap();
        },
    );
    let sync = time(|| file.sync_data().unwrap());
    let synced = plain.bytes as f64 / (plain.elapsed + sync).as_secs_f64() / 1e6;

    engine.print("engine");
    println!("  {count} checkpoints, close {close:?}");
    plain.print("plain writes of 64 KiB, not synced");
    println!("plain writes and one sync at the end: {synced:.0} MB/s");
    println!(
        "ratio {:.2} to unsynced writes, {:.2} in the second half, {:.2} to synced ones",
        engine.rate() / plain.rate(),
        engine.steady() / plain.steady(),
        engine.rate() / synced
    );
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
