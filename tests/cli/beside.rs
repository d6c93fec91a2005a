//! Several processes that use one folder.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Command;
use std::thread::JoinHandle;

use serde_json::Value;

use crate::run::{Cli, Running, lines, numbered};

#[test]
fn reading_works_beside_a_writer_and_a_second_writer_is_told_who_has_the_folder() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", b"zero\n");
    cli.ok(&["consume", "orders", "-g", "billing"]);
    let mut writer = cli.start(&["produce", "orders"]);
    writer.write(b"one\ntwo\n");
    // Ends once the lines are there, which also shows that the writer has the folder.
    let seen = cli.ok(&["consume", "orders", "--follow", "--max", "3"]);
    assert_eq!(seen, b"zero\none\ntwo\n");

    let topics: Value = serde_json::from_slice(&cli.ok(&["topic", "list", "--json"])).unwrap();
    assert_eq!(topics["records"], 3);
    assert!(cli.ok_text(&["topic", "describe", "orders"]).contains("segment.bytes"));
    let group = cli.ok(&["group", "describe", "billing", "--json"]);
    let group: Value = serde_json::from_slice(&group).unwrap();
    assert_eq!(group["offsets"][0]["lag"], 2);
    assert!(cli.ok_text(&["group", "list"]).contains("billing"));
    cli.ok(&["dump", "orders-0"]);

    let pid = writer.0.id().to_string();
    for args in [
        &["produce", "orders"][..],
        &["topic", "create", "more"],
        &["topic", "delete", "orders"],
        &["consume", "orders", "-g", "billing"],
    ] {
        let error = cli.fails(args);
        assert!(error.contains("locked") && error.contains(&pid), "{error}");
    }

    drop(writer.0.stdin.take());
    assert!(writer.0.wait().unwrap().success());
    assert_eq!(cli.ok(&["consume", "orders", "-g", "billing"]), b"one\ntwo\n");
}

#[test]
fn a_follower_sees_every_line_of_writers_that_come_and_go() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    let follower = cli.start(&["consume", "orders", "--follow", "--max", "4000"]);
    let reader = read_all(follower);
    for n in 0..4 {
        cli.produce("orders", &numbered(n * 1000, (n + 1) * 1000));
    }
    assert!(reader.join().unwrap() == numbered(0, 4000));
}

#[test]
fn a_group_follower_leaves_the_folder_to_others_in_between() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", b"begin\n");
    let mut follower =
        cli.start(&["consume", "orders", "-g", "billing", "--follow", "--max", "41"]);
    let mut begin = [0; 6];
    follower.0.stdout.as_mut().unwrap().read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"begin\n");
    let reader = read_all(follower);
    for n in 0..4 {
        let input = numbered(n * 10, (n + 1) * 10);
        // At this moment the follower may hold the folder.
        while cli.feed(&["produce", "orders"], &input).code != Some(0) {}
    }
    assert!(reader.join().unwrap() == numbered(0, 40));
    assert_eq!(lines(&cli.ok(&["consume", "orders", "-g", "billing"])).len(), 0);
}

/// Expects the next bytes that a process prints.
fn expect(running: &mut Running, expected: &[u8]) {
    let mut seen = vec![0; expected.len()];
    running.0.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(expected));
}

fn signal(running: &Running, signal: &str) {
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Runs a command repeatedly while another process holds the folder.
fn insist(cli: &Cli, args: &[&str], input: &[u8]) {
    while cli.feed(args, input).code != Some(0) {}
}

/// Returns the numbers as lines.
fn count(from: usize, to: usize) -> Vec<u8> {
    let line = |n: usize| format!("{n}\n");
    (from..to).map(line).collect::<String>().into_bytes()
}

#[test]
fn a_follower_reads_all_of_a_topic_that_was_created_again_between_two_looks() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t"]);
    cli.produce("t", &count(1, 11));
    let mut follower = cli.start(&["consume", "t", "--follow", "--max", "25"]);
    expect(&mut follower, &count(1, 11));
    signal(&follower, "-STOP");
    cli.ok(&["topic", "delete", "t"]);
    cli.ok(&["topic", "create", "t"]);
    cli.produce("t", &count(101, 116));
    signal(&follower, "-CONT");
    assert!(read_all(follower).join().unwrap() == count(101, 116));
}

#[test]
fn a_follower_waits_for_a_topic_that_it_finds_deleted() {
    let cli = Cli::new();
    for topic in ["t", "u"] {
        cli.ok(&["topic", "create", topic]);
    }
    cli.produce("t", &count(1, 11));
    let mut follower =
        cli.start(&["consume", "t", "u", "--follow", "--from", "earliest", "--max", "27"]);
    expect(&mut follower, &count(1, 11));
    cli.ok(&["topic", "delete", "t"]);
    // Its output of the other topic shows that it has looked meanwhile.
    cli.produce("u", b"one\n");
    expect(&mut follower, b"one\n");
    cli.ok(&["topic", "create", "t"]);
    cli.produce("u", b"two\n");
    expect(&mut follower, b"two\n");
    cli.produce("t", &count(101, 116));
    assert!(read_all(follower).join().unwrap() == count(101, 116));
    // A command that begins with a missing topic has a typing error in its name.
    assert!(cli.fails(&["consume", "t", "v", "--follow"]).contains("\"v\" does not exist"));
}

/// Deleting the topic deletes the files that the follower still wants to read.
#[test]
fn a_follower_in_the_middle_of_a_topic_that_is_deleted_goes_on_with_the_new_one() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t", "--config", "segment.bytes=16384"]);
    // Far more than a pipe holds, so the follower is in the middle while nobody reads.
    let old = numbered(0, 20_000);
    cli.produce("t", &old);
    let mut follower = cli.start(&["consume", "t", "--follow"]);
    expect(&mut follower, &old[..100]);
    cli.ok(&["topic", "delete", "t"]);
    cli.ok(&["topic", "create", "t"]);
    let new = [&count(101, 116)[..], b"end\n"].concat();
    cli.produce("t", &new);
    let mut seen = old[..100].to_vec();
    let mut output = BufReader::new(follower.0.stdout.take().unwrap());
    while !seen.ends_with(b"\nend\n") {
        let printed = output.read_until(b'\n', &mut seen).unwrap();
        assert!(printed > 0, "it ends");
    }
    let rest = seen.strip_suffix(&new[..]).unwrap();
    assert!(old.starts_with(rest) && rest.len() < old.len(), "{} bytes", rest.len());
}

#[test]
fn a_group_follower_reads_all_of_a_topic_that_was_created_again() {
    let cli = Cli::new();
    for topic in ["t", "u"] {
        cli.ok(&["topic", "create", topic]);
    }
    cli.produce("t", &count(1, 11));
    let args = ["consume", "t", "u", "-g", "g", "--from", "latest", "--follow", "--max", "16"];
    let mut follower = cli.start(&args);
    // The follower begins at the end, where its first turn left it.
    while cli.run(&["group", "describe", "g"]).code != Some(0) {}
    insist(&cli, &["topic", "delete", "t"], b"");
    insist(&cli, &["produce", "u"], b"one\n");
    expect(&mut follower, b"one\n");
    insist(&cli, &["topic", "create", "t"], b"");
    insist(&cli, &["produce", "t"], &count(101, 116));
    assert!(read_all(follower).join().unwrap() == count(101, 116));
    assert_eq!(lines(&cli.ok(&["consume", "t", "-g", "g"])).len(), 0);
}

/// Waits for a process to end successfully. Returns its remaining output.
fn read_all(mut running: Running) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut bytes, mut errors) = (Vec::new(), String::new());
        running.0.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        running.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(running.0.wait().unwrap().success(), "{errors}");
        bytes
    })
}
