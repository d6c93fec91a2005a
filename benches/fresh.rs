//! Sending to a folder that was just created, compared with plain writes in the same run.
//!
//! ```text
//! cargo bench --bench fresh [-- --filter synced]    # about 3 minutes; --help lists the arguments
//! ```
//!
//! Each measurement has a folder of its own, with default settings. The plain side makes the same
//! calls with the same bytes: one `write` for each `send` or `send_all`, to a file that grows, and
//! for `Synced` one `fdatasync` after it. Where all threads send to one partition, they write to one
//! file; where each has its own, to a file each. So both sides survive the same: with `Written` a
//! killed process, with `Synced` power loss. The plain files have no order over files, checksums,
//! offsets or timestamps.
//!
//! Engine and plain files take turns. A rate is the median of the runs, a ratio the median of the
//! runs' ratios. Opening and closing are not measured. Afterwards the log must have all records.

#![allow(clippy::disallowed_methods, reason = "the clocks that the engine is measured with")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::io::Write;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::arguments::Arguments;
use common::chart::{Bar, Bars, Section, Tone};
use common::report::Report;
use common::table::{Table, digits, median, rate};
use common::{broker, fresh_folder, plain_file, warm_up};
use grouplog::{Acks, ProducerConfig, Record, TopicConfig};
use indicatif::ProgressBar;

const SIZES: [usize; 5] = [16, 100, 1 << 10, 8 << 10, 64 << 10];
const IN_ONE: [usize; 4] = [1, 10, 100, 1000];
const THREADS: [usize; 4] = [1, 2, 4, 8];
/// More than this in one `send_all` is not a usual program.
const MOST_IN_ONE: usize = 8 << 20;

/// What one measurement sends.
#[derive(Clone, Copy, Debug)]
struct Case {
    acks: Acks,
    size: usize,
    in_one: usize,
    threads: usize,
    layout: Layout,
}

/// Who sends, and where to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Alone,
    /// All threads send to the same partition.
    Shared,
    /// Each thread has its own.
    Own,
}

/// When a thread has sent enough.
#[derive(Clone, Copy, Debug)]
enum Enough {
    Calls(usize),
    After(Duration),
}

impl Case {
    /// Returns all cases: sizes and numbers of records for one thread, then threads.
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for acks in [Acks::Written, Acks::Synced] {
            for size in SIZES {
                let fits = IN_ONE.into_iter().filter(|in_one| size * in_one <= MOST_IN_ONE);
                let (threads, layout) = (1, Layout::Alone);
                cases.extend(fits.map(|in_one| Self { acks, size, in_one, threads, layout }));
            }
            for layout in [Layout::Shared, Layout::Own] {
                for in_one in [1, 100] {
                    let case = |threads| Self { acks, size: 100, in_one, threads, layout };
                    cases.extend(THREADS.map(case));
                }
            }
        }
        // One thread with its own partition is one thread over one partition.
        cases.retain(|case| !(case.layout == Layout::Own && case.threads == 1));
        cases
    }

    fn synced(self) -> bool {
        self.acks == Acks::Synced
    }

    fn partitions(self) -> usize {
        if self.layout == Layout::Own { self.threads } else { 1 }
    }

    fn section(self) -> String {
        let acks = if self.synced() { "synced" } else { "written" };
        match self.layout {
            Layout::Alone => format!("{acks}, one thread"),
            Layout::Shared => format!("{acks}, threads over one partition"),
            Layout::Own => format!("{acks}, a partition for each thread"),
        }
    }

    fn label(self) -> String {
        let size = match self.size {
            size if size >= 1 << 10 => format!("{} KiB", size >> 10),
            size => format!("{size} B"),
        };
        let threads = match (self.layout, self.threads) {
            (Layout::Alone, _) => String::new(),
            (_, 1) => ", 1 thread".to_owned(),
            (_, threads) => format!(", {threads} threads"),
        };
        format!("{size}, {} a call{threads}", self.in_one)
    }

    fn name(self) -> String {
        format!("{}: {}", self.section(), self.label())
    }

    /// Returns how much to send. What fits into memory says what `Written` costs; what a disk takes
    /// for `Synced` differs too much for a fixed number.
    fn enough(self, quick: bool) -> Enough {
        let (bytes, calls, time) =
            if quick { (1 << 20, 1_000, 10) } else { (64 << 20, 300_000, 200) };
        if self.synced() {
            return Enough::After(Duration::from_millis(time));
        }
        let calls = calls.min(bytes / (self.size * self.in_one)).max(1);
        Enough::Calls(calls.div_ceil(self.threads))
    }

    /// Calls what `thread` returns in each thread until it is enough. Returns the number of records,
    /// and the seconds from the first thread's begin to the last one's end.
    fn run<F: FnMut()>(self, enough: Enough, thread: impl Fn(usize) -> F + Sync) -> (u64, f64) {
        let start = Barrier::new(self.threads);
        let spend = |mut one: F| {
            start.wait();
            let (begin, mut calls) = (Instant::now(), 0);
            while match enough {
                Enough::Calls(most) => calls < most,
                Enough::After(time) => begin.elapsed() < time,
            } {
                one();
                calls += 1;
            }
            (begin, Instant::now(), calls)
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let (spend, thread) = (&spend, &thread);
            let threads = (0..self.threads).map(|t| scope.spawn(move || spend(thread(t))));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let begin = done.iter().map(|(begin, ..)| *begin).min().unwrap();
        let end = done.iter().map(|(_, end, _)| *end).max().unwrap();
        let calls: usize = done.iter().map(|(.., calls)| calls).sum();
        ((calls * self.in_one) as u64, (end - begin).as_secs_f64())
    }

    /// Returns records per second of plain writes.
    fn plain(self, folder: &Path, enough: Enough) -> f64 {
        let bytes = vec![b'v'; self.size * self.in_one];
        let file = |number| plain_file(folder, &format!("plain-{number}"));
        let files: Vec<_> = (0..self.partitions()).map(file).collect();
        let (records, seconds) = self.run(enough, |thread| {
            let (mut file, bytes) = (&files[thread % files.len()], &bytes);
            move || {
                file.write_all(bytes).unwrap();
                if self.synced() {
                    file.sync_data().unwrap();
                }
            }
        });
        records as f64 / seconds
    }

    /// Returns records per second of the engine.
    fn engine(self, folder: &Path, enough: Enough) -> f64 {
        let value = vec![b'v'; self.size];
        let broker = broker(folder, TopicConfig::new().partitions(self.partitions() as u32));
        let producer = broker.producer_with(ProducerConfig::new().acks(self.acks)).unwrap();
        let (records, seconds) = self.run(enough, |thread| {
            let (value, producer) = (&value, &producer);
            let partition = (thread % self.partitions()) as u32;
            let record = move || Record::to("t").partition(partition).value(value);
            move || {
                if self.in_one == 1 {
                    producer.send(record()).unwrap().wait().unwrap();
                } else {
                    let records = (0..self.in_one).map(|_| record());
                    producer.send_all(records).unwrap().wait().unwrap();
                }
            }
        });
        let topic = broker.describe_topic("t").unwrap();
        let sent: i64 = topic.partitions.iter().map(|partition| partition.end_offset).sum();
        assert_eq!(sent as u64, records, "the log does not have what was sent");
        broker.close().unwrap();
        records as f64 / seconds
    }
}

/// The rates of a case, one for each run.
#[derive(Clone, Debug, Default)]
struct Rates {
    plain: Vec<f64>,
    engine: Vec<f64>,
}

impl Rates {
    fn measure(&mut self, case: Case, arguments: &Arguments) {
        let enough = case.enough(arguments.quick);
        let folder = || fresh_folder(&arguments.dir);
        let plain = || case.plain(folder().path(), enough);
        let engine = || case.engine(folder().path(), enough);
        // Neither side always profits from what the other has left in the caches.
        let (plain, engine) = if self.plain.len().is_multiple_of(2) {
            let plain = plain();
            (plain, engine())
        } else {
            let engine = engine();
            (plain(), engine)
        };
        self.plain.push(plain);
        self.engine.push(engine);
    }

    fn ratios(&self) -> Vec<f64> {
        self.engine.iter().zip(&self.plain).map(|(engine, plain)| engine / plain).collect()
    }
}

fn report(arguments: &Arguments, measured: &[(Case, Rates)]) {
    let mut table = Table::new(&["", "grouplog/s", "MB/s", "plain/s", "MB/s", "ratio", "of runs"]);
    let mut sections: Vec<Section> = Vec::new();
    for (case, rates) in measured {
        let title = case.section();
        if sections.last().is_none_or(|section| section.title != title) {
            table.section(&title);
            sections.push(Section { title, bars: Vec::new() });
        }
        let (engine, plain) = (median(&rates.engine), median(&rates.plain));
        let ratios = rates.ratios();
        let ratio = median(&ratios);
        let least = ratios.iter().copied().fold(f64::MAX, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let megabytes = |rate: f64| digits(rate * case.size as f64 / 1e6);
        table.row([
            case.label(),
            rate(engine),
            megabytes(engine),
            rate(plain),
            megabytes(plain),
            digits(ratio),
            format!("{} to {}", digits(least), digits(most)),
        ]);
        sections.last_mut().unwrap().bars.push(Bar {
            label: case.label(),
            value: ratio,
            text: format!("{} ({}/s : {}/s)", digits(ratio), rate(engine), rate(plain)),
            tone: if ratio < 1.0 { Tone::Slower } else { Tone::Engine },
        });
    }
    let chart = Bars {
        title: "Sending to a fresh folder: records per second as a multiple of plain writes",
        subtitle: "Right of 1: faster than one write (synced: and fdatasync) for each call. \
                   The figures are the ratio, and grouplog : plain.",
        step: 2.0,
        from_one: true,
        tick: |value| if value < 1.0 { format!("1/{}", 1.0 / value) } else { value.to_string() },
        sections,
    };
    let notes = "Records per second to a folder that was just created, with default settings. \
                 Plain: one `write` of the same bytes for each call, and for `synced` one \
                 `fdatasync`; a file for each partition. Medians; the last column has the lowest \
                 and the highest ratio of the runs.";
    Report {
        name: "fresh",
        title: "Sending to a fresh folder",
        notes,
        table: &table,
        svg: &chart.svg(),
    }
    .publish(arguments);
}

fn main() {
    let Some(arguments) = Arguments::read(Vec::new()) else {
        return;
    };
    // A quick run makes calls of every kind, but not of every size.
    let every = if arguments.quick { 3 } else { 1 };
    let cases = Case::all().into_iter().step_by(every);
    let cases = cases.filter(|case| arguments.selects(&case.name()));
    let mut measured: Vec<_> = cases.map(|case| (case, Rates::default())).collect();
    warm_up(&arguments.dir, if arguments.quick { 1 << 20 } else { 256 << 20 });
    let progress = ProgressBar::new((measured.len() * arguments.runs) as u64);
    for _ in 0..arguments.runs {
        for (case, rates) in &mut measured {
            rates.measure(*case, &arguments);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    report(&arguments, &measured);
}
