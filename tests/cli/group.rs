//! Managing groups: describe, reset, delete.

use std::io::Read as _;

use serde_json::Value;

use crate::run::{Cli, lines, numbered};

/// Creates a folder with ten records and a group that has read six of them.
fn six_of_ten() -> Cli {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", &numbered(0, 10));
    assert_eq!(lines(&cli.ok(&["consume", "orders", "-g", "billing", "--max", "6"])).len(), 6);
    cli
}

fn offset(cli: &Cli) -> Value {
    let text = cli.ok_text(&["group", "describe", "billing", "--json"]);
    let group: Value = serde_json::from_str(&text).unwrap();
    group["offsets"][0].clone()
}

#[test]
fn a_group_goes_on_where_it_was_reset_to() {
    let cli = six_of_ten();
    let times = cli.ok_text(&["consume", "orders", "--format", "%T"]);
    let last = format!("@{}", times.lines().last().unwrap());
    for (to, committed, left) in [
        ("latest", 10, 0),
        ("-3", 7, 3),
        ("+1", 8, 2),
        ("current", 8, 2),
        ("earliest", 0, 10),
        ("4", 4, 6),
        ("99", 10, 0),
        ("-99", 0, 10),
        ("@2020-01-01", 0, 10),
        ("@9999-01-01", 10, 0),
        ("ago:7d", 0, 10),
        ("ago:0s", 10, 0),
        ("-9223372036854775808", 0, 10),
        ("+9223372036854775807", 10, 0),
        ("@9223372036854775807", 10, 0),
        ("ago:213503982334601d", 0, 10),
    ] {
        let before = offset(&cli)["committed"].clone();
        let dry = cli.ok_text(&["group", "reset", "billing", "--to", to, "--dry-run"]);
        assert!(dry.ends_with("nothing was changed: --dry-run\n"), "{dry}");
        assert_eq!(offset(&cli)["committed"], before, "{to}");
        let text = cli.ok_text(&["group", "reset", "billing", "--to", to, "--json"]);
        let moved: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&moved["committed"], &moved["new"]), (&before, &committed.into()), "{to}");
        assert_eq!(offset(&cli)["committed"], committed, "{to}");
        assert_eq!(offset(&cli)["lag"], left, "{to}");
    }
    // A time is found, whatever the resolution of the clock.
    let text = cli.ok_text(&["group", "reset", "billing", "--to", &last, "--json"]);
    let moved: Value = serde_json::from_str(&text).unwrap();
    let rest = 10 - moved["new"].as_i64().unwrap();
    assert!((1..=10).contains(&rest), "{text}");
    let read = cli.ok(&["consume", "orders", "-g", "billing"]);
    assert_eq!(lines(&read).len() as i64, rest);
}

/// A program may stop at a lag of 0, so the lag must include partitions without a commit.
#[test]
fn a_partition_without_a_committed_offset_is_shown_and_counted() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "2"]);
    cli.feed(&["produce", "orders", "--partition", "0"], b"a\nb\n");
    cli.feed(&["produce", "orders", "--partition", "1"], b"c\nd\ne\n");
    let args = ["group", "reset", "billing", "--topic", "orders", "--partition", "0", "--to", "1"];
    cli.ok(&args);
    let text = cli.ok_text(&["group", "describe", "billing", "--json"]);
    let group: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(group["lag"], 4);
    let rows = group["offsets"].as_array().unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row["committed"].as_i64(), &row["lag"])).collect();
    assert_eq!(rows, [(Some(1), &1.into()), (None, &3.into())]);
    let table = cli.ok_text(&["group", "describe", "billing"]);
    let row: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["orders-1", "-", "3", "3"], "{table}");
    let list = cli.ok_text(&["group", "list", "--json"]);
    let listed: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&listed["partitions"], &listed["lag"]), (&2.into(), &4.into()));
}

#[test]
fn what_is_reset_can_be_chosen() {
    let cli = Cli::new();
    for topic in ["orders", "more"] {
        cli.ok(&["topic", "create", topic, "-p", "2"]);
        for partition in ["0", "1"] {
            let args = ["produce", topic, "--partition", partition];
            assert_eq!(cli.feed(&args, b"a\nb\n").code, Some(0));
        }
    }
    cli.ok(&["consume", "orders", "more", "-g", "billing"]);
    let reset = |args: &[&str]| {
        let text = cli.ok_text(&[&["group", "reset", "billing", "--json"], args].concat());
        text.lines().count()
    };
    assert_eq!(reset(&["--topic", "orders", "--partition", "1", "--to", "0"]), 1);
    assert_eq!(lines(&cli.ok(&["consume", "orders", "more", "-g", "billing"])).len(), 2);
    assert_eq!(reset(&["--topic", "more", "--to", "earliest"]), 2);
    assert_eq!(lines(&cli.ok(&["consume", "orders", "more", "-g", "billing"])).len(), 4);
    assert_eq!(reset(&["--to", "earliest"]), 4);
    assert_eq!(lines(&cli.ok(&["consume", "orders", "more", "-g", "billing"])).len(), 8);

    // A reset may create a group.
    cli.ok(&["group", "reset", "new", "--topic", "orders", "--to", "1"]);
    assert_eq!(lines(&cli.ok(&["consume", "orders", "-g", "new"])).len(), 2);
    let error = cli.fails(&["group", "reset", "newer", "--topic", "orders", "--to", "+1"]);
    assert!(error.contains("orders-0"), "{error}");
    let error = cli.fails(&["group", "reset", "nobody", "--to", "latest"]);
    assert!(error.contains("\"nobody\"") && error.contains("group list"), "{error}");
}

#[test]
fn groups_and_offsets_can_be_deleted() {
    let cli = six_of_ten();
    cli.ok(&["topic", "create", "more"]);
    cli.ok(&["group", "reset", "billing", "--topic", "more", "--to", "latest"]);
    let deleted = cli.ok_text(&["group", "delete", "billing", "--topic", "orders"]);
    assert_eq!(deleted, "deleted offsets of group billing in topic orders\n");
    assert_eq!(offset(&cli)["topic"], "more");
    assert_eq!(cli.ok_text(&["group", "delete", "billing"]), "deleted group billing\n");
    assert_eq!(cli.ok_text(&["group", "list", "--json"]), "");
    assert!(cli.fails(&["group", "delete", "billing"]).contains("\"billing\""));
    // The group begins again from the start.
    assert_eq!(lines(&cli.ok(&["consume", "orders", "-g", "billing"])).len(), 10);
}

#[test]
fn beside_an_application_one_can_look_but_not_change() {
    let cli = six_of_ten();
    let mut application = cli.start(&["produce", "orders"]);
    application.write(b"one more\n");
    // The application holds the folder once its record can be seen.
    while lines(&cli.ok(&["consume", "orders"])).len() < 11 {}

    let described = offset(&cli);
    assert_eq!((&described["committed"], &described["lag"]), (&6.into(), &5.into()));
    assert!(described["lag_ms"].is_u64(), "{described}");
    let table = cli.ok_text(&["group", "describe", "billing"]);
    assert!(table.starts_with("partition  committed  end  lag  seconds"), "{table}");
    let args = ["group", "reset", "billing", "--to", "earliest", "--dry-run", "--json"];
    let planned: Value = serde_json::from_str(&cli.ok_text(&args)).unwrap();
    assert_eq!((&planned["new"], &planned["dry_run"]), (&0.into(), &true.into()));

    let pid = format!("process {}", application.0.id());
    for args in
        [&["group", "reset", "billing", "--to", "earliest"][..], &["group", "delete", "billing"]]
    {
        let error = cli.fails(args);
        assert!(error.contains("locked") && error.contains(&pid), "{error}");
    }
    drop(application.0.stdin.take());
    let mut said = String::new();
    application.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(application.0.wait().unwrap().success(), "{said}");
    assert_eq!(offset(&cli)["committed"], 6);
    cli.ok(&["group", "reset", "billing", "--to", "earliest"]);
}

#[test]
fn names_of_producers_are_listed_and_deleted() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    let broker = grouplog::Broker::open(cli.path("data")).unwrap();
    for (id, sequence) in [("importer", Some(7)), ("idle", None)] {
        let config = grouplog::ProducerConfig::new().transactional_id(id);
        let producer = broker.producer_with(config).unwrap();
        if let Some(sequence) = sequence {
            let record = grouplog::Record::to("orders").value("x");
            producer.send_sequenced(sequence, record).unwrap();
        }
    }
    let named = grouplog::ProducerConfig::new().transactional_id("idle");
    let producer = broker.producer_with(named).unwrap();
    let mut transaction = producer.begin().unwrap();
    let partition = grouplog::TopicPartition::new("orders", 0);
    let group = grouplog::GroupMetadata::of_group("billing");
    transaction.send_offsets(&group, [(partition, 1)]).unwrap();
    transaction.commit().unwrap();
    drop(producer);
    broker.close().unwrap();
    let text = cli.ok_text(&["group", "describe", "billing"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][rows[0].len() - 2..], ["owner", "epoch"], "{text}");
    assert_eq!(rows[1][rows[1].len() - 2..], ["idle", "1"], "{text}");
    let offset = offset(&cli);
    assert_eq!(
        (&offset["transactional_id"], &offset["producer_epoch"]),
        (&"idle".into(), &1.into())
    );
    let text = cli.ok_text(&["owner", "list"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1..], [vec!["idle", "1", "-"], vec!["importer", "0", "7"]], "{text}");
    let json = cli.ok_text(&["owner", "list", "--json"]);
    let last: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["last_sequence"], 7);
    cli.ok(&["owner", "delete", "importer"]);
    assert_eq!(cli.ok_text(&["owner", "list", "--json"]).lines().count(), 1);
    let again = cli.run(&["owner", "delete", "importer"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("no producer had transactional.id"), "{}", again.stderr);
}
