//! Cost of a rebalance: a member leaves its group, the assignor computes the new target, and the
//! group publishes it to all other members. Dropping a consumer takes this time. The members then
//! move their partitions in their own polls.
//!
//! Groups grow in partitions and in members, so the table shows how the cost grows. The cost per
//! partition should stay about the same.
//!
//! ```text
//! cargo bench --bench rebalance
//! ```

#![allow(clippy::disallowed_methods, reason = "the clock it measures by")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use grouplog::{AssignmentStrategy, Broker, Consumer, ConsumerConfig, TopicConfig};

/// Members and partitions, of one topic.
const SIZES: [(usize, u32); 7] = [
    (100, 1_000),
    (100, 3_000),
    (100, 10_000),
    (100, 30_000),
    (10, 10_000),
    (1_000, 1_000),
    (1_000, 10_000),
];

/// A settled group.
struct Group {
    broker: Broker,
    config: ConsumerConfig,
    members: Vec<Consumer>,
}

impl Group {
    fn new(strategy: AssignmentStrategy, members: usize, partitions: u32) -> Self {
        let broker = Broker::open_in_memory().unwrap();
        broker.create_topic("t", TopicConfig::new().partitions(partitions)).unwrap();
        let config = ConsumerConfig::new()
            .group("g")
            .enable_auto_commit(false)
            .assignment_strategies([strategy]);
        let mut group = Self { broker, config, members: Vec::new() };
        while group.members.len() < members {
            group.join();
        }
        group.settle();
        group
    }

    fn join(&mut self) {
        let mut member = self.broker.consumer_with(self.config.clone()).unwrap();
        member.subscribe(["t"]).unwrap();
        self.members.push(member);
    }

    /// One round to give up, one to take, and another one if a target had to wait for that.
    fn settle(&mut self) {
        while self.broker.describe_group("g").unwrap().state != "Stable" {
            for member in &mut self.members {
                member.poll(Duration::ZERO).unwrap();
            }
        }
    }

    /// Removes a member and returns how long that took. Then another one joins, and the group
    /// settles.
    fn replace_one(&mut self) -> Duration {
        let leaver = self.members.remove(self.members.len() / 2);
        let begin = Instant::now();
        drop(leaver);
        let elapsed = begin.elapsed();
        self.join();
        self.settle();
        elapsed
    }
}

fn rebalance(c: &mut Criterion) {
    let mut table = Vec::new();
    for strategy in
        [AssignmentStrategy::Sticky, AssignmentStrategy::Uniform, AssignmentStrategy::Range]
    {
        let mut benches = common::group(c, &format!("rebalance_{strategy}"), 0.5);
        for (members, partitions) in SIZES {
            let mut group = None;
            let mut times = Vec::new();
            let name = format!("{members}_members_{partitions}_partitions");
            benches.bench_function(name, |bencher| {
                let group =
                    group.get_or_insert_with(|| Group::new(strategy.clone(), members, partitions));
                bencher.iter_custom(|iterations| {
                    let runs = (0..iterations).map(|_| group.replace_one());
                    let runs: Vec<Duration> = runs.collect();
                    times.extend(&runs);
                    runs.iter().sum()
                });
            });
            if !times.is_empty() {
                times.sort_unstable();
                table.push((strategy.clone(), members, partitions, times));
            }
        }
    }
    print(&table);
}

fn print(table: &[(AssignmentStrategy, usize, u32, Vec<Duration>)]) {
    if table.is_empty() {
        return; // Filtered out, or only listed.
    }
    println!("\nOne member leaves: the new assignment is computed and published");
    println!("| assignor | members | partitions | median | slowest | per partition |");
    println!("|---|---|---|---|---|---|");
    for (strategy, members, partitions, times) in table {
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        let each = median / *partitions;
        println!(
            "| {strategy} | {members} | {partitions} | {median:.2?} | {slowest:.2?} | {each:.0?} |"
        );
    }
}

criterion_group!(benches, rebalance);
criterion_main!(benches);
