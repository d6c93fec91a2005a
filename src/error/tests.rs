//! Tests of error messages.

use super::*;

#[test]
fn errors_stay_small() {
    assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
}

/// Compares each message with the expected text, filled in.
fn check(texts: &[(Error, &str)]) {
    for (error, expected) in texts {
        assert_eq!(error.to_string(), *expected);
    }
}

fn io() -> Error {
    let source = Arc::new(io::Error::from_raw_os_error(5));
    Error::Io { op: "open", path: Path::new("d/x").into(), position: None, source }
}

#[test]
fn the_errors_of_a_folder_are_sentences() {
    check(&[
        (
            Error::Locked { path: "d/lock".into(), pid: Some(7) },
            "d/lock is locked by process 7; close it first",
        ),
        (
            Error::NotADatabase { path: "d".into(), reason: "it has no checkpoint" },
            "d is not a grouplog folder: it has no checkpoint",
        ),
        (
            Error::UnsupportedFormat {
                path: "d/x".into(),
                what: "format version".into(),
                found: 9,
                max: 2,
            },
            "d/x has format version 9, but this build knows 2; use a newer grouplog",
        ),
        (
            Error::corrupt("d/x", 5, CorruptReason::Checksum),
            "d/x is damaged at byte 5: checksum mismatch",
        ),
        (
            Error::MissingSegment { path: "d/x".into(), offsets: (5, 9) },
            "d/x is missing, with offsets 5 to 9",
        ),
        (Error::DiskFull { path: "d/x".into() }, "the disk is full: no space is left for d/x"),
        (io(), "cannot open d/x: Input/output error (os error 5)"),
        (
            Error::Failed { cause: Arc::new(io()) },
            "an earlier failure stopped all writing; open the folder again: \
             cannot open d/x: Input/output error (os error 5)",
        ),
        (
            Error::Indeterminate { cause: Arc::new(io()) },
            "the outcome is unknown; open the folder again to learn it: \
             cannot open d/x: Input/output error (os error 5)",
        ),
        (
            Error::Poisoned { what: "partition orders-3".into() },
            "a panic stopped partition orders-3",
        ),
        (Error::Busy { path: "d".into() }, "d changes too fast to be read now; try again"),
        (Error::Closed, "the broker or consumer is closed"),
        (
            Error::ForkedChild,
            "the folder was opened before the fork and belongs to the parent process",
        ),
        (
            Error::UnsupportedCodec { codec: "lz4" },
            "this build does not include codec lz4; enable the cargo feature \"lz4\"",
        ),
    ]);
}

#[test]
fn the_errors_of_topics_and_calls_are_sentences() {
    let partition = || TopicPartition::new("orders", 3);
    check(&[
        (Error::UnknownTopic { topic: "orders".into() }, "topic \"orders\" does not exist"),
        (
            Error::UnknownPartition { partition: partition(), partitions: 2 },
            "orders-3 does not exist: the topic has 2 partitions",
        ),
        (Error::TopicExists { topic: "orders".into() }, "topic \"orders\" exists already"),
        (
            Error::InvalidName { name: "a/b".into(), reason: NameReason::Empty },
            "invalid name \"a/b\": the name is empty",
        ),
        (
            Error::InvalidConfig { key: "segment.ms", value: "x".into(), expected: "a number" },
            "invalid value \"x\" for segment.ms: expected a number",
        ),
        (
            Error::RecordTooLarge { size: 2000, max: 1024 },
            "a record of 2000 bytes is larger than max.message.bytes allows: 1024",
        ),
        (
            Error::InvalidTimestamp {
                timestamp: Timestamp::from_millis(5),
                now: Timestamp::from_millis(7),
            },
            "timestamp 5 is too far from the present, 7: see message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms of the topic",
        ),
        (
            Error::DiskBudget { budget: 9, taken: 8, needed: 7 },
            "the disk budget of 9 bytes has no room for 7 more: 8 are taken; \
             delete records or topics, or raise the budget",
        ),
        (
            Error::Stale { partition: TopicPartition::new("t", 0) },
            "compaction has replaced files of t-0; refresh, and read on from the same position",
        ),
        (
            Error::NullKey { topic: "t".into() },
            "a record of topic \"t\" needs a key, because cleanup.policy compacts the topic",
        ),
        (
            Error::PolicyViolation { topic: "t".into(), reason: "keep it" },
            "cleanup.policy of topic \"t\" does not allow it: keep it",
        ),
        (
            Error::LimitExceeded { what: "bytes of one send_all", found: 9, max: 8 },
            "too many bytes of one send_all: 9 exceeds the limit of 8",
        ),
        (Error::Timeout { what: "journal space" }, "timed out waiting for journal space"),
        (Error::Wakeup, "a call of wakeup ended the wait"),
        (
            Error::Misuse("poll needs subscribe or assign first"),
            "poll needs subscribe or assign first",
        ),
    ]);
}

#[test]
fn the_errors_of_groups_are_sentences() {
    let partition = || TopicPartition::new("orders", 3);
    check(&[
        (
            Error::OffsetOutOfRange { partition: partition(), requested: 1, start: 5, end: 9 },
            "offset 1 of orders-3 is out of range: the log holds 5 to 9",
        ),
        (
            Error::NoOffsetForPartition { partition: partition() },
            "the group has no committed offset for orders-3, and auto.offset.reset does not choose one",
        ),
        (Error::UnknownGroup { group: "billing".into() }, "group \"billing\" does not exist"),
        (
            Error::GroupNotEmpty { group: "billing".into() },
            "group \"billing\" has members; stop them first",
        ),
        (
            Error::Fenced { group: "billing".into(), reason: "its epoch is old" },
            "fenced from group \"billing\": its epoch is old",
        ),
        (
            Error::FencedInstanceId { group: "billing".into(), instance_id: "a".into() },
            "fenced from group \"billing\": another consumer uses group.instance.id \"a\"",
        ),
        (
            Error::InconsistentGroupProtocol { group: "billing".into(), proposed: "range".into() },
            "cannot join group \"billing\": no proposed assignor is supported by all members (proposed: range)",
        ),
        (
            Error::GroupMaxSizeReached { group: "billing".into(), max: 4 },
            "cannot join group \"billing\": it has 4 members, as many as group.max.size allows",
        ),
        (
            Error::InvalidPattern { pattern: "(".into(), reason: "unclosed group".into() },
            "invalid pattern \"(\" of topic names: unclosed group",
        ),
    ]);
}

#[test]
fn a_full_disk_is_told_from_other_failures() {
    let full = Error::io("write", "a", io::Error::from_raw_os_error(28));
    assert!(matches!(full, Error::DiskFull { .. }));
    assert!(full.is_retryable());
    let other = Error::io("write", "a", io::Error::from_raw_os_error(5));
    assert!(matches!(other, Error::Io { op: "write", .. }));
    assert!(std::error::Error::source(&other).is_some());
    let told = other.at_byte(7).to_string();
    assert!(told.starts_with("cannot write a at byte 7: "), "{told}");
}

#[test]
fn a_locked_folder_is_told_by_who_has_it() {
    let text = |pid| Error::Locked { path: "data/lock".into(), pid }.to_string();
    let own = std::process::id();
    assert!(text(Some(own)).contains("this process has it open"), "{}", text(Some(own)));
    assert!(!text(Some(own)).contains(&own.to_string()), "{}", text(Some(own)));
    assert_eq!(
        text(Some(own + 1)),
        format!("data/lock is locked by process {}; close it first", own + 1)
    );
    assert_eq!(text(None), "data/lock is locked by another process; close it first");
}

#[test]
fn the_errors_of_transactions_are_sentences() {
    let partition = || TopicPartition::new("orders", 3);
    check(&[
        (
            Error::ProducerFenced {
                transactional_id: "importer".into(),
                epoch: 2,
                current: Some(3),
            },
            "producer \"importer\" of epoch 2 is fenced: a newer one has epoch 3",
        ),
        (
            Error::ProducerFenced { transactional_id: "importer".into(), epoch: 2, current: None },
            "producer \"importer\" of epoch 2 is fenced: its transactional.id was deleted",
        ),
        (
            Error::OutOfOrderSequence { transactional_id: "importer".into(), sequence: 4, last: 7 },
            "sequence 4 of producer \"importer\" is not above the one before it, 7",
        ),
        (
            Error::NoDeadLetterTopic { group: "mailers".into() },
            "share group \"mailers\" has no topic for dead letters: set \
             errors.deadletterqueue.topic.name to the one that has them",
        ),
        (
            Error::UnknownOwner { transactional_id: "importer".into() },
            "no producer had transactional.id \"importer\"",
        ),
        (
            Error::UnexpectedEnd { partition: partition(), expected: 4, end: 7 },
            "orders-3 ends at offset 7, not at 4: another producer was faster",
        ),
        (
            Error::UnexpectedCommit {
                group: "billing".into(),
                partition: partition(),
                committed: Some(4),
            },
            "group \"billing\" has committed offset 4 for orders-3, not the expected one",
        ),
        (
            Error::UnexpectedCommit {
                group: "billing".into(),
                partition: partition(),
                committed: None,
            },
            "group \"billing\" has not committed the expected offset for orders-3",
        ),
    ]);
}
