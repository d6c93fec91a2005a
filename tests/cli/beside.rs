//! Several processes at one folder.

use std::io::Read as _;
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
    // Ends when the lines are there, which also says that the writer has the folder.
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
        // The folder may be the follower's at this moment.
        while cli.feed(&["produce", "orders"], &input).code != Some(0) {}
    }
    assert!(reader.join().unwrap() == numbered(0, 40));
    assert_eq!(lines(&cli.ok(&["consume", "orders", "-g", "billing"])).len(), 0);
}

/// Waits for a process to end well; what it still printed.
fn read_all(mut running: Running) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut bytes, mut errors) = (Vec::new(), String::new());
        running.0.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        running.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(running.0.wait().unwrap().success(), "{errors}");
        bytes
    })
}
