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
