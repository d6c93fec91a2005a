//! An error is one line that names what is wrong, and it leaves nothing behind.

use std::process::Stdio;

use serde_json::Value;

use crate::run::{Cli, Ran, numbered};

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
        &["consume", "orders", "--share", "workers"],
        &["share", "redrive", "workers"],
        &["share", "redrive", "workers", "--dry-run"],
        &["group", "list"],
        &["group", "describe", "billing"],
        &["group", "reset", "billing", "--to", "latest"],
        &["group", "reset", "billing", "--to", "latest", "--dry-run"],
        &["group", "delete", "billing"],
        &["dump", "orders-0"],
        &["produce", "orders"],
        &["produce", "orders", "--file", "no such file"],
        &["records", "delete", "orders", "--partition", "0", "--before", "latest"],
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
        (&["topic", "alter", "orders", "-p", "1"], "cannot be removed"),
        (&["topic", "alter", "orders", "-c", "segment.bytes=7"], "segment.bytes"),
        (&["topic", "alter", "orders", "-c", "colour=red"], "colour"),
        (&["consume", "nobody"], "\"nobody\""),
        (&["consume", "orders", "nobody", "-g", "billing"], "\"nobody\""),
        (&["consume", "orders", "-g", "a\nb"], "control character, such as a line feed"),
        (
            &["consume", "orders", "--partition", "1"],
            "orders-1 does not exist: the topic has 1 partition;",
        ),
        (&["produce", "orders", "--partition", "1"], "orders-1 does not exist"),
        (&["records", "delete", "nobody", "--partition", "0", "--before", "0"], "\"nobody\""),
        (&["records", "delete", "orders", "--partition", "1", "--before", "0"], "orders-1"),
        (
            &["records", "delete", "orders", "--partition", "0", "--before", "1"],
            "offset 1 of orders-0",
        ),
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
fn if_not_exists_accepts_a_topic_and_leaves_it_as_it_is() {
    let cli = Cli::new();
    let create = |more: &[&str]| {
        cli.run(&[&["topic", "create", "orders", "--if-not-exists"], more].concat())
    };
    let text = |ran: Ran| {
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(text(create(&["-p", "2"])), "created topic orders with 2 partitions\n");
    let before = cli.ok_text(&["topic", "describe", "orders"]);
    let exists = "topic orders exists already, with 2 partitions; nothing was changed\n";
    assert_eq!(text(create(&["-p", "5", "-c", "segment.bytes=65536"])), exists);
    let json: Value = serde_json::from_str(&text(create(&["--json"]))).unwrap();
    assert_eq!((&json["exists"], &json["partitions"]), (&"orders".into(), &2.into()));
    assert!(json.get("created").is_none(), "{json}");
    assert_eq!(cli.ok_text(&["topic", "describe", "orders"]), before);
    // Other errors stay errors.
    let ran = create(&["-c", "colour=red"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("colour"), "{}", ran.stderr);
    let error = cli.fails(&["topic", "create", "Orders", "--if-not-exists"]);
    assert!(error.contains("\"Orders\""), "{error}");
    let error = cli.fails(&["topic", "create", "orders"]);
    assert!(error.contains("exists already") && error.contains("--if-not-exists"), "{error}");
}

#[test]
fn a_count_of_one_is_singular() {
    let cli = Cli::new();
    assert_eq!(
        cli.ok_text(&["topic", "create", "orders"]),
        "created topic orders with 1 partition\n"
    );
    let ran = cli.feed(&["produce", "orders"], b"x");
    assert!(ran.stderr.starts_with("1 record synced, 1 byte, "), "{}", ran.stderr);
    let checked = cli.ok_text(&["verify"]);
    for part in ["checked 1 partition, 1 segment, 1 batch, 1 record, ", ": 0 findings\n"] {
        assert!(checked.contains(part), "{checked}");
    }
    let path = cli.path("data/orders-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[65] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let ran = cli.run(&["verify"]);
    assert!(ran.stderr.starts_with("grouplog: 1 finding of damage, "), "{}", ran.stderr);
    let ran = cli.feed(&["produce", "orders", "--key-separator", ":"], b"a:b\nc\n");
    assert!(ran.stderr.contains("the line before it was appended"), "{}", ran.stderr);
}

#[test]
fn group_names_are_any_text_without_control_characters() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    for name in ["../x", "\u{fc}ber", "a b/c"] {
        cli.ok(&["consume", "orders", "-g", name]);
        assert!(cli.ok_text(&["group", "list"]).contains(name));
    }
    assert!(!cli.path("x").exists());
}

#[test]
fn a_mistyped_folder_is_not_made() {
    let cli = Cli::new();
    for args in [&["topic", "create", "orders"][..], &["produce", "orders"], &["topic", "list"]] {
        let error = cli.fails(&[&["--data", "srv/data/here"], args].concat());
        assert!(error.contains("srv/data/here") && error.contains("--data"), "{error}");
        assert!(!cli.path("srv").exists(), "{args:?}");
    }
    std::fs::write(cli.path("file"), "").unwrap();
    cli.fails(&["--data", "file", "topic", "create", "orders"]);
    cli.fails(&["--data", "file/data", "topic", "create", "orders"]);
    // Only the last component is created.
    std::fs::create_dir(cli.path("srv")).unwrap();
    cli.ok(&["--data", "srv/data", "topic", "create", "orders"]);
    cli.ok(&["--data", "srv/data/", "topic", "list"]);
}

#[test]
fn reading_that_begins_elsewhere_than_requested_says_so() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "3"]);
    let ran = cli.feed(&["produce", "orders", "--partition", "0"], b"a\nb\nc\n");
    assert_eq!(ran.code, Some(0));
    let args = ["consume", "orders", "--partition", "0", "--from"];
    for group in [&[][..], &["-g", "billing"]] {
        let ran = cli.run(&[&args[..], &["99999"], group].concat());
        assert_eq!((ran.code, ran.stdout.as_slice()), (Some(0), &b""[..]));
        let note = "grouplog: orders-0 ends at offset 3: reading begins there, not at 99999\n";
        assert_eq!(ran.stderr, note);
    }
    let ran = cli.run(&["consume", "orders", "--from", "4"]);
    assert!(ran.stderr.ends_with("not at 4; 2 other partitions likewise\n"), "{}", ran.stderr);
    assert_eq!(cli.run(&[&args[..], &["3"]].concat()).stderr, "");
    cli.ok(&["records", "delete", "orders", "--partition", "0", "--before", "2"]);
    let ran = cli.run(&[&args[..], &["1"]].concat());
    assert_eq!((ran.code, ran.stdout.as_slice()), (Some(0), &b"c\n"[..]));
    assert_eq!(
        ran.stderr,
        "grouplog: orders-0 starts at offset 2: reading begins there, not at 1\n"
    );
    assert_eq!(cli.run(&[&args[..], &["0"]].concat()).stderr, "");
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
        &["produce", "orders", "--key-separator", "\\q"],
        &["records", "delete", "orders", "--partition", "0"],
        &["records", "delete", "orders", "--partition", "0", "--before", "-1"],
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
    assert!(ran.stderr.contains("max.message.bytes allows: 2000"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the 1500 lines before it were appended"), "{}", ran.stderr);
    assert!(cli.ok(&["consume", "orders"]) == before);

    let ran = cli.feed(&["produce", "orders", "--key-separator", "::"], b"k::v\nno key\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 2") && ran.stderr.contains("\"::\""), "{}", ran.stderr);

    // A line without an end is refused before it fills the memory.
    let ran = cli.feed(&["produce", "orders"], &vec![b'x'; 40 << 20]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 1 "), "{}", ran.stderr);
}

#[test]
fn a_foreign_folder_is_not_changed() {
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
    // Nobody read a line, so all lines are still to be read.
    assert!(cli.ok(&["consume", "orders", "-g", "billing"]) == numbered(0, 50_000));
}
