//! Records that could not be printed are not committed, and a command without a reader ends.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use crate::run::{Cli, Running, lines, numbered};

fn folder() -> Cli {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders"]);
    cli.produce("orders", &numbered(0, 1_000));
    cli
}

/// Waits for a process that has nothing left to wait for. Returns its exit code, or none if it had to be
/// killed.
fn ended(mut running: Running) -> Option<i32> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let pid = running.0.id();
    std::thread::spawn(move || sender.send(running.0.wait().unwrap().code()));
    receiver.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|_| {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        None
    })
}

#[test]
fn offsets_of_records_that_could_not_be_written_are_not_committed() {
    let cli = folder();
    for stdout in [">&-", "1</dev/null", "1<data/meta.properties", ">/dev/full"] {
        for args in [
            &["consume", "orders", "-g", "billing"][..],
            &["consume", "orders", "-g", "billing", "--follow"],
            &["consume", "orders", "-g", "billing", "--max", "1", "--json"],
            &["consume", "orders"],
        ] {
            let ran = cli.redirected(args, stdout);
            assert_eq!(ran.code, Some(1), "{args:?} {stdout}");
            assert!(ran.stderr.starts_with("grouplog: ") && ran.stderr.contains("out"), "{ran:?}");
            assert_eq!(lines(ran.stderr.as_bytes()).len(), 1, "{args:?} {stdout}: {}", ran.stderr);
        }
        assert_eq!(cli.ok(&["group", "list", "--json"]), b"", "{stdout}");
    }
    // If the output is discarded on purpose, the group moves on.
    let ran = cli.redirected(&["consume", "orders", "-g", "billing"], ">/dev/null");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(cli.ok(&["consume", "orders", "-g", "billing"]), b"");
}

#[test]
fn commands_that_print_do_nothing_without_a_stdout_to_print_to() {
    let cli = folder();
    for args in [
        &["topic", "create", "more"][..],
        &["topic", "list"],
        &["topic", "describe", "orders"],
        &["topic", "delete", "orders"],
        &["records", "delete", "orders", "--partition", "0", "--before", "latest"],
        &["group", "list"],
        &["dump", "orders-0"],
        &["verify"],
    ] {
        let ran = cli.redirected(args, "1</dev/null");
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.stderr.contains("reading only"), "{args:?}: {}", ran.stderr);
    }
    let list = cli.ok_text(&["topic", "list", "--json"]);
    assert!(list.contains("\"records\":1000") && !list.contains("more"), "{list}");
    // A command that prints notices a full device.
    for args in [&["topic", "list"][..], &["dump", "orders-0", "--records"], &["group", "list"]] {
        let ran = cli.redirected(args, ">/dev/full");
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.stderr.contains("cannot write to stdout"), "{args:?}: {}", ran.stderr);
    }
    // `produce` prints nothing there.
    let ran = cli.redirected(&["produce", "orders"], "1</dev/null");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_follower_ends_when_the_reader_of_its_output_goes_away() {
    let cli = folder();
    for args in [
        &["consume", "orders", "--follow"][..],
        &["consume", "orders", "--follow", "-g", "billing"],
    ] {
        let mut follower = cli.start(args);
        let mut stdout = BufReader::new(follower.0.stdout.take().unwrap());
        for _ in 0..1_000 {
            stdout.read_line(&mut String::new()).unwrap();
        }
        // All records are read, and nothing will ever be printed again.
        drop(stdout);
        assert_eq!(ended(follower), Some(0), "{args:?}");
    }
}

#[test]
fn a_group_follower_waits_for_the_folder_from_its_beginning() {
    let cli = folder();
    let mut writer = cli.start(&["produce", "orders"]);
    writer.write(b"one more\n");
    while lines(&cli.ok(&["consume", "orders"])).len() < 1_001 {}
    // The writer holds the folder all the time, so this follower can only end because its reader is gone.
    let args = ["consume", "orders", "-g", "billing", "--follow"];
    let mut follower = cli.start(&args);
    drop(follower.0.stdout.take());
    assert_eq!(ended(follower), Some(0));
    assert_eq!(cli.ok(&["group", "list", "--json"]), b"");

    let mut follower =
        cli.start(&["consume", "orders", "-g", "billing", "--follow", "--max", "1001"]);
    drop(writer.0.stdin.take());
    assert!(writer.0.wait().unwrap().success());
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut follower.0.stdout.take().unwrap(), &mut all).unwrap();
    assert_eq!(ended(follower), Some(0));
    assert!(all == [&numbered(0, 1_000)[..], b"one more\n"].concat());
}

#[test]
fn findings_count_also_where_the_reader_has_seen_enough() {
    let cli = folder();
    // More than stdout's buffer holds.
    for n in 0..2_000 {
        std::fs::write(cli.path(&format!("data/orders-0/{n:020}.log.cleaned")), "half").unwrap();
    }
    let mut verify = cli.start(&["verify"]);
    drop(verify.0.stdout.take());
    assert_eq!(ended(verify), Some(1));
}
