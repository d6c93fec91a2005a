use std::path::Path;

use grouplog::{Broker, CompactionTotals, Deleted, Retained};
use serde_json::json;

use crate::failure::Failure;
use crate::folder::with_writer;
use crate::output::{Output, Table, or_dash};

/// How often to try to delete what is due.
const ATTEMPTS: u32 = 100;

/// What was deleted from one topic, and what it holds now.
struct Cleaned {
    topic: String,
    deleted: Vec<Retained>,
    /// What compaction did, if the topic is compacted.
    compacted: Option<CompactionTotals>,
    bytes: u64,
}

pub(crate) fn run(data: &Path, topic: Option<&str>, out: &mut Output) -> Result<(), Failure> {
    let cleaned = with_writer(data, |broker| {
        let admin = broker.admin();
        let deletes = || match topic {
            Some(topic) => admin.run_retention_of(topic),
            None => admin.run_retention(),
        };
        // Nothing can be deleted before the checkpoint that ends recovery, or while a thread of the engine writes
        // the partition out. A checkpoint waits for both.
        let mut attempts = 0;
        while deletes()?.postponed > 0 {
            attempts += 1;
            if attempts == ATTEMPTS {
                let what = "some partitions are busy, their records remain; run the command again";
                return Err(Failure::Other(what.to_owned()));
            }
            broker.checkpoint()?;
        }
        let topics = topic.map_or_else(|| broker.list_topics(), |topic| vec![topic.to_owned()]);
        topics.into_iter().map(|topic| clean(broker, topic)).collect::<Result<Vec<_>, _>>()
    })?;
    let mut table = Table::new(&["topic", "segments", "bytes", "compacted", "remaining"]);
    for Cleaned { topic, deleted, compacted, bytes } in cleaned {
        let total = |of: fn(&Retained) -> Deleted| {
            deleted.iter().map(of).fold((0, 0), |(segments, bytes), deleted| {
                (segments + deleted.segments, bytes + deleted.bytes)
            })
        };
        let (segments, freed) = total(Retained::total);
        if out.json {
            let reason = |of: fn(&Retained) -> Deleted| {
                let (segments, bytes) = total(of);
                json!({ "segments": segments, "bytes": bytes })
            };
            out.object(&json!({
                "topic": topic,
                "deleted": {
                    "time": reason(|deleted| deleted.time),
                    "bytes": reason(|deleted| deleted.bytes),
                    "consumed": reason(|deleted| deleted.consumed),
                    "budget": reason(|deleted| deleted.budget),
                    "log_start": reason(|deleted| deleted.log_start),
                },
                "compacted": compacted.map(|done| json!({
                    "records": done.records_in - done.records_out,
                    "bytes": done.bytes_in.saturating_sub(done.bytes_out),
                })),
                "remaining_bytes": bytes,
            }))?;
        } else {
            let compacted = compacted.map(|done| done.bytes_in.saturating_sub(done.bytes_out));
            table.row([
                topic,
                segments.to_string(),
                freed.to_string(),
                or_dash(compacted),
                bytes.to_string(),
            ]);
        }
    }
    if out.json { Ok(()) } else { table.print(out) }
}

/// Compacts a topic, unless its policy does not, and says what went.
fn clean(broker: &Broker, topic: String) -> Result<Cleaned, Failure> {
    let described = broker.describe_topic(&topic)?;
    let is_compacted = described.partitions.iter().any(|partition| partition.compaction.is_some());
    let compacted = is_compacted.then(|| broker.admin().compact(&topic)).transpose()?;
    let deleted = described.partitions.iter().map(|partition| partition.deleted).collect();
    let left = broker.describe_topic(&topic)?.partitions;
    let bytes = left.iter().map(|partition| partition.bytes).sum();
    Ok(Cleaned { topic, deleted, compacted, bytes })
}
