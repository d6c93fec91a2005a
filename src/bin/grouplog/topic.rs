use std::path::Path;

use grouplog::{
    ConsumerConfig, IsolationLevel, PartitionCompaction, PartitionRetention, TopicConfig,
    TopicDescription,
};
use serde_json::{Value, json};

use crate::args::Topic;
use crate::failure::Failure;
use crate::folder::{open_read_only, with_new_writer, with_writer};
use crate::output::{Output, Table, count, or_dash};

pub(crate) fn run(data: &Path, command: &Topic, out: &mut Output) -> Result<(), Failure> {
    match command {
        Topic::Create { name, partitions, keep, compact, config, if_not_exists } => {
            let config = config_of(*partitions, keep.as_deref(), *compact, config)?;
            create(data, name, config, *if_not_exists, out)
        }
        Topic::List => list(data, out),
        Topic::Describe { name, stable } => describe(data, name, *stable, out),
        Topic::Alter { name, config, partitions } => alter(data, name, config, *partitions, out),
        Topic::Delete { name } => delete(data, name, out),
    }
}

/// The settings of a new topic. Called before the folder is created, so a wrong key leaves nothing behind.
fn config_of(
    partitions: u32,
    keep: Option<&str>,
    compact: bool,
    entries: &[(String, String)],
) -> Result<TopicConfig, Failure> {
    let mut config = TopicConfig::new().partitions(partitions);
    if let Some(time) = keep {
        config = config.set("retention.ms", time)?;
    }
    if compact {
        let policy = if keep.is_some() { "compact,delete" } else { "compact" };
        config = config.set("cleanup.policy", policy)?;
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

fn describe(data: &Path, name: &str, stable: bool, out: &mut Output) -> Result<(), Failure> {
    let broker = open_read_only(data)?;
    let mut topic = broker.describe_topic(name)?;
    if stable {
        let committed = ConsumerConfig::new().isolation_level(IsolationLevel::ReadCommitted);
        let partitions = topic.partitions.iter().map(|partition| &partition.partition);
        broker.consumer_with(committed)?.end_offsets(partitions)?;
        // The broker knows them now.
        topic = broker.describe_topic(name)?;
    }
    if out.json {
        return out.object(&json_topic(&topic));
    }
    out.text(&format!("topic {}, id {}\n", topic.name, topic.id))?;
    let defaults = TopicConfig::new().entries();
    for (key, value) in &topic.config {
        let source = if defaults.contains(&(*key, value.clone())) { " (default)" } else { "" };
        out.text(&format!("  {key}={value}{source}\n"))?;
    }
    partitions(&topic, stable).print(out)?;
    for partition in &topic.partitions {
        if let Some(state) = &partition.retention {
            out.text(&text_retention(partition.partition.partition(), state))?;
        }
    }
    let compacted = topic.partitions.iter().filter_map(|partition| {
        Some((partition.partition.partition(), partition.compaction.as_ref()?))
    });
    for (number, state) in compacted {
        let percent = (state.dirty_ratio() * 100.0).round();
        let waits = state.waits_for.as_ref().map_or_else(
            || "compaction is due".to_owned(),
            |reason| format!("compaction waits: {reason}"),
        );
        let PartitionCompaction { first_dirty_offset, clean_bytes, dirty_bytes, .. } = state;
        out.text(&format!(
            "partition {number}: {percent} % dirty ({dirty_bytes} of {} bytes, from offset \
             {first_dirty_offset}); {waits}\n",
            clean_bytes + dirty_bytes,
        ))?;
    }
    Ok(())
}

fn partitions(topic: &TopicDescription, stable: bool) -> Table {
    let mut heading = vec!["partition", "start", "end", "epoch", "bytes", "segments"];
    if stable {
        heading.insert(3, "stable");
    }
    let mut table = Table::new(&heading);
    for partition in &topic.partitions {
        let mut row = vec![
            partition.partition.partition().to_string(),
            partition.start_offset.to_string(),
            partition.end_offset.to_string(),
            or_dash(partition.leader_epoch),
            partition.bytes.to_string(),
            partition.segments.to_string(),
        ];
        if stable {
            row.insert(3, or_dash(partition.last_stable_offset));
        }
        table.row(row);
    }
    table
}

fn text_retention(partition: u32, state: &PartitionRetention) -> String {
    let due = match state.due_segments {
        0 => String::new(),
        segments => format!("{segments} segments of {} bytes are due; ", state.due_bytes),
    };
    let active = if state.is_active { "the active segment" } else { "segment" };
    let kept = match state.segment {
        Some(segment) => format!("{active} {segment} stays"),
        None => "nothing else is in segments".to_owned(),
    };
    let reasons: Vec<_> = state.waits_for.iter().map(ToString::to_string).collect();
    let colon = if reasons.is_empty() { "" } else { ": " };
    format!("partition {partition}: retention: {due}{kept}{colon}{}\n", reasons.join("; "))
}

fn json_retention(state: &PartitionRetention) -> Value {
    json!({
        "due_segments": state.due_segments,
        "due_bytes": state.due_bytes,
        "segment": state.segment,
        "is_active": state.is_active,
        "waits_for": state.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn json_compaction(state: &PartitionCompaction) -> Value {
    json!({
        "first_dirty_offset": state.first_dirty_offset,
        "clean_bytes": state.clean_bytes,
        "dirty_bytes": state.dirty_bytes,
        "dirty_ratio": state.dirty_ratio(),
        "waits_for": state.waits_for.as_ref().map(ToString::to_string),
    })
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
                "last_stable_offset": partition.last_stable_offset,
                "leader_epoch": partition.leader_epoch,
                "bytes": partition.bytes,
                "segments": partition.segments,
                "retention": partition.retention.as_ref().map(json_retention),
                "compaction": partition.compaction.as_ref().map(json_compaction),
            })
        })
        .collect();
    let defaults = TopicConfig::new().entries();
    let is_set = |entry: &&(&'static str, String)| !defaults.contains(entry);
    let set: Vec<_> = topic.config.iter().filter(is_set).map(|(key, _)| *key).collect();
    json!({
        "topic": topic.name,
        "id": topic.id.to_string(),
        "config": config,
        "not_default": set,
        "partitions": partitions,
    })
}
