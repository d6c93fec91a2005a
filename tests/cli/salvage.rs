//! Reading sound records beside damage, and behind it.

use std::path::PathBuf;

use serde_json::Value;

use crate::run::{Cli, Ran, lines, numbered};

const RECORDS: usize = 9_000;

/// Creates three partitions of small segments, each with the same lines.
fn folder() -> Cli {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "3", "-c", "segment.bytes=65536"]);
    for partition in ["0", "1", "2"] {
        let args = ["produce", "orders", "--partition", partition];
        assert_eq!(cli.feed(&args, &numbered(0, RECORDS)).code, Some(0));
    }
    cli
}

/// Returns the segment files of a partition, in order.
fn segments(cli: &Cli, partition: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cli.path(&format!("data/orders-{partition}"))).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Flips a bit in the records of the first batch of a segment. Returns the offsets of that batch.
fn damage(path: &PathBuf) -> (i64, i64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[200] ^= 4;
    let base = i64::from_be_bytes(bytes[..8].try_into().unwrap());
    let delta = i32::from_be_bytes(bytes[23..27].try_into().unwrap());
    std::fs::write(path, bytes).unwrap();
    (base, base + i64::from(delta))
}

/// Returns the offsets printed as JSON for each partition, and checks their order.
fn offsets(ran: &Ran) -> [Vec<i64>; 3] {
    let mut offsets = [const { Vec::new() }; 3];
    for line in lines(&ran.stdout) {
        let record: Value = serde_json::from_slice(line).unwrap();
        let partition = record["partition"].as_u64().unwrap();
        offsets[partition as usize].push(record["offset"].as_i64().unwrap());
    }
    offsets
}

fn all() -> Vec<i64> {
    (0..RECORDS as i64).collect()
}

fn without(ranges: &[(i64, i64)]) -> Vec<i64> {
    let is_whole =
        |offset: &i64| !ranges.iter().any(|(first, last)| (first..=last).contains(&offset));
    all().into_iter().filter(is_whole).collect()
}

#[test]
fn a_damaged_partition_does_not_keep_the_others_from_being_read() {
    let cli = folder();
    let (first, _) = damage(&segments(&cli, 1)[1]);
    let max = (2 * RECORDS as i64 + first).to_string();
    let plain = &["consume", "orders", "--json"][..];
    for args in [
        plain,
        &[plain, &["-g", "billing"]].concat(),
        &[plain, &["--follow", "--max", &max]].concat(),
    ] {
        let ran = cli.run(args);
        let [zero, one, two] = offsets(&ran);
        assert!(zero == all() && two == all(), "{args:?}: {}", ran.stderr);
        assert!(one == (0..first).collect::<Vec<_>>(), "{args:?}: {}", ran.stderr);
        if args.contains(&"--max") {
            continue; // The limit may come before the damage.
        }
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stderr);
        assert_eq!(lines(ran.stderr.as_bytes()).len(), 1, "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("orders-1") && ran.stderr.contains("checksum"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("--skip-damaged"), "{}", ran.stderr);
    }
    // The group has committed what it printed, and stays before the damage.
    let again = cli.run(&["consume", "orders", "-g", "billing"]);
    assert_eq!((again.code, again.stdout.len()), (Some(1), 0));
    let group = cli.ok_text(&["group", "describe", "billing", "--json"]);
    let group: Value = serde_json::from_str(&group).unwrap();
    assert_eq!(group["offsets"][1]["committed"], first);

    // The command line can choose partitions.
    let args = ["consume", "orders", "--json", "--partition", "2", "--partition", "0"];
    let ran = cli.run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(offsets(&ran) == [all(), Vec::new(), all()]);
    for group in [&[][..], &["-g", "more"]] {
        let args = [&["consume", "orders", "--partition", "3"][..], group].concat();
        assert!(cli.fails(&args).contains("orders-3 does not exist"));
    }
    assert_eq!(
        cli.ok(&["consume", "orders", "-g", "more", "--partition", "2"]),
        numbered(0, RECORDS)
    );
}

#[test]
fn salvage_goes_on_behind_each_damaged_range_and_names_it() {
    let cli = folder();
    let paths = segments(&cli, 1);
    let mut ranges = vec![damage(&paths[0]), damage(&paths[2])];
    let other = damage(&segments(&cli, 2)[1]);
    std::fs::remove_file(&paths[4]).unwrap();
    let base = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
    ranges.push((base(&paths[4]), base(&paths[5]) - 1));
    let plain = &["consume", "orders", "--json", "--skip-damaged"][..];
    for args in [plain, &[plain, &["-g", "billing"]].concat()] {
        let ran = cli.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
        assert!(offsets(&ran) == [all(), without(&ranges), without(&[other])], "{args:?}");
        assert_eq!(lines(ran.stderr.as_bytes()).len(), 4, "{}", ran.stderr);
        for (partition, (first, last)) in ranges.iter().map(|range| (1, range)).chain([(2, &other)])
        {
            let line =
                format!("grouplog: skipped offsets {first} to {last} of orders-{partition}: ");
            assert!(ran.stderr.contains(&line), "{line:?}: {}", ran.stderr);
        }
    }
    // The group is behind the damage now.
    let again = cli.run(&["consume", "orders", "-g", "billing"]);
    assert_eq!((again.code, again.stdout, again.stderr), (Some(0), Vec::new(), String::new()));
}

#[test]
fn a_follower_ends_when_damage_has_stopped_all_that_it_reads() {
    let cli = folder();
    let (first, _) = damage(&segments(&cli, 1)[1]);
    for group in [&[][..], &["-g", "billing"]] {
        let args = ["consume", "orders", "--partition", "1", "--follow", "--json"];
        let ran = cli.run(&[&args[..], group].concat());
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert_eq!(offsets(&ran)[1].len() as i64, first);
        assert_eq!(lines(ran.stderr.as_bytes()).len(), 1, "{}", ran.stderr);
    }
}
