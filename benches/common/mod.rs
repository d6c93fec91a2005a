//! Code that the benches share: a folder on a real disk, plain files to compare with, and a summary
//! that shows each rate next to the limit measured in the same run.
//!
//! On a busy machine a run still gives correct ratios, but not correct rates.

#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the plain files and clocks that the engine is measured against"
)]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

pub(crate) mod arguments;
pub(crate) mod chart;
pub(crate) mod report;
pub(crate) mod table;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use grouplog::{Broker, TopicConfig};

use self::table::{Table, digits, median};

/// The value of every record.
pub(crate) const VALUE: [u8; 100] = [b'v'; 100];
/// The block size of a buffered writer, and the engine's batch size.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// Creates a folder on the disk that holds the build, removed when dropped. A folder in memory
/// would flatter the results.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Creates a folder in `dir`, removed when dropped. First waits until the disk has finished all
/// writes, so that none of them slows down what comes next.
pub(crate) fn fresh_folder(dir: &Path) -> tempfile::TempDir {
    rustix::fs::sync();
    tempfile::tempdir_in(dir).unwrap()
}

/// Writes and removes a plain file. Who fills the page cache first pays for the memory that a
/// virtual machine has to find; that should be nobody who is measured.
pub(crate) fn warm_up(dir: &Path, bytes: u64) {
    let folder = fresh_folder(dir);
    let file = plain_file(folder.path(), "plain");
    let block = vec![b'v'; 1 << 20];
    for position in (0..bytes).step_by(block.len()) {
        file.write_all_at(&block, position).unwrap();
    }
}

/// Opens a broker with default settings and a topic `t`.
pub(crate) fn broker(folder: &Path, config: TopicConfig) -> Broker {
    let broker = Broker::open(folder.join("data")).unwrap();
    broker.create_topic("t", config).unwrap();
    broker
}

/// Creates a plain file in `folder`.
pub(crate) fn plain_file(folder: &Path, name: &str) -> File {
    let path = folder.join(name);
    File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

/// Returns how long `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// The results of all runs of one bench binary, in order.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    limit: Option<String>,
    bytes_per_record: f64,
    /// Records per second, per sample.
    rates: Vec<f64>,
    latencies: Vec<Duration>,
}

impl Summary {
    /// Measures `run`, which gets a number of repetitions and returns the time they took. Each
    /// repetition is `records` records of `bytes` bytes. `limit` names the line to compare with.
    pub(crate) fn measure(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        limit: Option<&str>,
        (records, bytes): (u64, u64),
        mut run: impl FnMut(u64, &mut Vec<Duration>) -> Duration,
    ) {
        let mut line = Line {
            name: name.to_owned(),
            limit: limit.map(str::to_owned),
            bytes_per_record: bytes as f64 / records as f64,
            rates: Vec::new(),
            latencies: Vec::new(),
        };
        group.throughput(Throughput::ElementsAndBytes { elements: records, bytes });
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let elapsed = run(iterations, &mut line.latencies);
                line.rates.push((records * iterations) as f64 / elapsed.as_secs_f64());
                elapsed
            });
        });
        if !line.rates.is_empty() {
            self.lines.push(line);
        }
    }

    /// Prints the medians.
    pub(crate) fn print(&mut self, title: &str) {
        if self.lines.is_empty() {
            return; // Filtered out, or only listed.
        }
        let mut table = Table::new(&[title, "records/s", "MB/s", "ratio", "of"]);
        for line in &self.lines {
            let rate = median(&line.rates);
            let megabytes = rate * line.bytes_per_record / 1e6;
            let limit = self.lines.iter().find(|other| Some(&other.name) == line.limit.as_ref());
            let ratio = limit.map(|limit| digits(rate / median(&limit.rates)));
            table.row([
                line.name.clone(),
                format!("{rate:.0}"),
                format!("{megabytes:.1}"),
                ratio.unwrap_or_default(),
                limit.map_or(String::new(), |limit| limit.name.clone()),
            ]);
        }
        println!("\n{}", table.text());
        for line in self.lines.iter_mut().filter(|line| !line.latencies.is_empty()) {
            line.latencies.sort_unstable();
            let at = |part: f64| line.latencies[(line.latencies.len() as f64 * part) as usize];
            println!("{}: p50 {:?}, p99 {:?}, p99.9 {:?}", line.name, at(0.5), at(0.99), at(0.999));
        }
    }
}

/// Creates a group with few, short samples: the work is I/O, and a whole binary must end within a
/// minute.
pub(crate) fn group<'c>(
    criterion: &'c mut Criterion,
    name: &str,
    seconds: f64,
) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .nresamples(2_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs_f64(seconds));
    group
}
