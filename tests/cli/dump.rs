//! Printing segment files, those of grouplog and those of Kafka.

use serde_json::Value;

use crate::run::{Cli, lines, numbered};

#[test]
fn kafkas_own_files_are_printed_as_they_are_described() {
    let cli = Cli::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        files += 1;
        let description = std::fs::read(path.with_extension("json")).unwrap();
        let description: Value = serde_json::from_slice(&description).unwrap();
        let path = path.to_str().unwrap();
        let expected = description["batches"].as_array().unwrap();
        let batches = cli.ok_text(&["dump", path, "--json"]);
        let batches: Vec<Value> =
            batches.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(batches.len(), expected.len(), "{path}");
        for (batch, expected) in batches.iter().zip(expected) {
            for field in ["position", "size", "count"] {
                assert_eq!(batch[field], expected[field], "{path}: {field}");
            }
            assert_eq!(batch["crc_ok"], true, "{path}");
        }
        let records = cli.ok_text(&["dump", path, "--records"]);
        let count = batches.iter().map(|batch| batch["count"].as_i64().unwrap()).sum::<i64>();
        assert_eq!(records.lines().count() as i64, count, "{path}");
        assert_eq!(lines(&cli.ok(&["dump", path])).len(), expected.len(), "{path}");
    }
    assert!(files >= 23, "{files}");
}

#[test]
fn a_partition_is_all_its_segments_in_order() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-c", "segment.bytes=65536"]);
    cli.produce("orders", &numbered(0, 10_000));
    let segments = std::fs::read_dir(cli.path("data/orders-0")).unwrap();
    let logs = segments.filter(|entry| {
        entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|ext| ext == "log"))
    });
    assert!(logs.count() > 2);
    let text = cli.ok_text(&["dump", "orders-0", "--records"]);
    for (n, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("offset={n} ")), "{line}");
    }
    assert_eq!(text.lines().count(), 10_000);
    let text = cli.ok_text(&["dump", "orders-0", "--records", "--from", "9998"]);
    assert_eq!(text.lines().count(), 2);
    let batches = cli.ok_text(&["dump", "orders-0", "--from", "9998"]);
    assert_eq!(batches.lines().count(), 1, "{batches}");
}

#[test]
fn damage_is_reported_and_sound_batches_are_printed() {
    let cli = Cli::new();
    let vector = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/py_many_batches.log");
    let whole = std::fs::read(vector).unwrap();
    let batches = lines(&cli.ok(&["dump", vector])).len();

    std::fs::write(cli.path("cut.log"), &whole[..whole.len() - 1]).unwrap();
    let ran = cli.run(&["dump", "cut.log"]);
    assert_eq!((ran.code, lines(&ran.stdout).len()), (Some(1), batches - 1));
    assert!(ran.stderr.contains("cut.log") && ran.stderr.contains("the file ends"), "{ran:?}");

    let mut bytes = whole.clone();
    bytes[70] ^= 1;
    std::fs::write(cli.path("bit.log"), &bytes).unwrap();
    let ran = cli.run(&["dump", "bit.log"]);
    assert_eq!((ran.code, lines(&ran.stdout).len()), (Some(1), batches));
    assert!(ran.stdout.windows(9).any(|part| part == b"crc=wrong"));
    assert!(ran.stderr.contains("byte 0") && ran.stderr.contains("checksum"), "{}", ran.stderr);

    std::fs::write(
        cli.path("none.log"),
        "this is no segment, but long enough to have a header of 61 bytes",
    )
    .unwrap();
    let error = cli.fails(&["dump", "none.log"]);
    assert!(error.contains("magic"), "{error}");
    std::fs::write(cli.path("empty.log"), "").unwrap();
    assert_eq!(cli.ok(&["dump", "empty.log"]), b"");
}

#[test]
fn kafkas_other_files_are_printed_or_refused_in_plain_words() {
    let cli = Cli::new();
    let numbers =
        |numbers: &[i64]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>();
    let entry = [&[0, 0][..], &numbers(&[7, 10, 19, 12])].concat();
    let second = [&[0, 0][..], &numbers(&[8, 20, 21, 22])].concat();
    std::fs::write(cli.path("0.txnindex"), [&entry[..], &second].concat()).unwrap();
    let text = cli.ok_text(&["dump", "0.txnindex"]);
    assert_eq!(
        text,
        "aborted position=0 producer_id=7 first_offset=10 last_offset=19 last_stable_offset=12\n\
         aborted position=34 producer_id=8 first_offset=20 last_offset=21 last_stable_offset=22\n"
    );
    std::fs::write(cli.path("0.txnindex"), [&entry[..], &second[..9]].concat()).unwrap();
    let ran = cli.run(&["dump", "0.txnindex"]);
    assert_eq!((ran.code, lines(&ran.stdout).len()), (Some(1), 1));
    assert!(ran.stderr.contains("0.txnindex is damaged at byte 34"), "{}", ran.stderr);

    // One producer with an open transaction. Another program computed the checksum.
    let snapshot = [
        &[0, 1][..],
        &0x0171_68ce_u32.to_be_bytes(),
        &[0, 0, 0, 1],
        &numbers(&[4_000]),
        &[0, 3],
        &[0, 0, 0, 41],
        &numbers(&[1_234]),
        &[0, 0, 0, 4],
        &numbers(&[1_700_000_000_000]),
        &[0xff; 4],
        &numbers(&[1_200]),
    ]
    .concat();
    let path = cli.path("1234.snapshot");
    std::fs::write(&path, &snapshot).unwrap();
    let text = cli.ok_text(&["dump", "1234.snapshot", "--json"]);
    let entries: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&entries[0]["version"], &entries[0]["count"]), (&1.into(), &1.into()));
    let producer = &entries[1];
    for (field, value) in [
        ("position", 10),
        ("producer_id", 4_000),
        ("producer_epoch", 3),
        ("last_sequence", 41),
        ("last_offset", 1_234),
        ("offset_delta", 4),
        ("timestamp", 1_700_000_000_000_i64),
        ("coordinator_epoch", -1),
        ("transaction_first_offset", 1_200),
    ] {
        assert_eq!(producer[field], value, "{field}");
    }
    for (at, what) in [(20, "checksum"), (1, "version"), (9, "ends within an entry")] {
        let mut bytes = snapshot.clone();
        bytes[at] ^= 2;
        std::fs::write(&path, bytes).unwrap();
        let ran = cli.run(&["dump", "1234.snapshot"]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains(what) && ran.stderr.contains("damaged"), "{}", ran.stderr);
    }

    cli.ok(&["topic", "create", "orders"]);
    std::fs::write(cli.path("data/recovery-point-offset-checkpoint"), "0\n0\n").unwrap();
    // Only an open folder has it.
    std::fs::write(cli.path("data/reserve"), "").unwrap();
    for name in ["reserve", "grouplog.lock", "recovery-point-offset-checkpoint"] {
        let error = cli.fails(&["dump", name]);
        assert!(error.contains("does not read this kind of file"), "{error}");
    }
}

#[test]
fn every_file_of_a_folder_is_printed_entry_by_entry() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", &numbered(0, 5_000));
    cli.ok(&["consume", "orders", "-g", "billing"]);
    // A killed writer leaves frames behind.
    let mut writer = cli.start(&["produce", "orders", "--acks", "written"]);
    writer.write(&numbered(0, 2_000));
    let journal = |number: u32| format!("journal/{number}.journal");
    let entries = |text: &str| {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        text.lines().map(parse).collect::<Vec<_>>()
    };
    let dumped = |name: &str| entries(&cli.ok_text(&["dump", name, "--json"]));
    let kinds =
        |entries: &[Value], kind: &str| entries.iter().filter(|e| e["kind"] == kind).count();
    // The writer may remove a file at any moment.
    let beside_writer = |name: &str| {
        let ran = cli.run(&["dump", name, "--json"]);
        let gone = ran.code == Some(1) && !cli.path("data").join(name).exists();
        assert!(gone || ran.code == Some(0), "{name}: {}", ran.stderr);
        entries(std::str::from_utf8(&ran.stdout).unwrap())
    };
    let appended = || {
        let journals = (0..64).map(journal).filter(|name| cli.path("data").join(name).exists());
        journals.map(|name| kinds(&beside_writer(&name), "append")).sum::<usize>()
    };
    while appended() == 0 {
        std::thread::yield_now();
    }
    writer.kill();

    // A file that a writer has begun to prepare.
    std::fs::write(cli.path("data").join(journal(77)), [0; 9_000]).unwrap();
    let entries = dumped(&journal(77));
    assert_eq!((&entries[0]["kind"], &entries[0]["size"]), (&"unused".into(), &9_000.into()));

    let mut topics = 0;
    for name in ["checkpoint.a", "checkpoint.b"] {
        let entries = dumped(name);
        assert_eq!(kinds(&entries, "header"), 1, "{name}");
        topics += kinds(&entries, "topic");
        if kinds(&entries, "segment") > 0 {
            assert!(entries.iter().any(|e| e["end_offset"] == 5_000), "{entries:?}");
        }
    }
    assert!(topics > 0);
    let offsets =
        ["offsets.a", "offsets.b"].into_iter().filter(|n| cli.path("data").join(n).exists());
    let committed = offsets.flat_map(dumped).filter(|e| e["kind"] == "offset");
    assert!(committed.into_iter().any(|e| e["group"] == "billing" && e["offset"] == 5_000));
    let segment = "orders-0/00000000000000000000";
    let index = dumped(&format!("{segment}.index"));
    let batches = cli.ok_text(&["dump", &format!("data/{segment}.log"), "--json"]);
    let batches: Vec<Value> = batches.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(!index.is_empty());
    for entry in &index {
        let there = batches.iter().find(|b| b["position"] == entry["log_position"]).unwrap();
        assert_eq!(there["last_offset"], entry["last_offset"]);
    }
    assert!(!dumped(&format!("{segment}.timeindex")).is_empty());
    assert!(cli.ok_text(&["dump", "meta.properties"]).contains("directory.id="));
    assert!(cli.ok_text(&["dump", "orders-0/partition.metadata"]).contains("topic_id: "));
    // A folder of one epoch has none.
    std::fs::write(cli.path("data/orders-0/leader-epoch-checkpoint"), "0\n1\n1 0\n").unwrap();
    assert!(cli.ok_text(&["dump", "orders-0/leader-epoch-checkpoint"]).contains("line text=0"));

    // Damage is an error that names the file and the place.
    let path = cli.path("data/checkpoint.a");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = cli.fails(&["dump", "checkpoint.a"]);
    assert!(error.contains("checkpoint.a") && error.contains("checksum"), "{error}");
}
