use std::ops::RangeInclusive;
use std::path::Path;

use grouplog::{Admin, SharePartitionSummary, TopicPartition};
use serde_json::{Value, json};

use crate::args::{Share, ShareRecords};
use crate::failure::Failure;
use crate::folder::{open_read_only, with_writer};
use crate::output::{Output, Table};
use crate::redrive;
use crate::scope::scope;

pub(crate) fn run(data: &Path, command: &Share, out: &mut Output) -> Result<(), Failure> {
    match command {
        Share::List => list(data, out),
        Share::Describe { name } => describe(data, name, out),
        Share::Reset { name, topic, partition, to } => {
            let scope = scope(topic.as_deref(), partition);
            let moved = with_writer(data, |broker| {
                Ok(broker.admin().reset_share_group(name, &scope, *to)?)
            })?;
            for offset in moved {
                let (partition, target) = (offset.partition.to_string(), offset.target);
                if out.json {
                    let before = offset.committed;
                    let value = json!({ "partition": partition, "start": before, "new": target });
                    out.object(&value)?;
                } else {
                    out.text(&format!("{partition} begins at {target}\n"))?;
                }
            }
            Ok(())
        }
        Share::Delete { name } => {
            with_writer(data, |broker| Ok(broker.admin().delete_share_group(name)?))?;
            said(out, "deleted", name)
        }
        Share::Pause { name } => pause(data, name, true, out),
        Share::Resume { name } => pause(data, name, false, out),
        Share::Finish(records) => {
            by_hand(data, records, ("finished", Admin::finish_share_records), out)
        }
        Share::Reject(records) => {
            by_hand(data, records, ("rejected", Admin::reject_share_records), out)
        }
        Share::Release(records) => {
            by_hand(data, records, ("released", Admin::release_share_records), out)
        }
        Share::Redrive { name, max, dry_run } => redrive::run(data, name, *max, *dry_run, out),
    }
}

fn said(out: &mut Output, what: &str, name: &str) -> Result<(), Failure> {
    if out.json {
        return out.object(&json!({ what: name }));
    }
    out.text(&format!("{what} share group {name}\n"))
}

fn pause(data: &Path, name: &str, paused: bool, out: &mut Output) -> Result<(), Failure> {
    with_writer(data, |broker| Ok(broker.admin().pause_share_group(name, paused)?))?;
    said(out, if paused { "paused" } else { "resumed" }, name)
}

/// A method of [`Admin`] that ends records by hand.
type ByHand = fn(&Admin, &str, &TopicPartition, RangeInclusive<i64>) -> grouplog::Result<()>;

fn by_hand(
    data: &Path,
    records: &ShareRecords,
    (what, end): (&str, ByHand),
    out: &mut Output,
) -> Result<(), Failure> {
    let partition = TopicPartition::new(records.topic.as_str(), records.partition);
    let last = records.last.unwrap_or(records.first);
    let (name, offsets) = (records.name.as_str(), records.first..=last);
    with_writer(data, |broker| Ok(end(&broker.admin(), name, &partition, offsets)?))?;
    if out.json {
        let partition = partition.to_string();
        return out.object(&json!({ what: [records.first, last], "partition": partition }));
    }
    out.text(&format!("{what} records {} to {last} of {partition}\n", records.first))
}

fn list(data: &Path, out: &mut Output) -> Result<(), Failure> {
    let broker = open_read_only(data)?;
    let mut table = Table::new(&["group", "partitions", "lag", "under way", "delayed", "paused"]);
    for name in broker.list_share_groups() {
        let group = broker.describe_share_group(&name)?;
        let sum = |of: fn(&SharePartitionSummary) -> u64| -> u64 {
            group.partitions.iter().map(of).sum()
        };
        let (under_way, delayed) = (sum(|row| row.under_way), sum(|row| row.delayed));
        if out.json {
            out.object(&json!({
                "group": name,
                "partitions": group.partitions.len(),
                "lag": group.lag(),
                "under_way": under_way,
                "delayed": delayed,
                "paused": group.paused,
            }))?;
        } else {
            table.row([
                name,
                group.partitions.len().to_string(),
                group.lag().to_string(),
                under_way.to_string(),
                delayed.to_string(),
                if group.paused { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    if out.json { Ok(()) } else { table.print(out) }
}

fn describe(data: &Path, name: &str, out: &mut Output) -> Result<(), Failure> {
    let group = open_read_only(data)?.describe_share_group(name)?;
    if out.json {
        let config: serde_json::Map<String, Value> =
            group.config.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let partitions: Vec<Value> = group.partitions.iter().map(json_partition).collect();
        return out.object(&json!({
            "group": group.name,
            "paused": group.paused,
            "lag": group.lag(),
            "config": config,
            "partitions": partitions,
        }));
    }
    for (key, value) in &group.config {
        out.text(&format!("{key}={value}\n"))?;
    }
    if group.paused {
        out.text("paused\n")?;
    }
    let mut table =
        Table::new(&["partition", "start", "end", "lag", "not started", "under way", "delayed"]);
    for row in &group.partitions {
        table.row([
            row.partition.to_string(),
            row.start_offset.to_string(),
            row.end_offset.to_string(),
            row.lag.to_string(),
            row.not_started.to_string(),
            row.under_way.to_string(),
            row.delayed.to_string(),
        ]);
    }
    table.print(out)?;
    for row in &group.partitions {
        if let Some(offset) = row.window_full {
            out.text(&format!(
                "{} waits for record {offset}: the window is full (share.partition.max.record.locks)\n",
                row.partition
            ))?;
        }
    }
    // Who has a record, and until when, only the process knows that hands it out.
    let mut held = Table::new(&["partition", "under way", "delivery"]);
    let mut any = false;
    for row in &group.partitions {
        for record in &row.records {
            any = true;
            held.row([
                row.partition.to_string(),
                format!("{} to {}", record.first_offset, record.last_offset),
                record.delivery_count.to_string(),
            ]);
        }
    }
    if any { held.print(out) } else { Ok(()) }
}

fn json_partition(row: &SharePartitionSummary) -> Value {
    let records: Vec<Value> = row
        .records
        .iter()
        .map(|record| {
            json!({
                "first_offset": record.first_offset,
                "last_offset": record.last_offset,
                "delivery_count": record.delivery_count,
            })
        })
        .collect();
    json!({
        "topic": row.partition.topic(),
        "partition": row.partition.partition(),
        "start_offset": row.start_offset,
        "end_offset": row.end_offset,
        "lag": row.lag,
        "not_started": row.not_started,
        "under_way": row.under_way,
        "delayed": row.delayed,
        "window_full": row.window_full,
        "records": records,
    })
}
