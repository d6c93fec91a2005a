use std::path::Path;

use grouplog::{TopicConfig, TopicDescription};
use serde_json::{Value, json};

use crate::args::Topic;
use crate::failure::Failure;
use crate::folder::{open_read_only, with_new_writer, with_writer};
use crate::output::{Output, Table, count, or_dash};

pub(crate) fn run(data: &Path, command: &Topic, out: &mut Output) -> Result<(), Failure> {
    match command {
        Topic::Create { name, partitions, keep, config, if_not_exists } => {
            let config = config_of(*partitions, keep.as_deref(), config)?;
            create(data, name, config, *if_not_exists, out)
        }
        Topic::List => list(data, out),
        Topic::Describe { name } => describe(data, name, out),
        Topic::Alter { name, config, partitions } => alter(data, name, config, *partitions, out),
        Topic::Delete { name } => delete(data, name, out),
    }
}

/// The settings of a new topic. Called before the folder is created, so a wrong key leaves nothing behind.
fn config_of(
    partitions: u32,
    keep: Option<&str>,
    entries: &[(String, String)],
) -> Result<TopicConfig, Failure> {
    let mut config = TopicConfig::new().partitions(partitions);
    if let Some(time) = keep {
        config = config.set("retention.ms", time)?;
    }
    for (key, value) in entries {
        config = config.set(key, value)?;
    }
    Ok(config)
}

fn create(
    data: &Path,
    name: &str,
    config: TopicConfig,
    if_not_exists: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let (created, topic) = with_new_writer(data, |broker| {
        let created = if if_not_exists {
            broker.ensure_topic(name, config)?
        } else {
            broker.create_topic(name, config)?;
            true
        };
        Ok((created, broker.describe_topic(name)?))
    })?;
    let partitions = topic.partitions.len();
    if out.json {
        let what = if created { "created" } else { "exists" };
        return out
            .object(&json!({ what: name, "id": topic.id.to_string(), "partitions": partitions }));
    }
    let partitions = count(partitions as u64, "partition", "partitions");
    out.text(&if created {
        format!("created topic {name} with {partitions}\n")
    } else {
        format!("topic {name} exists already, with {partitions}; nothing was changed\n")
    })
}

fn alter(
    data: &Path,
    name: &str,
    entries: &[(String, String)],
    partitions: Option<u32>,
    out: &mut Output,
) -> Result<(), Failure> {
    let topic = with_writer(data, |broker| {
        let admin = broker.admin();
        match partitions {
            Some(total) => admin.add_partitions(name, total)?,
            None => admin.alter_topic(name, entries.iter().map(|(key, value)| (key, value)))?,
        }
        Ok(admin.describe_topic(name)?)
    })?;
    if out.json {
        return out.object(&json_topic(&topic));
    }
    out.text(&format!("altered topic {name}\n"))
}

fn delete(data: &Path, name: &str, out: &mut Output) -> Result<(), Failure> {
    with_writer(data, |broker| Ok(broker.delete_topic(name)?))?;
    if out.json {
        return out.object(&json!({ "deleted": name }));
    }
    out.text(&format!("deleted topic {name}\n"))
}

fn list(data: &Path, out: &mut Output) -> Result<(), Failure> {
    let broker = open_read_only(data)?;
    let mut table = Table::new(&["topic", "partitions", "records", "bytes"]);
    for name in broker.list_topics() {
        let topic = broker.describe_topic(&name)?;
        let (records, bytes) = totals(&topic);
        let count = topic.partitions.len();
        if out.json {
            out.object(
                &json!({ "topic": name, "partitions": count, "records": records, "bytes": bytes }),
            )?;
        } else {
            table.row([name, count.to_string(), records.to_string(), bytes.to_string()]);
        }
    }
    if out.json { Ok(()) } else { table.print(out) }
}

/// Returns the number of offsets and of bytes that the partitions hold.
fn totals(topic: &TopicDescription) -> (i64, u64) {
    topic.partitions.iter().fold((0, 0), |(records, bytes), partition| {
        (records + (partition.end_offset - partition.start_offset), bytes + partition.bytes)
    })
}

fn describe(data: &Path, name: &str, out: &mut Output) -> Result<(), Failure> {
    let topic = open_read_only(data)?.describe_topic(name)?;
    if out.json {
        return out.object(&json_topic(&topic));
    }
    out.text(&format!("topic {}, id {}\n", topic.name, topic.id))?;
    for (key, value) in &topic.config {
        out.text(&format!("  {key}={value}\n"))?;
    }
    let heading = ["partition", "start", "end", "epoch", "bytes", "segments"];
    let mut table = Table::new(&heading);
    for partition in &topic.partitions {
        table.row([
            partition.partition.partition().to_string(),
            partition.start_offset.to_string(),
            partition.end_offset.to_string(),
            or_dash(partition.leader_epoch),
            partition.bytes.to_string(),
            partition.segments.to_string(),
        ]);
    }
    table.print(out)
}

fn json_topic(topic: &TopicDescription) -> Value {
    let config: serde_json::Map<_, _> = topic
        .config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_str().into()))
        .collect();
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition.partition(),
                "start_offset": partition.start_offset,
                "end_offset": partition.end_offset,
                "leader_epoch": partition.leader_epoch,
                "bytes": partition.bytes,
                "segments": partition.segments,
            })
        })
        .collect();
    json!({
        "topic": topic.name,
        "id": topic.id.to_string(),
        "config": config,
        "partitions": partitions,
    })
}
