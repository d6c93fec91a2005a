//! `verify` finds what is wrong, changes nothing, and repairs what it can if told to.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Cli, numbered};

fn folder() -> Cli {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "2", "-c", "segment.bytes=262144"]);
    cli.produce("orders", &numbered(0, 40_000));
    cli.ok(&["consume", "orders", "-g", "billing"]);
    cli
}

fn findings(cli: &Cli, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let ran = cli.run(&[&["verify", "--json"], args].concat());
    let text = String::from_utf8(ran.stdout).unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["findings"], lines.len() as u64, "{text}");
    (ran.code, lines)
}

/// Returns all files with their bytes.
fn tree(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_folder_has_no_findings_and_is_not_touched() {
    let cli = folder();
    let before = tree(&cli.path("data"));
    let text = cli.ok_text(&["verify"]);
    assert!(text.contains("2 partitions") && text.contains("0 findings"), "{text}");
    assert!(text.contains("40000 records") && text.contains("1 group:"), "{text}");
    assert_eq!(findings(&cli, &[]), (Some(0), Vec::new()));
    assert!(before == tree(&cli.path("data")));
}

/// Returns whether the folder holds no later segment.
fn is_last(path: &Path) -> bool {
    let others = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let log = path.with_extension("log");
    let logs =
        others.map(|entry| entry.unwrap().path()).filter(|p| p.extension() == log.extension());
    logs.max() == Some(log)
}

#[test]
fn every_flipped_byte_of_every_file_that_counts_is_found_and_named() {
    let cli = folder();
    let pristine = tree(&cli.path("data"));
    let mut found = 0;
    for (path, bytes) in &pristine {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_journal = path.extension().is_some_and(|extension| extension == "journal");
        // Nothing depends on these: the lock's text, reserved space, and a journal that is written out.
        if name == "grouplog.lock" || name == "reserve" || is_journal || bytes.is_empty() {
            continue;
        }
        // The bytes behind a checkpoint's body and behind the offsets remain from longer ones.
        let last = if name.starts_with("checkpoint") || name.starts_with("offsets") {
            40
        } else {
            bytes.len()
        };
        for at in [0, last / 3, last / 2, last - 1] {
            // Comments and fields that only Kafka uses.
            if name == "meta.properties" || name == "partition.metadata" && at < 22 {
                continue;
            }
            flip(path, at);
            let (code, findings) = findings(&cli, &[]);
            let named = |finding: &Value| finding["path"].as_str().unwrap().ends_with(&name);
            // The offset file that no checkpoint names, and index entries of batches that seem to lie behind
            // the checkpoint. Every reader skips both.
            let passed_over =
                name.starts_with("offsets") || name.contains("index") && is_last(path);
            if !(passed_over && findings.is_empty()) {
                assert_eq!(code, Some(1), "{name} byte {at}");
                assert!(findings.iter().any(named), "{name} byte {at}: {findings:?}");
                found += 1;
            }
            std::fs::write(path, bytes).unwrap();
        }
    }
    assert!(found > 30, "{found}");
    assert_eq!(findings(&cli, &[]), (Some(0), Vec::new()));
}

#[test]
fn damage_and_missing_segments_are_named_with_their_offsets() {
    let cli = folder();
    let log = cli.path("data/orders-0/00000000000000000000.log");
    flip(&log, 100_000);
    let lost = tree(&cli.path("data/orders-1"));
    let lost = lost.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "log")).unwrap();
    std::fs::remove_file(&lost.0).unwrap();
    let (code, found) = findings(&cli, &[]);
    assert_eq!(code, Some(1));
    for path in ["orders-0/00000000000000000000.log", "orders-1/00000000000000000000.log"] {
        let finding = found.iter().find(|f| f["path"].as_str().unwrap().ends_with(path)).unwrap();
        assert_eq!((&finding["kind"], &finding["repairable"]), (&"damage".into(), &false.into()));
        assert!(finding["offsets"].is_array(), "{finding}");
    }
    // A repair does not claim to have mended this.
    let ran = cli.run(&["verify", "--repair", "--yes"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("backup"), "{ran:?}");
}

#[test]
fn repair_asks_says_what_it_does_and_mends_what_is_derived() {
    let cli = folder();
    let records = cli.ok(&["consume", "orders"]);
    let folder = cli.path("data/orders-0");
    flip(&folder.join("00000000000000000000.index"), 3);
    flip(&folder.join("00000000000000000000.timeindex"), 9);
    flip(&folder.join("00000000000000000000.sums"), 30);
    std::fs::write(folder.join("leader-epoch-checkpoint"), "0\n1\n9 0\n").unwrap();
    std::fs::write(folder.join("00000000000000000000.log.cleaned"), "half").unwrap();
    std::fs::write(cli.path("data/meta.properties"), "# grouplog\nversion=1\n").unwrap();
    let checkpoints = ["checkpoint.a", "checkpoint.b"].map(|name| cli.path("data").join(name));
    let newer = |path: &PathBuf| std::fs::read(path).unwrap()[28..36].to_vec();
    let older = checkpoints.iter().min_by_key(|path| newer(path)).unwrap();
    flip(older, 60);
    let (code, found) = findings(&cli, &[]);
    assert_eq!(code, Some(1));
    assert!(found.iter().all(|finding| finding["repairable"] == true), "{found:?}");
    assert!(found.len() >= 7, "{found:?}");

    // Without an answer nothing is changed.
    let before = tree(&cli.path("data"));
    for answer in [&b"n\n"[..], b""] {
        let ran = cli.feed(&["verify", "--repair"], answer);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains("will remove") && ran.stderr.contains("will write"), "{ran:?}");
        assert!(ran.stderr.contains("nothing was changed"), "{ran:?}");
    }
    assert!(before == tree(&cli.path("data")));

    let ran = cli.feed(&["verify", "--repair"], b"y\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(findings(&cli, &[]), (Some(0), Vec::new()));
    assert!(cli.ok(&["consume", "orders"]) == records);
    assert_eq!(cli.ok(&["consume", "orders", "-g", "billing"]), b"");
}

#[test]
fn it_works_beside_a_writer_and_after_a_kill() {
    let cli = folder();
    let mut writer = cli.start(&["produce", "orders", "--acks", "written"]);
    for round in 0..5 {
        writer.write(&numbered(round * 3_000, (round + 1) * 3_000));
        assert_eq!(findings(&cli, &[]), (Some(0), Vec::new()));
        let refused = cli.run(&["verify", "--repair", "--yes"]);
        assert_eq!(refused.code, Some(0), "there is nothing to repair: {refused:?}");
    }
    writer.kill();
    assert_eq!(findings(&cli, &[]), (Some(0), Vec::new()));
    let text = cli.ok_text(&["verify", "--threads", "1"]);
    assert!(text.contains("0 findings"), "{text}");
}

#[test]
fn a_foreign_folder_is_an_error_and_not_a_finding() {
    let cli = Cli::new();
    assert!(cli.fails(&["verify"]).contains("does not exist"));
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/letter.txt"), "dear").unwrap();
    assert!(cli.fails(&["verify"]).contains("not a grouplog folder"));
    assert_eq!(cli.run(&["verify", "--yes"]).code, Some(2));
}
