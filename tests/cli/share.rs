//! Share groups from a shell.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use grouplog::{Broker, ShareConsumerConfig, ShareGroupConfig};
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

/// Lets a group reject all jobs, and lets go of the folder.
fn reject_all(cli: &Cli, group: &str) {
    let broker = Broker::open(cli.path("data")).unwrap();
    let config = ShareGroupConfig::new().dead_letter_topic("dead");
    broker.admin().alter_share_group(group, config).unwrap();
    let mut member = broker.share_consumer(group).unwrap();
    member.subscribe(["jobs"]).unwrap();
    member.poll(Duration::ZERO).unwrap().for_each(|job| job.reject("bad").unwrap());
    member.close().unwrap();
    broker.close().unwrap();
}

#[test]
fn dead_letters_go_back() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    cli.produce("jobs", b"a\nb\nc\n");
    let error = cli.fails(&["share", "redrive", "workers"]);
    assert!(error.contains("\"workers\"") && error.contains("share list"), "{error}");
    reject_all(&cli, "workers");
    let planned = cli.ok_text(&["share", "redrive", "workers", "--dry-run"]);
    assert_eq!(planned, "3 records go back to jobs-0\nnothing was changed: --dry-run\n");
    let one = cli.ok_text(&["share", "redrive", "workers", "--max", "1"]);
    assert_eq!(one, "1 record goes back to jobs-0\n");
    let rest = cli.ok_text(&["share", "redrive", "workers", "--json"]);
    let rest: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!((&rest["records"], &rest["topic"]), (&2.into(), &"jobs".into()));
    assert_eq!(cli.ok(&["consume", "jobs"]), b"a\nb\nc\na\nb\nc\n");
    let none = cli.ok_text(&["share", "redrive", "workers"]);
    assert_eq!(none, "no dead letter is left to send back\n");

    reject_all(&cli, "workers");
    cli.ok(&["topic", "delete", "jobs"]);
    let skipped = cli.ok_text(&["share", "redrive", "workers", "--max", "1"]);
    assert_eq!(skipped.lines().count(), 3, "{skipped}");
    assert!(skipped.starts_with("skipped letter 3 of dead-0, record 3 of jobs-0: the topic does"));
    let skipped = cli.ok_text(&["share", "redrive", "workers", "--json", "--dry-run"]);
    let first: Value = serde_json::from_str(skipped.lines().next().unwrap()).unwrap();
    assert_eq!((&first["letter_offset"], &first["dry_run"]), (&3.into(), &true.into()));
}

#[test]
fn a_redrive_needs_the_folder_and_its_plan_does_not() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    cli.produce("jobs", b"a\n");
    reject_all(&cli, "workers");
    let broker = Broker::open(cli.path("data")).unwrap();
    broker.admin().alter_share_group("bare", ShareGroupConfig::new()).unwrap();
    assert!(cli.fails(&["share", "redrive", "workers"]).contains("locked"));
    let planned = cli.ok_text(&["share", "redrive", "workers", "--dry-run"]);
    assert!(planned.starts_with("1 record goes back"), "{planned}");
    let error = cli.fails(&["share", "redrive", "bare", "--dry-run"]);
    assert!(error.contains("\"bare\" has no topic for dead letters"), "{error}");
}

#[test]
fn records_can_be_produced_for_later() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    let produce =
        |args: &[&str], line: &[u8]| cli.feed(&[&["produce", "jobs"], args].concat(), line);
    assert_eq!(produce(&["--deliver-after", "1d12h"], b"tomorrow\n").code, Some(0));
    assert_eq!(produce(&["--deliver-at", "2999-01-31T12:00:00"], b"late\n").code, Some(0));
    assert_eq!(produce(&["--deliver-at", "0"], b"long ago\n").code, Some(0));
    assert_eq!(produce(&["--deliver-after", "0s"], b"now\n").code, Some(0));
    for (args, what) in [
        (&["--deliver-after", "5"][..], "such as 1d12h"),
        (&["--deliver-at", "tomorrow"], "such as 2025-01-31T12:00:00"),
        (&["--deliver-at", "0", "--deliver-after", "1s"], "cannot be used with"),
    ] {
        let refused = produce(args, b"no\n");
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.contains(what), "{}", refused.stderr);
    }
    // Consumers see all of them, share groups those whose time has come.
    let all = cli.ok_text(&["consume", "jobs", "--format", "%v %h"]);
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines[0].starts_with("tomorrow __deliver.at=1"), "{all}");
    assert_eq!(lines[1], "late __deliver.at=32474779200000");
    assert_eq!(cli.ok(&["consume", "jobs", "--share", "workers"]), b"long ago\nnow\n");
    assert_eq!(cli.ok(&["consume", "jobs", "--share", "workers"]), b"");
}

fn group_lag(cli: &Cli, group: &str) -> i64 {
    let text = cli.ok_text(&["share", "describe", group, "--json"]);
    serde_json::from_str::<Value>(&text).unwrap()["lag"].as_i64().unwrap()
}

#[test]
fn a_member_accepts_what_it_has_printed() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs", "-p", "2"]);
    cli.produce("jobs", &numbered(0, 1_200));
    let member =
        |more: &[&str]| cli.ok(&[&["consume", "jobs", "--share", "workers"], more].concat());
    assert_eq!(lines(&member(&["--max", "7"])).len(), 7);
    assert_eq!(group_lag(&cli, "workers"), 1_193);
    assert_eq!(lines(&member(&["--max", "600", "--format", "%p %o %T %k %h"])).len(), 600);
    let json = member(&["--json", "--max", "1"]);
    let record: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&record["topic"], &record["key"]), (&"jobs".into(), &Value::Null));
    assert_eq!(lines(&member(&[])).len(), 1_200 - 608);
    assert_eq!(group_lag(&cli, "workers"), 0);
    for args in
        [&["--group", "g"][..], &["--from", "latest"], &["--partition", "0"], &["--skip-damaged"]]
    {
        let ran = cli.run(&[&["consume", "jobs", "--share", "workers"], args].concat());
        assert_eq!(ran.code, Some(2), "{args:?}");
        assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
    }
    assert!(cli.fails(&["consume", "nobody", "--share", "new"]).contains("\"nobody\""));
    assert!(!cli.ok_text(&["share", "list"]).contains("new"));
}

#[test]
fn what_stdout_does_not_take_goes_back() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    cli.produce("jobs", &numbered(0, 20));
    for stdout in [">&-", "1</dev/null", ">/dev/full"] {
        let ran = cli.redirected(&["consume", "jobs", "--share", "workers"], stdout);
        assert_eq!(ran.code, Some(1), "{stdout}");
        assert!(ran.stderr.starts_with("grouplog: "), "{}", ran.stderr);
    }
    assert_eq!(group_lag(&cli, "workers"), 20);
    // Only the record that was to be written counts as delivered.
    let broker = Broker::open(cli.path("data")).unwrap();
    let mut member = broker.share_consumer("workers").unwrap();
    member.subscribe(["jobs"]).unwrap();
    let jobs: Vec<_> = member.poll(Duration::ZERO).unwrap().collect();
    let counts: Vec<_> = jobs.iter().map(grouplog::ShareRecord::delivery_count).collect();
    assert_eq!(counts, [vec![2], vec![1; 19]].concat());
    drop(jobs);
    member.close().unwrap();
    broker.close().unwrap();
    assert_eq!(lines(&cli.ok(&["consume", "jobs", "--share", "workers"])).len(), 20);
}

#[test]
fn a_killed_member_loses_nothing() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    let input = numbered(0, 20_000);
    cli.produce("jobs", &input);
    let mut printed = Vec::new();
    for _ in 0..4 {
        let mut running = cli.start(&["consume", "jobs", "--share", "workers"]);
        let mut stdout = running.0.stdout.take().unwrap();
        let mut some = vec![0; 90_000];
        stdout.read_exact(&mut some).unwrap();
        running.kill();
        // What is in the pipe is accepted.
        stdout.read_to_end(&mut some).unwrap();
        printed.extend(lines(&some).into_iter().map(<[u8]>::to_vec));
    }
    printed.extend(
        lines(&cli.ok(&["consume", "jobs", "--share", "workers"])).into_iter().map(<[u8]>::to_vec),
    );
    assert!(printed.len() < 20_000 + 8, "one record of each run may come again");
    let expected: BTreeSet<&[u8]> = lines(&input).into_iter().collect();
    let printed: BTreeSet<&[u8]> = printed.iter().map(Vec::as_slice).collect();
    assert_eq!(expected.difference(&printed).count(), 0, "lines were skipped");
}

#[test]
fn a_member_follows_beside_a_producer() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "jobs"]);
    let mut running =
        cli.start(&["consume", "jobs", "--share", "workers", "--follow", "--max", "3"]);
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    for line in ["a\n", "b\n", "c\n"] {
        // The member has the folder now and then.
        while cli.feed(&["produce", "jobs"], line.as_bytes()).code != Some(0) {}
        let mut read = String::new();
        stdout.read_line(&mut read).unwrap();
        assert_eq!(read, line);
    }
    assert!(running.0.wait().unwrap().success());
    assert_eq!(group_lag(&cli, "workers"), 0);
}
