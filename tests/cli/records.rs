//! Deleting the oldest records.

use serde_json::Value;

use crate::run::{Cli, lines, numbered};

#[test]
fn records_below_an_offset_are_deleted() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "2", "-c", "segment.bytes=65536"]);
    for partition in ["0", "1"] {
        let args = ["produce", "orders", "--partition", partition];
        assert_eq!(cli.feed(&args, &numbered(0, 5_000)).code, Some(0));
    }
    let delete = |before: &str| {
        let args = ["records", "delete", "orders", "--partition", "1", "--before", before];
        cli.ok_text(&[&args[..], &["--json"]].concat())
    };
    let start = |text: String| {
        let deleted: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&deleted["topic"], &deleted["partition"]), (&"orders".into(), &1.into()));
        deleted["start_offset"].as_i64().unwrap()
    };
    let read = || lines(&cli.ok(&["consume", "orders"])).len();
    assert_eq!((start(delete("0")), read()), (0, 10_000));
    assert_eq!((start(delete("4000")), read()), (4_000, 6_000));
    // Deleted records stay deleted.
    assert_eq!((start(delete("7")), read()), (4_000, 6_000));
    let text =
        cli.ok_text(&["records", "delete", "orders", "--partition", "1", "--before", "latest"]);
    assert_eq!(text, "orders-1 starts at offset 5000 now\n");
    assert_eq!(read(), 5_000);
    let args = ["records", "delete", "orders", "--partition", "1", "--before", "5001"];
    let error = cli.fails(&args);
    assert!(error.contains("offset 5001 of orders-1"), "{error}");
    // Whole segment files are gone.
    assert!(!cli.path("data/orders-1/00000000000000000000.log").exists());
    assert!(cli.path("data/orders-0/00000000000000000000.log").exists());
}

#[test]
fn retention_cleans_a_folder_that_nobody_has_open() {
    let cli = Cli::new();
    let limits = ["-c", "retention.bytes=128KiB", "-c", "segment.bytes=64KiB"];
    cli.ok(&[&["topic", "create", "short", "--keep", "7d"][..], &limits].concat());
    cli.ok(&["topic", "create", "all"]);
    for topic in ["short", "all"] {
        assert_eq!(cli.feed(&["produce", topic], &numbered(0, 100_000)).code, Some(0));
    }
    let describe = |topic: &str| -> Value {
        serde_json::from_str(&cli.ok_text(&["topic", "describe", topic, "--json"])).unwrap()
    };
    let short = describe("short");
    assert_eq!(short["config"]["retention.ms"], "604800000");
    assert_eq!(short["config"]["retention.bytes"], "131072");
    // The limit holds while records are written.
    let bytes = short["partitions"][0]["bytes"].as_u64().unwrap();
    assert!((128 << 10..300 << 10).contains(&bytes), "{bytes}");
    assert!(short["partitions"][0]["start_offset"].as_i64().unwrap() > 50_000);

    cli.ok(&["topic", "alter", "all", "-c", "retention.bytes=1MiB"]);
    let text = cli.ok_text(&["clean", "all", "--json"]);
    let cleaned: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(cleaned["topic"], "all");
    let text = cli.ok_text(&["clean"]);
    assert!(text.starts_with("topic"), "{text}");
    assert_eq!(text.lines().count(), 3);
    let error = cli.fails(&["clean", "none"]);
    assert!(error.contains("\"none\" does not exist"), "{error}");
    let error = cli.fails(&["topic", "create", "bad", "--keep", "a while"]);
    assert!(error.contains("retention.ms") && error.contains("7d"), "{error}");
}
