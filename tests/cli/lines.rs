//! Lines that go in and come out again.

use serde_json::Value;

use crate::run::{Cli, lines, numbered};

#[test]
fn a_file_survives_a_round_trip() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    let text = b"first\n\n with spaces \r\n\xff\xfe not text\n\ttab\nno line feed at the end";
    std::fs::write(cli.path("lines"), text).unwrap();
    let ran = cli.run(&["produce", "orders", "--file", "lines"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("6 records synced"), "{}", ran.stderr);
    assert_eq!(cli.ok(&["consume", "orders"]), [&text[..], b"\n"].concat());
    assert_eq!(cli.ok(&["consume", "orders", "--max", "1"]), b"first\n");

    cli.produce("orders", b"");
    cli.produce("orders", b"\n");
    assert_eq!(cli.ok(&["consume", "orders", "--from", "6"]), b"\n");
}

#[test]
fn many_lines_of_all_sizes_come_back_through_a_pipe() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-c", "compression.type=zstd"]);
    let mut text = numbered(0, 20_000);
    text.extend_from_slice(&vec![b'y'; 700_000]);
    text.push(b'\n');
    text.extend_from_slice(&numbered(20_000, 21_000));
    let ran = cli.feed(&["produce", "orders", "--acks", "written", "--json"], &text);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let summary: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(summary["records"], 21_001);
    assert_eq!(summary["acks"], "written");
    assert!(cli.ok(&["consume", "orders"]) == text);
    assert!(cli.ok(&["consume", "orders", "-g", "all"]) == text);
}

#[test]
fn each_partition_keeps_its_order_and_keys_their_partition() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "4"]);
    let input: Vec<String> = (0..3000).map(|n| format!("k{}:{n}\n", n % 17)).collect();
    let input = input.concat();
    let ran = cli.feed(&["produce", "orders", "--key-separator", ":"], input.as_bytes());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);

    let text = cli.ok_text(&["consume", "orders", "--format", "%p %o %k %v"]);
    let mut offsets = [0; 4];
    let mut last = [None; 17];
    let mut partition_of = [None; 17];
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let partition: usize = fields[0].parse().unwrap();
        let key: usize = fields[2][1..].parse().unwrap();
        let value: i32 = fields[3].parse().unwrap();
        assert_eq!(fields[1].parse(), Ok(offsets[partition]));
        offsets[partition] += 1;
        assert!(last[key].replace(value).is_none_or(|before| before < value));
        assert!(partition_of[key].replace(partition).is_none_or(|before| before == partition));
    }
    assert_eq!(offsets.iter().sum::<i64>(), 3000);

    for (separator, line) in [(r"\t", &b"tab\tv\\t"[..]), (r"\\t", b"tab\\tv\\t")] {
        let args = ["produce", "orders", "--key-separator", separator];
        assert_eq!(cli.feed(&args, line).code, Some(0));
        let args = ["consume", "orders", "--format", r"%k\t%v"];
        assert!(cli.ok_text(&args).contains("tab\tv\\t\n"), "{separator}");
    }

    let ran = cli.feed(&["produce", "orders", "--partition", "2"], b"chosen\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let all = cli.ok_text(&["consume", "orders", "--format", "%p %v"]);
    assert!(all.contains("2 chosen\n"));
}

#[test]
fn a_topic_can_be_altered() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", &numbered(0, 10));
    assert_eq!(
        cli.ok_text(&[
            "topic",
            "alter",
            "orders",
            "-c",
            "segment.bytes=5000",
            "-c",
            "segment.ms=9"
        ]),
        "altered topic orders\n"
    );
    let altered = cli.ok_text(&["topic", "alter", "orders", "-p", "3", "--json"]);
    let topic: Value = serde_json::from_str(&altered).unwrap();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(topic["config"]["segment.bytes"], "5000");
    assert_eq!(topic["config"]["segment.ms"], "9");
    let ran = cli.feed(&["produce", "orders", "--partition", "2"], b"new\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(lines(&cli.ok(&["consume", "orders"])).len(), 11);
}

#[test]
fn a_group_goes_on_where_it_was() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "3"]);
    cli.ok(&["topic", "create", "more"]);
    let input: Vec<String> = (0..2500).map(|n| format!("{n}:{n}\n")).collect();
    let input = input.concat();
    cli.feed(&["produce", "orders", "--key-separator", ":"], input.as_bytes());
    cli.produce("more", b"one\ntwo\n");
    let mut seen = Vec::new();
    for (max, printed) in [("7", 7), ("500", 500), ("1201", 1201), ("9999", 794), ("5", 0)] {
        let out = cli.ok(&["consume", "orders", "more", "-g", "billing", "--max", max]);
        assert_eq!(lines(&out).len(), printed);
        seen.extend(lines(&out).into_iter().map(<[u8]>::to_vec));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2502);
    assert_eq!(lines(&cli.ok(&["consume", "orders", "-g", "other"])).len(), 2500);

    let text = cli.ok_text(&["--json", "group", "describe", "billing"]);
    let group: Value = serde_json::from_str(&text).unwrap();
    let offsets = group["offsets"].as_array().unwrap();
    assert_eq!(offsets.len(), 4);
    assert!(offsets.iter().all(|offset| offset["lag"] == 0), "{text}");
    let table = cli.ok_text(&["group", "describe", "billing"]);
    assert!(table.starts_with("partition  committed"), "{table}");
    assert_eq!(table.lines().count(), 5);
    let list = cli.ok_text(&["group", "list"]);
    assert!(list.contains("billing") && list.contains("other"), "{list}");
}

#[test]
fn reading_begins_at_the_requested_place() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", b"a\nb\nc\n");
    let times = cli.ok_text(&["consume", "orders", "--format", "%T"]);
    let first = format!("@{}", times.lines().next().unwrap());
    for (from, printed) in [
        ("earliest", &b"a\nb\nc\n"[..]),
        ("latest", b""),
        ("1", b"b\nc\n"),
        ("99", b""),
        ("@0", b"a\nb\nc\n"),
        (&first, b"a\nb\nc\n"),
        ("@2020-01-01", b"a\nb\nc\n"),
        ("@9999-01-01", b""),
    ] {
        assert_eq!(cli.ok(&["consume", "orders", "--from", from]), printed, "{from}");
        let group = format!("from {from}");
        assert_eq!(cli.ok(&["consume", "orders", "--from", from, "-g", &group]), printed, "{from}");
    }
    // The place where a group began is stored, even if it is the end.
    cli.produce("orders", b"d\n");
    for group in ["from latest", "from 1", "from @0"] {
        assert_eq!(cli.ok(&["consume", "orders", "--from", "0", "-g", group]), b"d\n", "{group}");
    }
}

#[test]
fn every_printed_json_is_json() {
    let cli = Cli::new();
    let object = |args: &[&str]| -> Value { serde_json::from_slice(&cli.ok(args)).unwrap() };
    let created = object(&["topic", "create", "orders", "-p", "2", "--json"]);
    assert_eq!(created["partitions"], 2);
    object(&["topic", "create", "gone", "--json"]);
    assert_eq!(object(&["topic", "delete", "gone", "--json"])["deleted"], "gone");
    let produce = ["produce", "orders", "--partition", "1", "--key-separator", "="];
    assert_eq!(cli.feed(&produce, b"k=\xff\x00\nk=\n").code, Some(0));

    let listed = object(&["topic", "list", "--json"]);
    assert_eq!((&listed["topic"], &listed["records"]), (&"orders".into(), &2.into()));
    let topic = object(&["topic", "describe", "orders", "--json"]);
    assert_eq!(topic["partitions"][1]["end_offset"], 2);
    assert_eq!(topic["config"]["segment.bytes"], "67108864");
    assert_eq!(topic["partitions"][1]["last_stable_offset"], Value::Null);
    let topic = object(&["topic", "describe", "orders", "--stable", "--json"]);
    assert_eq!(topic["partitions"][0]["last_stable_offset"], 0);
    assert_eq!(topic["partitions"][1]["last_stable_offset"], 2);
    let table = |args: &[&str]| -> Vec<Vec<String>> {
        let text = cli.ok_text(args);
        let rows = text.lines().skip_while(|line| !line.starts_with("partition"));
        rows.map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let rows = table(&["topic", "describe", "orders", "--stable"]);
    assert_eq!(rows[0][..4], ["partition", "start", "end", "stable"]);
    assert_eq!(rows[2][..4], ["1", "0", "2", "2"]);
    assert_eq!(table(&["topic", "describe", "orders"])[0][3], "epoch");
    for (group, format) in [("a", &["--json"][..]), ("b", &["--format", "json"])] {
        let text = cli.ok_text(&[&["consume", "orders", "-g", group], format].concat());
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records[0]["value"]["hex"], "ff00");
        assert_eq!(records[1]["value"], "");
        assert_eq!(records[1]["key"], "k");
        assert_eq!(records[1]["offset"], 1);
    }
    for line in cli.ok_text(&["group", "list", "--json"]).lines() {
        let group: Value = serde_json::from_str(line).unwrap();
        assert_eq!(group["lag"], 0);
    }
    assert_eq!(object(&["dump", "orders-1", "--json"])["count"], 2);
}

#[test]
fn the_folder_may_be_named_by_the_environment() {
    let cli = Cli::new();
    cli.ok(&["--data", "elsewhere", "topic", "create", "orders"]);
    let mut command = cli.command(&["topic", "list"]);
    let output = command.env("GROUPLOG_DATA", "elsewhere").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("orders"));
    assert!(!cli.path("data").exists());
}

#[test]
fn lines_with_ids_are_appended_once() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "2"]);
    let produce = ["produce", "orders", "--dedup-header", "request", "--key-separator", ":"];
    let ran = cli.feed(&produce, b"1\tk:a\n2\tk:b\n1\tk:a\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("2 records synced, 1 duplicate left out"), "{}", ran.stderr);
    let ran = cli.feed(&[&produce[..], &["--json"]].concat(), b"2\tk:b\n3\tk:c\n");
    let summary: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&summary["records"], &summary["duplicates"]), (&1.into(), &1.into()));
    let text = cli.ok_text(&["consume", "orders", "--format", "%k %v %h"]);
    assert_eq!(text, "k a request=1\nk b request=2\nk c request=3\n");
    let ran = cli.feed(&produce, b"4\tk:d\nno id\n");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("line 2 of stdin is refused: it does not contain the id separator"),
        "{}",
        ran.stderr
    );
    let ran = cli.feed(&produce, b"\tk:e\n");
    assert!(
        ran.stderr.contains("line 1 of stdin is refused: an idempotency id has"),
        "{}",
        ran.stderr
    );
    let other =
        cli.feed(&["produce", "orders", "--dedup-header", "r", "--dedup-separator", "|"], b"5|x\n");
    assert_eq!(other.code, Some(0), "{}", other.stderr);
}
