//! Sending 2 GiB at full speed to a fresh folder, compared with plain writes in the same run.
//!
//! ```text
//! cargo bench --bench burst [-- --mib 8192]    # a minute; --help lists the arguments
//! ```
//!
//! One thread makes calls of 100 records of 1 KiB (`send_all`, `Written`). The plain side writes the
//! same bytes with one `write` for each call, to one file that grows. Neither asks for a sync, so
//! both may go as fast as memory takes the bytes, until the kernel or the engine waits for the disk.
//! The bench shows when that is, and the longest call. At the end both sides make everything durable
//! (closing the folder, one `fdatasync`), so that what was only put off shows up.
//!
//! The chart shows the run with the median rate of each side.

#![allow(clippy::disallowed_methods, reason = "the clocks that the engine is measured with")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::arguments::{Arguments, Own};
use common::chart::{Lines, Series, Tone};
use common::report::Report;
use common::table::{Table, digits, median};
use common::{broker, fresh_folder, plain_file, time, warm_up};
use grouplog::{Acks, ProducerConfig, Record, TopicConfig};

const SIZE: usize = 1 << 10;
const IN_ONE: usize = 100;
const CALL_BYTES: usize = SIZE * IN_ONE;
/// The first bytes, which a fresh journal may hold alone.
const FIRST_BYTES: usize = 128 << 20;

/// A burst.
#[derive(Debug)]
struct Burst {
    /// When each call ended.
    ends: Vec<Duration>,
    /// How long it took afterwards to make everything durable.
    durable: Duration,
}

impl Burst {
    fn run(calls: usize, mut one: impl FnMut(), durable: impl FnOnce()) -> Self {
        let mut ends = Vec::with_capacity(calls);
        let begin = Instant::now();
        for _ in 0..calls {
            one();
            ends.push(begin.elapsed());
        }
        Self { ends, durable: time(durable) }
    }

    fn plain(folder: &Path, calls: usize) -> Self {
        let bytes = vec![b'v'; CALL_BYTES];
        let mut file = plain_file(folder, "plain");
        let synced = file.try_clone().unwrap();
        Self::run(calls, || file.write_all(&bytes).unwrap(), || synced.sync_data().unwrap())
    }

    fn engine(folder: &Path, calls: usize) -> Self {
        let value = vec![b'v'; SIZE];
        let broker = broker(folder, TopicConfig::new());
        let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
        let send = || {
            let records = (0..IN_ONE).map(|_| Record::to("t").value(&value));
            producer.send_all(records).unwrap();
        };
        Self::run(calls, send, || broker.close().unwrap())
    }

    /// Returns MB/s of the calls in `range`.
    fn rate(&self, range: std::ops::Range<usize>) -> f64 {
        let begin = range.start.checked_sub(1).map_or(Duration::ZERO, |before| self.ends[before]);
        let elapsed = self.ends[range.end - 1].saturating_sub(begin);
        (range.len() * CALL_BYTES) as f64 / elapsed.as_secs_f64() / 1e6
    }

    fn whole(&self) -> f64 {
        self.rate(0..self.ends.len())
    }

    /// Returns MB/s including the time until everything is durable.
    fn to_disk(&self) -> f64 {
        let elapsed = *self.ends.last().unwrap() + self.durable;
        (self.ends.len() * CALL_BYTES) as f64 / elapsed.as_secs_f64() / 1e6
    }

    fn longest(&self) -> Duration {
        let begins = std::iter::once(&Duration::ZERO).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| end.saturating_sub(*begin)).max().unwrap()
    }

    /// Returns MB/s in each whole slice of time.
    fn slices(&self, slice: Duration) -> Vec<f64> {
        let whole = self.ends.last().unwrap().as_nanos() / slice.as_nanos();
        let mut bytes = vec![0; whole as usize];
        for end in &self.ends {
            // A call that ends with a slice belongs to it.
            let index = (end.as_nanos() - 1) / slice.as_nanos();
            if let Some(bytes) = bytes.get_mut(index as usize) {
                *bytes += CALL_BYTES;
            }
        }
        bytes.into_iter().map(|bytes| bytes as f64 / slice.as_secs_f64() / 1e6).collect()
    }
}

/// The runs of one side.
struct Side {
    name: &'static str,
    tone: Tone,
    runs: Vec<Burst>,
}

impl Side {
    fn median(&self, figure: impl Fn(&Burst) -> f64) -> f64 {
        median(&self.runs.iter().map(figure).collect::<Vec<_>>())
    }

    fn row(&self, plain: &Self, slice: Duration) -> [String; 9] {
        let calls = self.runs[0].ends.len();
        let first = (FIRST_BYTES / CALL_BYTES).min(calls);
        let slowest = |burst: &Burst| {
            // A burst of less than a slice has its whole rate.
            burst.slices(slice).into_iter().reduce(f64::min).unwrap_or_else(|| burst.whole())
        };
        let ratio = self.median(Burst::whole) / plain.median(Burst::whole);
        let longest = self.runs.iter().map(Burst::longest).max().unwrap();
        [
            self.name.to_owned(),
            digits(self.median(Burst::whole)),
            digits(ratio),
            digits(self.median(|burst| burst.rate(0..first))),
            digits(self.median(|burst| burst.rate(calls / 2..calls))),
            digits(self.median(slowest)),
            format!("{} ms", digits(self.median(|burst| burst.longest().as_secs_f64() * 1e3))),
            format!("{} ms", digits(longest.as_secs_f64() * 1e3)),
            digits(self.median(Burst::to_disk)),
        ]
    }

    /// Returns MB/s over time, of the run with the median rate.
    fn series(&self, slice: Duration) -> Series {
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_by(|a, b| a.whole().total_cmp(&b.whole()));
        let mut points = Vec::new();
        for (index, rate) in runs[runs.len() / 2].slices(slice).into_iter().enumerate() {
            let begin = index as f64 * slice.as_secs_f64();
            points.extend([(begin, rate), (begin + slice.as_secs_f64(), rate)]);
        }
        Series { name: self.name.to_owned(), tone: self.tone, points }
    }
}

fn main() {
    let mib = Own { name: "--mib", value: 2048, help: "MiB to send" };
    let Some(arguments) = Arguments::read(vec![mib]) else {
        return;
    };
    if !arguments.selects("burst") {
        return;
    }
    let bytes = if arguments.quick { 8 << 20 } else { arguments.own("--mib") << 20 };
    let slice = Duration::from_millis(if arguments.quick { 1 } else { 100 });
    let calls = (bytes as usize).div_ceil(CALL_BYTES);
    let side = |name, tone| Side { name, tone, runs: Vec::new() };
    let mut plain = side("plain write", Tone::Plain);
    let mut engine = side("grouplog", Tone::Engine);
    warm_up(&arguments.dir, bytes);
    for _ in 0..arguments.runs {
        plain.runs.push(Burst::plain(fresh_folder(&arguments.dir).path(), calls));
        engine.runs.push(Burst::engine(fresh_folder(&arguments.dir).path(), calls));
    }

    let mut table = Table::new(&[
        "",
        "MB/s",
        "ratio",
        "first 128 MiB",
        "second half",
        "slowest slice",
        "longest call",
        "of all runs",
        "MB/s to disk",
    ]);
    let sides = [&engine, &plain];
    for side in sides {
        table.row(side.row(&plain, slice));
    }
    let title = format!("A burst of {} MiB into a fresh folder", bytes >> 20);
    let subtitle =
        format!("MB/s in each slice of {slice:?}, the run with the median rate of each side");
    let svg = Lines {
        title: &title,
        subtitle: &subtitle,
        axes: ("seconds", "MB/s"),
        series: sides.iter().map(|side| side.series(slice)).collect(),
    }
    .svg();
    let notes = "One thread, 100 records of 1 KiB a call, `Written`; plain: one `write` of the \
                 same bytes for each call, not synced. MB/s, medians of the runs. \"MB/s to disk\" \
                 includes closing the folder, or one `fdatasync`.";
    Report { name: "burst", title: &title, notes, table: &table, svg: &svg }.publish(&arguments);
}
