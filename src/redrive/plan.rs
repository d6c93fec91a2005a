use super::folder::{Folder, keeper, topic_of_letters};
use super::letter::{Verdict, judge};
use super::report::{Redriven, SkippedLetter};
use crate::engine::copy_records;
use crate::error::{Error, Result};

/// How many bytes of letters are read at a time.
const READ_BYTES: usize = 4 << 20;

/// Returns what a redrive would do. Changes nothing.
pub(crate) fn plan(folder: &impl Folder, group: &str, max: u64) -> Result<Redriven> {
    let mut report = Redriven::default();
    let name = topic_of_letters(folder, group)?;
    // Without a letter there is no topic yet.
    let Ok(topic) = folder.registry().topic(&name) else { return Ok(report) };
    for log in &topic.logs {
        let partition = log.partition();
        let progress = folder.progress(&keeper(group), &name, partition.partition())?;
        let mut at = log.start_offset().max(progress.start());
        while report.records() < max {
            let (letters, next) = match copy_records(log, at, i64::MAX, READ_BYTES) {
                // Retention was faster.
                Err(Error::OffsetOutOfRange { start, .. }) if start > at => {
                    at = start;
                    continue;
                }
                read => read?,
            };
            for letter in letters {
                let offset = letter.offset;
                if report.records() >= max || !progress.is_unfinished(offset) {
                    continue;
                }
                match judge(folder, group, letter)? {
                    Verdict::Foreign => {}
                    Verdict::Send(original) => report.add_sent(&original.partition),
                    Verdict::Skip(source, reason) => {
                        let partition = partition.clone();
                        report.add_skipped(SkippedLetter { partition, offset, source, reason });
                    }
                }
            }
            if next <= at {
                break;
            }
            at = next;
        }
    }
    Ok(report)
}
