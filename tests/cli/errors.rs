//! Errors are one line that names what is wrong, and leave nothing behind.

use std::process::Stdio;

use crate::run::{Cli, numbered};

#[test]
fn a_folder_that_is_not_there_is_not_made_by_commands_that_need_one() {
    let cli = Cli::new();
    for args in [
        &["topic", "list"][..],
        &["topic", "describe", "orders"],
        &["topic", "delete", "orders"],
        &["topic", "alter", "orders", "-p", "2"],
        &["consume", "orders"],
        &["consume", "orders", "-g", "billing"],
        &["group", "list"],
        &["group", "describe", "billing"],
        &["group", "reset", "billing", "--to", "latest"],
        &["group", "reset", "billing", "--to", "latest", "--dry-run"],
        &["group", "delete", "billing"],
        &["dump", "orders-0"],
        &["produce", "orders", "--file", "no such file"],
        &["topic", "create", "orders", "-c", "colour=red"],
    ] {
        cli.fails(args);
        assert!(!cli.path("data").exists(), "{args:?}");
    }
    assert!(cli.fails(&["topic", "list"]).contains("./data does not exist"));
}

#[test]
fn names_that_are_wrong_are_named() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    for (args, what) in [
        (&["topic", "create", "a b"][..], "\"a b\""),
        (&["topic", "create", "orders"], "exists already"),
        (&["topic", "create", "none", "-p", "0"], "partitions"),
        (&["topic", "create", "none", "-c", "segment.bytes=7"], "segment.bytes"),
        (&["topic", "describe", "nobody"], "\"nobody\""),
        (&["topic", "delete", "nobody"], "\"nobody\""),
        (&["topic", "alter", "nobody", "-p", "2"], "\"nobody\""),
        (&["topic", "alter", "orders", "-p", "1"], "cannot be taken away"),
        (&["topic", "alter", "orders", "-c", "segment.bytes=7"], "segment.bytes"),
        (&["topic", "alter", "orders", "-c", "colour=red"], "colour"),
        (&["consume", "nobody"], "\"nobody\""),
        (&["consume", "orders", "nobody", "-g", "billing"], "\"nobody\""),
        (&["consume", "orders", "-g", "a\nb"], "invalid name"),
        (&["produce", "nobody"], "\"nobody\""),
        (&["group", "describe", "nobody"], "\"nobody\""),
        (&["dump", "nobody-0"], "nobody-0"),
    ] {
        let error = cli.fails(args);
        assert!(error.contains(what), "{args:?}: {error}");
    }
    let ran = cli.feed(&["produce", "orders", "--partition", "3"], b"line\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("orders-3"), "{}", ran.stderr);
}

#[test]
fn bad_usage_is_exit_code_2() {
    let cli = Cli::new();
    for args in [
        &[][..],
        &["nothing"],
        &["consume"],
        &["consume", "orders", "--from", "yesterday"],
        &["consume", "orders", "--from", "-1"],
        &["consume", "orders", "--max", "0"],
        &["consume", "orders", "--format", "%x"],
        &["produce", "orders", "--acks", "maybe"],
        &["produce", "orders", "--key-separator", ""],
        &["topic", "create", "orders", "-c", "colour"],
        &["topic", "alter", "orders"],
        &["topic", "alter", "orders", "-p", "2", "-c", "segment.bytes=5000"],
        &["group", "reset", "billing"],
        &["group", "reset", "billing", "--to", "yesterday"],
        &["group", "reset", "billing", "--to", "latest", "--partition", "0"],
        &["dump", "orders-0", "--batches", "--records"],
    ] {
        assert_eq!(cli.run(args).code, Some(2), "{args:?}");
    }
    assert!(!cli.path("data").exists());
}

#[test]
fn a_line_that_is_refused_is_named_and_those_before_it_are_in() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-c", "max.message.bytes=2000"]);
    let before = numbered(0, 1500);
    let input = [&before[..], &[b'x'; 3000], b"\nnever\n"].concat();
    let ran = cli.feed(&["produce", "orders"], &input);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("grouplog: line 1501 of stdin is refused"), "{}", ran.stderr);
    assert!(ran.stderr.contains("max.message.bytes 2000"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the 1500 before it were appended"), "{}", ran.stderr);
    assert!(cli.ok(&["consume", "orders"]) == before);

    let ran = cli.feed(&["produce", "orders", "--key-separator", "::"], b"k::v\nno key\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 2") && ran.stderr.contains("\"::\""), "{}", ran.stderr);

    // A line without end is given up before it fills the memory.
    let ran = cli.feed(&["produce", "orders"], &vec![b'x'; 40 << 20]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 1 "), "{}", ran.stderr);
}

#[test]
fn somebody_elses_folder_is_left_alone() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/letter.txt"), "dear").unwrap();
    for args in
        [&["topic", "list"][..], &["topic", "create", "orders"], &["consume", "orders", "-g", "g"]]
    {
        let error = cli.fails(args);
        assert!(error.contains("data") && error.contains("not a grouplog folder"), "{error}");
    }
    assert_eq!(std::fs::read_dir(cli.path("data")).unwrap().count(), 1);
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", &numbered(0, 100));
    let path = cli.path("data/orders-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    for args in
        [&["consume", "orders"][..], &["consume", "orders", "-g", "g"], &["dump", "orders-0"]]
    {
        let error = cli.fails(args);
        assert!(error.contains("00000000000000000000.log"), "{error}");
        assert!(error.contains("byte 0") && error.contains("checksum"), "{error}");
    }
    let records = cli.run(&["dump", "orders-0", "--records"]);
    assert_eq!((records.code, records.stdout.len()), (Some(1), 0));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_and_nothing_unread_is_committed() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", &numbered(0, 50_000));
    let mut child = cli
        .command(&["consume", "orders", "-g", "billing"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    // Nobody read a line, so all are still to be read.
    assert!(cli.ok(&["consume", "orders", "-g", "billing"]) == numbered(0, 50_000));
}
