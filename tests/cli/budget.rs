//! The disk budget at the command line.

use serde_json::Value;

use crate::run::{Cli, numbered};

const BUDGET: [&str; 2] = ["--disk-budget", "2MiB"];

#[test]
fn produce_keeps_the_budget_and_says_what_to_do() {
    let cli = Cli::new();
    cli.ok(&[&["topic", "create", "refuses"][..], &BUDGET].concat());
    let drops = ["topic", "create", "drops", "-c", "disk.budget.policy=drop-oldest"];
    cli.ok(&[&drops[..], &BUDGET].concat());
    let lines = numbered(0, 300_000);
    let ran = cli.feed(&[&["produce", "drops", "--acks", "written"][..], &BUDGET].concat(), &lines);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let shown = cli.ok_text(&["topic", "describe", "drops"]);
    assert!(shown.contains("disk.budget.policy=drop-oldest"), "{shown}");
    let kept = cli.ok(&["consume", "drops"]);
    assert!(kept.len() > 300_000 && lines.ends_with(&kept), "{}", kept.len());
    let ran =
        cli.feed(&[&["produce", "refuses", "--acks", "written"][..], &BUDGET].concat(), &lines);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for part in ["the disk budget of 2097152 bytes", "--disk-budget", "disk.budget.policy"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    // Without it there is no limit. A lower one later can be cleaned up to.
    let ran = cli.feed(&["produce", "drops", "--acks", "written"], &lines);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let cleaned = cli.ok(&[&["clean", "--json"][..], &BUDGET].concat());
    let cleaned: Value =
        serde_json::from_slice(cleaned.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert!(cleaned["deleted"]["budget"]["bytes"].as_u64() > Some(1_000_000), "{cleaned}");
}

#[test]
fn a_budget_that_cannot_work_is_refused() {
    let cli = Cli::new();
    for (size, code, part) in [("lots", 2, "256MiB"), ("1MiB", 1, "2097152 or more bytes")] {
        let ran = cli.run(&["topic", "create", "t", "--disk-budget", size]);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn describe_says_what_retention_waits_for() {
    let cli = Cli::new();
    let create = ["topic", "create", "jobs", "-c", "retention.consumed=workers", "--keep", "7d"];
    cli.ok(&create);
    let ran = cli.feed(&["produce", "jobs"], &numbered(0, 10));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let shown = cli.ok_text(&["topic", "describe", "jobs"]);
    let expected = "partition 0: retention: the active segment 0 stays: it is not older than";
    assert!(shown.contains(expected), "{shown}");
    assert!(shown.contains("the group workers has committed nothing"), "{shown}");
    let shown: Value =
        serde_json::from_slice(&cli.ok(&["topic", "describe", "jobs", "--json"])).unwrap();
    let retention = &shown["partitions"][0]["retention"];
    assert_eq!((&retention["segment"], &retention["is_active"]), (&0.into(), &true.into()));
    assert_eq!(retention["waits_for"].as_array().map(Vec::len), Some(2), "{shown}");
}
