use std::path::Path;

use grouplog::{GroupSummary, Timestamp};
use serde_json::{Value, json};

use crate::args::Group;
use crate::failure::Failure;
use crate::folder::{open_read_only, with_writer};
use crate::output::{Output, Table, or_dash};
use crate::reset;
use crate::scope::scope;

pub(crate) fn run(data: &Path, command: &Group, out: &mut Output) -> Result<(), Failure> {
    match command {
        Group::List => list(data, out),
        Group::Describe { name } => describe(data, name, out),
        Group::Reset(command) => reset::run(data, command, out),
        Group::Delete { name, topic, partition } => {
            delete(data, name, topic.as_deref(), partition, out)
        }
    }
}

fn list(data: &Path, out: &mut Output) -> Result<(), Failure> {
    let broker = open_read_only(data)?;
    let mut table = Table::new(&["group", "partitions", "lag"]);
    for name in broker.list_groups() {
        let group = broker.describe_group(&name)?;
        let (lag, count) = (group.lag(), group.offsets.len());
        if out.json {
            out.object(&json!({ "group": name, "partitions": count, "lag": lag }))?;
        } else {
            table.row([name, count.to_string(), lag.to_string()]);
        }
    }
    if out.json { Ok(()) } else { table.print(out) }
}

fn describe(data: &Path, name: &str, out: &mut Output) -> Result<(), Failure> {
    let group = open_read_only(data)?.describe_group(name)?;
    if out.json {
        return out.object(&json_group(&group));
    }
    let mut titles = vec!["partition", "committed", "end", "lag", "seconds", "metadata"];
    let owned = group.offsets.iter().any(|offset| offset.transactional_id.is_some());
    if owned {
        titles.extend(["owner", "epoch"]);
    }
    let mut table = Table::new(&titles);
    for offset in &group.offsets {
        let mut row = vec![
            offset.partition.to_string(),
            or_dash(offset.committed),
            offset.end_offset.to_string(),
            offset.lag.to_string(),
            or_dash(offset.time_lag.map(|lag| lag.as_secs())),
            offset.metadata.escape_debug().to_string(),
        ];
        if owned {
            row.push(or_dash(offset.transactional_id.as_ref().map(|id| id.escape_debug())));
            row.push(or_dash(offset.producer_epoch));
        }
        table.row(row);
    }
    table.print(out)
}

fn delete(
    data: &Path,
    name: &str,
    topic: Option<&str>,
    partitions: &[u32],
    out: &mut Output,
) -> Result<(), Failure> {
    with_writer(data, |broker| {
        let admin = broker.admin();
        match topic {
            None => admin.delete_group(name)?,
            Some(_) => admin.delete_offsets(name, &scope(topic, partitions))?,
        }
        Ok(())
    })?;
    if out.json {
        let value = json!({ "deleted": name, "topic": topic, "partitions": partitions });
        return out.object(&value);
    }
    out.text(&match topic {
        None => format!("deleted group {name}\n"),
        Some(topic) => format!("deleted offsets of group {name} in topic {topic}\n"),
    })
}

fn json_group(group: &GroupSummary) -> Value {
    let offsets: Vec<Value> = group
        .offsets
        .iter()
        .map(|offset| {
            json!({
                "topic": offset.partition.topic(),
                "partition": offset.partition.partition(),
                "committed": offset.committed,
                "end_offset": offset.end_offset,
                "lag": offset.lag,
                "lag_ms": offset.time_lag.map(|lag| lag.as_millis() as u64),
                "leader_epoch": offset.leader_epoch,
                "metadata": offset.metadata,
                "transactional_id": offset.transactional_id,
                "producer_epoch": offset.producer_epoch,
                "committed_at": offset.commit_timestamp.map(Timestamp::as_millis),
            })
        })
        .collect();
    json!({ "group": group.name, "lag": group.lag(), "offsets": offsets })
}
