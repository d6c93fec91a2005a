//! Sends dead letters back to where they came from.

use std::path::Path;

use grouplog::SkippedLetter;
use serde_json::json;

use crate::failure::Failure;
use crate::folder::{open_read_only, with_writer};
use crate::output::{Output, count};

pub(crate) fn run(
    data: &Path,
    name: &str,
    max: Option<u64>,
    dry_run: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let max = max.unwrap_or(u64::MAX);
    let redriven = if dry_run {
        open_read_only(data)?.plan_redrive(name, max)?
    } else {
        with_writer(data, |broker| Ok(broker.admin().redrive(name, max)?))?
    };
    let listed = &redriven.first_skipped;
    let more = redriven.skipped - listed.len() as u64;
    if out.json {
        for (partition, records) in &redriven.sent {
            out.object(&json!({
                "group": name,
                "topic": partition.topic(),
                "partition": partition.partition(),
                "records": records,
                "dry_run": dry_run,
            }))?;
        }
        return listed.iter().try_for_each(|letter| print_skipped(name, letter, dry_run, out));
    }
    for (partition, records) in &redriven.sent {
        let records = count(*records, "record goes", "records go");
        out.text(&format!("{records} back to {partition}\n"))?;
    }
    for letter in listed {
        out.text(&format!("skipped {letter}\n"))?;
    }
    if more > 0 {
        out.text(&format!("skipped {}\n", count(more, "more letter", "more letters")))?;
    }
    if redriven.records() == 0 && redriven.skipped == 0 {
        out.text("no dead letter is left to send back\n")?;
    }
    if dry_run { out.text("nothing was changed: --dry-run\n") } else { Ok(()) }
}

fn print_skipped(
    name: &str,
    letter: &SkippedLetter,
    dry_run: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let (source, offset) = letter.source.clone().unzip();
    out.object(&json!({
        "group": name,
        "skipped": letter.reason.to_string(),
        "letter_partition": letter.partition.to_string(),
        "letter_offset": letter.offset,
        "source_partition": source.map(|source| source.to_string()),
        "source_offset": offset,
        "dry_run": dry_run,
    }))
}
