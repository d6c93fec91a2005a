//! Share groups from a shell.

use std::time::Duration;

use grouplog::{Broker, ShareConsumerConfig};
use serde_json::Value;

use crate::run::{Cli, lines, numbered};

#[test]
fn an_operator_sees_and_ends_what_is_under_way() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    cli.produce("jobs", &numbered(0, 5));
    let broker = Broker::open(cli.path("data")).unwrap();
    let config = ShareConsumerConfig::new().max_poll_records(3);
    let mut member = broker.share_consumer_with("workers", config).unwrap();
    member.subscribe(["jobs"]).unwrap();
    let mut taken = member.poll(Duration::ZERO).unwrap();
    taken.next().unwrap().accept().unwrap();
    // Beside the application.
    let described = |name: &str| -> Value {
        serde_json::from_str(&cli.ok_text(&["share", "describe", name, "--json"])).unwrap()
    };
    let row = described("workers")["partitions"][0].clone();
    let numbers = ["lag", "not_started", "under_way", "delayed", "start_offset", "end_offset"];
    assert_eq!(numbers.map(|name| row[name].as_i64().unwrap()), [4, 2, 2, 0, 1, 5]);
    assert_eq!(row["records"][0]["last_offset"], 2);
    let list = cli.ok_text(&["share", "list"]);
    assert!(list.lines().nth(1).unwrap().starts_with("workers"), "{list}");
    taken.for_each(std::mem::forget);
    member.close().unwrap();
    broker.close().unwrap();

    cli.ok(&["share", "finish", "workers", "--topic", "jobs", "--first", "1", "--last", "2"]);
    assert_eq!(described("workers")["lag"], 2);
    cli.ok(&["share", "pause", "workers"]);
    assert_eq!(described("workers")["paused"], true);
    cli.ok(&["share", "resume", "workers"]);
    let text = cli.ok_text(&["share", "reset", "workers", "--to", "earliest"]);
    assert_eq!(text, "jobs-0 begins at 0\n");
    assert_eq!(described("workers")["lag"], 5);
    cli.ok(&["share", "delete", "workers"]);
    assert_eq!(lines(&cli.ok(&["share", "list", "--json"])).len(), 0);
}
