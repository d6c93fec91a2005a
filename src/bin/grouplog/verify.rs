use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use grouplog::{Finding, FindingKind, VerifyReport};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::Verify;
use crate::failure::Failure;
use crate::folder::check_folder;
use crate::output::{Output, count};

pub(crate) fn run(data: &Path, command: &Verify, out: &mut Output) -> Result<(), Failure> {
    check_folder(data)?;
    let report = verify(data, command)?;
    match print(&report, out).and_then(|()| out.flush().map_err(Failure::Output)) {
        // The reader of stdout has seen enough, but the exit code still counts.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    if !command.repair {
        return conclude(&report);
    }
    let repairable: Vec<_> =
        report.findings.iter().filter(|finding| finding.kind.is_repairable()).collect();
    if !repairable.is_empty() || report.torn_bytes > 0 {
        announce(&repairable)?;
        if !command.yes && !agreed()? {
            return Err(Failure::Other("nothing was changed".to_owned()));
        }
        for line in grouplog::Verify::repair(data, &report.findings)? {
            say(&line)?;
        }
    }
    // The exit code tells what the repair has left.
    let after = verify(data, command)?;
    conclude(&after)
}

/// Checks the folder. Shows a progress bar on a terminal.
fn verify(data: &Path, command: &Verify) -> Result<VerifyReport, Failure> {
    let mut verify = grouplog::Verify::new();
    if let Some(threads) = command.threads {
        verify = verify.threads(threads.into());
    }
    if !io::stderr().is_terminal() {
        return Ok(verify.run(data)?);
    }
    let bar = ProgressBar::new(0);
    let template = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    let shown = bar.clone();
    let report = verify
        .on_progress(move |done, total| {
            shown.set_length(total);
            shown.set_position(done);
        })
        .run(data);
    bar.finish_and_clear();
    Ok(report?)
}

/// Prints one line per finding, and the counts last. With `--json` the counts are an object of their own.
fn print(report: &VerifyReport, out: &mut Output) -> Result<(), Failure> {
    for finding in &report.findings {
        if out.json {
            let offsets = match &finding.cause {
                grouplog::Error::Corrupt(corruption) => corruption.offsets,
                grouplog::Error::MissingSegment { offsets, .. } => Some(*offsets),
                _ => None,
            };
            out.object(&json!({
                "kind": finding.kind.name(),
                "path": finding.path.display().to_string(),
                "what": finding.to_string(),
                "offsets": offsets.map(|(first, last)| [first, last]),
                "repairable": finding.kind.is_repairable(),
            }))?;
        } else {
            let line: String =
                finding.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            out.text(&format!("{line}\n"))?;
        }
    }
    if out.json {
        return out.object(&json!({
            "findings": report.findings.len(),
            "partitions": report.partitions,
            "segments": report.segments,
            "batches": report.batches,
            "records": report.records,
            "bytes": report.bytes,
            "journal_frames": report.frames,
            "torn_bytes": report.torn_bytes,
            "groups": report.groups,
            "milliseconds": report.duration.as_millis() as u64,
        }));
    }
    let seconds = report.duration.as_secs_f64().max(0.001);
    out.text(&format!(
        "checked {}, {}, {}, {}, {} ({:.2} GB/s), {}, {}: {}\n",
        count(report.partitions, "partition", "partitions"),
        count(report.segments, "segment", "segments"),
        count(report.batches, "batch", "batches"),
        count(report.records, "record", "records"),
        count(report.bytes, "byte", "bytes"),
        report.bytes as f64 / seconds / 1e9,
        count(report.frames, "journal frame", "journal frames"),
        count(report.groups, "group", "groups"),
        count(report.findings.len() as u64, "finding", "findings"),
    ))
}

fn announce(repairable: &[&Finding]) -> Result<(), Failure> {
    for finding in repairable {
        let path = finding.path.display();
        say(&match finding.kind {
            FindingKind::Leftover => format!("will remove {path}"),
            _ => format!("will write {path} again"),
        })?;
    }
    say(
        "will open the folder, which replays the journal and drops its incomplete end, and then close it, which writes both checkpoints",
    )
}

fn agreed() -> Result<bool, Failure> {
    let mut stderr = io::stderr();
    write!(stderr, "continue? [y/N] ").and_then(|()| stderr.flush()).map_err(Failure::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| {
        Failure::Other(format!(
            "cannot read the answer: {error}; use --yes to repair without asking"
        ))
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stderr(), "{line}").map_err(Failure::Output)
}

/// Returns a failure if there are findings.
fn conclude(report: &VerifyReport) -> Result<(), Failure> {
    let number = |is: fn(FindingKind) -> bool| {
        report.findings.iter().filter(|finding| is(finding.kind)).count() as u64
    };
    let damaged = number(|kind| kind == FindingKind::Damage);
    let repairable = number(FindingKind::is_repairable);
    let others = report.findings.len() as u64 - damaged;
    match (damaged, repairable) {
        (0, 0) if others == 0 => Ok(()),
        (0, 0) => Err(Failure::Other(format!(
            "{}, but nothing is lost; these files belong to no topic: check them, and move them elsewhere",
            count(others, "finding", "findings")
        ))),
        (0, _) => Err(Failure::Other(format!(
            "{}, but nothing is lost; `grouplog verify --repair` fixes {}",
            count(others, "finding", "findings"),
            if repairable == others { "that".to_owned() } else { format!("{repairable} of them") }
        ))),
        (_, _) => Err(Failure::Other(format!(
            "{} of damage, {}; only a backup can bring back what is lost, and `grouplog consume --skip-damaged` reads the rest",
            count(damaged, "finding", "findings"),
            count(others, "other finding", "other findings")
        ))),
    }
}
