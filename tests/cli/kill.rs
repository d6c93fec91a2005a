//! SIGKILL at any time: a consumer skips nothing, a producer leaves a prefix.

use std::collections::BTreeSet;
use std::io::Read as _;

use grouplog::time::{Random as _, SeededRandom};

use crate::run::{Cli, lines, numbered};

const LINES: usize = 20_000;

#[test]
fn a_killed_group_consumer_may_print_again_but_skips_nothing() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "orders", "-p", "2"]);
    let input = numbered(0, LINES);
    cli.produce("orders", &input);
    let random = SeededRandom::new(7);
    let mut outputs = Vec::new();
    for _ in 0..8 {
        let mut consumer = cli.start(&["consume", "orders", "-g", "billing"]);
        let mut stdout = consumer.0.stdout.take().unwrap();
        // A slow reader of the output can stop the consumer at any point of its work.
        let mut output = vec![0; (random.next_u64() % 100_000) as usize];
        let mut read = 0;
        while read < output.len() {
            match stdout.read(&mut output[read..]).unwrap() {
                0 => break,
                more => read += more,
            }
        }
        output.truncate(read);
        consumer.kill();
        stdout.read_to_end(&mut output).unwrap();
        outputs.push(output);
    }
    outputs.push(cli.ok(&["consume", "orders", "-g", "billing"]));

    let expected: BTreeSet<&[u8]> = lines(&input).into_iter().collect();
    let printed: BTreeSet<&[u8]> = outputs.iter().flat_map(|output| lines(output)).collect();
    assert!(printed.is_subset(&expected), "a line that nobody sent");
    assert_eq!(expected.difference(&printed).count(), 0, "lines were skipped");
    let total: usize = outputs.iter().map(|output| lines(output).len()).sum();
    // At most one poll is printed again, and whatever had not left the pipe.
    assert!(total < 2 * LINES, "{total} lines printed for {LINES}");
}

#[test]
fn a_killed_producer_leaves_a_prefix_with_everything_that_was_seen() {
    let random = SeededRandom::new(11);
    for acks in ["written", "synced", "written", "synced"] {
        let cli = Cli::new();
        cli.ok(&["topic", "create", "orders", "-c", "segment.bytes=65536"]);
        let input = numbered(0, LINES);
        let mut producer = cli.start(&["produce", "orders", "--acks", acks]);
        let cut = (random.next_u64() % input.len() as u64) as usize;
        producer.write(&input[..cut]);
        // Another process has seen a part of it: that part stays.
        let some = lines(&input[..cut]).len().saturating_sub(LINES / 10).max(1);
        let some = some.min(lines(&input[..cut]).len()).to_string();
        let seen = cli.ok(&["consume", "orders", "--follow", "--max", &some]);
        producer.kill();

        let left = cli.ok(&["consume", "orders"]);
        assert!(input.starts_with(&left), "not a prefix after {cut} bytes, {acks}");
        assert!(left.starts_with(&seen), "{acks}: what was seen is gone");
        // The next writer recovers the same prefix and continues.
        cli.produce("orders", b"after\n");
        assert!(cli.ok(&["consume", "orders"]) == [&left[..], b"after\n"].concat());
    }
}
