//! Scripts: short lists of steps that cover every kind of write and sync with a crash.

use std::time::Duration;

use grouplog::record::Compression;
use grouplog::storage::Memory;
use grouplog::{CleanupPolicy, DiskBudgetPolicy, TimestampType, TopicConfig};

use crate::oracle::{COMPACTED, SHRINKING};

/// One thing that a program does with a broker.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Create {
        topic: &'static str,
        config: TopicConfig,
        partitions: u32,
    },
    Delete(&'static str),
    /// Sets the topic's `segment.bytes`.
    Alter(&'static str, u32),
    /// Sets the number of partitions of the topic.
    AddPartitions(&'static str, u32),
    /// Deletes the records of the partition below the offset.
    DeleteRecords(&'static str, u32, i64),
    /// Checks retention. The topic's `retention.consumed` names the group `g`.
    Retain(&'static str, u32),
    /// Compacts the topic, however little is dirty.
    Compact(&'static str),
    /// Runs all maintenance: compacts what is dirty.
    Maintain,
    /// Sends one record, acknowledged as `Written`.
    Send(&'static str, u32, usize),
    /// Sends one record, acknowledged as `Synced`.
    SendSynced(&'static str, u32, usize),
    /// Sends one record with an idempotency id.
    SendId(&'static str, u32, &'static str),
    /// Sends one record whose value looks like journal frames.
    SendLookAlike(&'static str, u32),
    /// Sends records to several partitions, all or nothing.
    SendAll(&'static [(&'static str, u32, usize)]),
    /// Commits a transaction: records, offsets of the groups `g` and `other` in the partitions of the records, and
    /// the next sequence of the owner `o`.
    Transact(&'static [(&'static str, u32, usize)]),
    /// As `Transact`, and waits until it is `Synced`.
    TransactSynced(&'static [(&'static str, u32, usize)]),
    /// Fills a transaction and gives it up.
    Abort(&'static [(&'static str, u32, usize)]),
    /// The share group `s` does something.
    Share(ShareStep),
    /// Makes everything so far `Synced`.
    Flush,
    /// Sets the group's offset in the partition to the log end minus a number.
    Commit {
        group: &'static str,
        topic: &'static str,
        partition: u32,
        behind: i64,
    },
    /// Deletes the group's offset in the partition.
    DeleteOffsets {
        group: &'static str,
        topic: &'static str,
        partition: u32,
    },
    /// Deletes the group with all its offsets.
    DeleteGroup(&'static str),
    /// Lets a week pass, so that all groups are forgotten.
    Expire,
    Checkpoint,
    /// Runs a checkpoint in another thread, which stops before its `pause`-th call that changes
    /// files until the steps are done.
    DuringCheckpoint {
        pause: u32,
        steps: Vec<Step>,
    },
    /// Runs maintenance, which compacts, in another thread. It stops before its `pause`-th call that changes files
    /// until the steps are done.
    DuringCompaction {
        pause: u32,
        steps: Vec<Step>,
    },
    /// Closes the folder and opens it again.
    Reopen,
}

/// What the share group `s` does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ShareStep {
    /// It gets its settings: its dead letters go to the topic `d`.
    Settings,
    /// A member takes the next record of the partition 0 of the topic, and ends it so.
    Work(&'static str, Outcome),
    /// It accepts the record that was taken last with `Hold`.
    AcceptHeld,
}

/// What becomes of a record that a member of a share group has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accept,
    Reject,
    Release,
    /// The member keeps it.
    Keep,
    /// The member keeps it, and accepts it later.
    Hold,
    /// A transaction accepts it, and sends a record to the topic `b`.
    Transact,
}

/// A named script.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) name: String,
    /// The journal's limit, in files.
    pub(crate) journal_files: u64,
    pub(crate) steps: Vec<Step>,
    /// Set if the storage prefers to be synced as a whole.
    pub(crate) syncs_whole: bool,
    /// Set if it is so short that all states that crashes can leave are tried.
    pub(crate) is_short: bool,
    /// The steps after recovery from a crash of the first life, before the next crash.
    pub(crate) second: Vec<Step>,
    /// Appends from this size in bytes on go to the segments at once.
    pub(crate) stored_from: u32,
    /// The disk budget in bytes.
    pub(crate) budget: Option<u64>,
}

/// No append goes to the segments at once.
pub(crate) const NEVER: u32 = u32::MAX;

/// The end of the name of a script that syncs the storage as a whole.
const WHOLE: &str = "+whole";

/// The smallest number of files of a journal.
pub(crate) const FILES: u64 = 4;

impl Script {
    fn new(name: &str, steps: Vec<Step>, second: Vec<Step>) -> Self {
        Self {
            name: name.to_owned(),
            journal_files: FILES,
            steps,
            syncs_whole: false,
            is_short: false,
            second,
            stored_from: NEVER,
            budget: None,
        }
    }

    /// Lets appends of 100 bytes and more go to the segments at once.
    fn stored(self) -> Self {
        Self { stored_from: 100, ..self }
    }

    /// Returns a new storage for the script.
    pub(crate) fn storage(&self, seed: u64) -> Memory {
        let memory = Memory::crash_simulating(seed);
        if self.syncs_whole {
            memory.sync_whole_above(0);
        }
        memory
    }

    /// Returns the script on a storage that prefers to be synced as a whole.
    pub(crate) fn whole(self) -> Self {
        Self { name: format!("{}{WHOLE}", self.name), syncs_whole: true, ..self }
    }

    fn short(self) -> Self {
        Self { is_short: true, ..self }
    }
}

fn create(topic: &'static str, partitions: u32, segment_bytes: u32) -> Step {
    let config = TopicConfig::new().segment_bytes(segment_bytes).index_interval_bytes(256);
    Step::Create { topic, config, partitions }
}

fn commit(topic: &'static str, behind: i64) -> Step {
    Step::Commit { group: "g", topic, partition: 0, behind }
}

fn times(count: usize, step: &Step) -> impl Iterator<Item = Step> {
    std::iter::repeat_n(step.clone(), count)
}

use Step::{
    Checkpoint, Delete, Flush, Reopen, Send, SendAll, SendId, SendLookAlike, SendSynced, Transact,
};

const BOTH_ONCE: &[(&str, u32, usize)] = &[("b", 0, 200), ("a", 0, 300), ("b", 1, 50)];

const BOTH: Step = SendAll(&[("a", 0, 300), ("b", 0, 200), ("a", 0, 50), ("b", 0, 900)]);

/// Appends of the same sizes as in the scripts, so that new batches lie exactly where lost ones
/// lay. Also everything else, for a second topic.
fn second() -> Vec<Step> {
    vec![
        Send("a", 0, 400),
        Send("a", 0, 400),
        Send("a", 0, 400),
        Flush,
        Send("a", 0, 400),
        commit("a", 1),
        Send("a", 0, 400),
    ]
}

/// Creates folder and topic, sends the first records, and closes cleanly.
pub(crate) fn first_open() -> Script {
    let steps = vec![
        create("a", 2, 4096),
        Send("a", 0, 40),
        SendSynced("a", 1, 40),
        Send("a", 1, 0),
        commit("a", 0),
    ];
    Script::new("first_open", steps, second()).short()
}

/// Seals batches and writes them beyond the hard length, rolls segments, then takes a checkpoint.
pub(crate) fn seal_and_roll() -> Script {
    let mut steps = vec![create("a", 1, 2048)];
    steps.extend(times(5, &Send("a", 0, 400)));
    steps.push(Flush);
    steps.extend(times(4, &Send("a", 0, 400)));
    steps.push(Checkpoint);
    steps.extend(times(5, &Send("a", 0, 400)));
    steps.push(SendSynced("a", 0, 1500));
    steps.extend(times(3, &Send("a", 0, 400)));
    steps.push(Reopen);
    steps.push(Send("a", 0, 400));
    Script::new("seal_and_roll", steps, second()).short()
}

/// Runs transactions over two topics whose batches are sealed at different times.
pub(crate) fn send_all() -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 2, 4096)];
    steps.extend([BOTH, BOTH, Flush, BOTH, commit("b", 0), Checkpoint, BOTH, BOTH]);
    steps.extend([SendAll(&[("b", 1, 30), ("a", 0, 30)]), Flush, BOTH, commit("a", 2), BOTH]);
    Script::new("send_all", steps, second()).short()
}

/// Commits transactions of records, offsets of two groups, and a sequence, between other appends and checkpoints.
pub(crate) fn transactions() -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 2, 4096)];
    steps.extend([Transact(BOTH_ONCE), Send("a", 0, 400), Transact(BOTH_ONCE), Flush]);
    steps.extend([Step::Abort(BOTH_ONCE), Transact(&[("b", 1, 900)]), commit("a", 0), Checkpoint]);
    steps.extend([Transact(BOTH_ONCE), Transact(&[]), Step::TransactSynced(BOTH_ONCE), Reopen]);
    steps.extend([Transact(BOTH_ONCE), Checkpoint, Transact(&[("a", 0, 30)])]);
    let mut second = second();
    second.extend([Transact(&[("a", 0, 400)]), Transact(&[])]);
    Script::new("transactions", steps, second).short()
}

/// Sends records with ids, some of them again, between checkpoints and openings, and in a topic that is deleted.
pub(crate) fn ids() -> Script {
    let mut steps = vec![create("a", 2, 2048), create("b", 1, 2048)];
    steps.extend([SendId("a", 0, "1"), SendId("a", 1, "2"), SendId("a", 1, "1"), Flush]);
    steps.extend([SendId("b", 0, "1"), Checkpoint, SendId("a", 0, "3"), SendId("b", 0, "1")]);
    steps.extend([Checkpoint, SendId("a", 1, "4"), Delete("b"), SendId("a", 0, "1"), Reopen]);
    steps.extend([create("b", 1, 2048), SendId("b", 0, "1"), SendId("a", 1, "3"), Checkpoint]);
    steps.extend([SendId("a", 0, "5"), Checkpoint, SendId("a", 0, "6")]);
    let again = ["1", "2", "3", "4", "5", "6"].map(|id| SendId("a", 0, id));
    let mut second = again.to_vec();
    second.extend([Checkpoint, SendId("a", 1, "7")]);
    second.extend(again);
    Script::new("ids", steps, second)
}

/// Sends records with ids beside a checkpoint that stands still.
pub(crate) fn ids_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 2, 2048), SendId("a", 0, "1"), Checkpoint];
    steps.extend([SendId("a", 0, "2"), SendId("a", 1, "3")]);
    let inner = vec![SendId("a", 1, "4"), SendId("a", 1, "2"), SendId("a", 0, "5")];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([SendId("a", 0, "6"), Checkpoint, SendId("a", 0, "4")]);
    let second = ["1", "2", "3", "4", "5", "6"].map(|id| SendId("a", 0, id)).to_vec();
    Script::new(&format!("ids_during_checkpoint:{pause}"), steps, second)
}

/// Commits transactions beside a checkpoint that stands still.
pub(crate) fn transactions_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 2, 2048)];
    steps.extend([Transact(BOTH_ONCE), Send("a", 0, 900), Send("b", 0, 900)]);
    let inner = vec![Transact(BOTH_ONCE), Send("a", 0, 400), Transact(&[("b", 1, 30)])];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([Transact(&[("a", 0, 30)]), BOTH]);
    let second = vec![Send("a", 0, 400), Transact(&[("a", 0, 400)]), Flush, Transact(&[])];
    Script::new(&format!("transactions_during_checkpoint:{pause}"), steps, second)
}

/// Commits between records, and takes checkpoints that write the offset files in turn.
pub(crate) fn commits() -> Script {
    let mut steps = vec![create("a", 2, 4096), commit("a", 0), Send("a", 0, 100), commit("a", 1)];
    steps.extend([Checkpoint, Send("a", 0, 100), commit("a", 0), Checkpoint]);
    steps.extend([
        Step::Commit { group: "other", topic: "a", partition: 1, behind: 0 },
        SendSynced("a", 1, 100),
        Checkpoint,
        Checkpoint,
        Step::Commit { group: "other", topic: "a", partition: 1, behind: 0 },
        Send("a", 1, 100),
        Reopen,
        commit("a", 1),
    ]);
    Script::new("commits", steps, second()).short()
}

/// Groups with two partitions lose an offset, are deleted, and are forgotten by age, with
/// checkpoints between and commits after.
pub(crate) fn groups_go() -> Script {
    let other = |partition| Step::Commit { group: "other", topic: "a", partition, behind: 0 };
    let delete = |group| Step::DeleteOffsets { group, topic: "a", partition: 0 };
    let mut steps = vec![create("a", 2, 4096), Send("a", 0, 100), commit("a", 0)];
    steps.extend([other(0), other(1), delete("other"), Checkpoint, delete("g")]);
    steps.extend([commit("a", 1), Step::DeleteGroup("other"), Send("a", 1, 100), other(1)]);
    steps.extend([Checkpoint, Step::DeleteGroup("g"), commit("a", 0), Step::Expire]);
    steps.extend([Send("a", 0, 100), commit("a", 0), other(0), Checkpoint, Step::Expire]);
    steps.extend([Checkpoint, commit("a", 1), other(1), Reopen, Step::Expire, Flush]);
    let mut second = second();
    second.extend([other(0), Step::Expire, commit("a", 0), Step::DeleteGroup("g")]);
    Script::new("groups_go", steps, second)
}

/// Deletes a topic and creates it again under the same name, before and after checkpoints.
pub(crate) fn delete_and_recreate() -> Script {
    let mut steps = vec![create("a", 2, 2048), create("b", 1, 2048)];
    steps.extend(times(4, &Send("a", 0, 600)));
    steps.extend([commit("a", 0), Send("b", 0, 100), Checkpoint, Send("a", 1, 1200)]);
    steps.extend([Delete("a"), create("a", 1, 2048), Send("a", 0, 600), Send("a", 0, 600)]);
    steps.extend([commit("a", 1), Delete("b"), Flush, Checkpoint, Send("a", 0, 600)]);
    steps.extend([Delete("a"), create("a", 1, 2048), Send("a", 0, 100)]);
    Script::new("delete_and_recreate", steps, second())
}

/// Gives a topic other settings and more partitions while it is written to. Another topic takes
/// partition numbers in between.
pub(crate) fn alter() -> Script {
    let mut steps = vec![create("a", 1, 4096), Send("a", 0, 400), create("b", 1, 2048)];
    steps.extend([Step::AddPartitions("a", 2), Send("a", 1, 400), Step::Alter("a", 1024)]);
    steps.extend(times(3, &Send("a", 1, 600)));
    steps.extend([commit("a", 0), Checkpoint, Send("a", 0, 600), create("c", 1, 2048)]);
    steps
        .extend([Step::AddPartitions("a", 4), SendAll(&[("a", 3, 50), ("a", 0, 50), ("c", 0, 9)])]);
    steps.extend([Step::Alter("a", 8192), Send("a", 3, 900), Reopen, Send("a", 2, 900)]);
    steps.extend([
        Delete("a"),
        create("a", 1, 2048),
        Step::AddPartitions("a", 2),
        Send("a", 1, 600),
    ]);
    let mut second = second();
    second.extend([Step::Alter("a", 3000), Send("a", 0, 600)]);
    Script::new("alter", steps, second)
}

/// Deletes records from segments, from memory, and up to the end, with checkpoints between.
pub(crate) fn delete_records() -> Script {
    let delete = |before| Step::DeleteRecords("a", 0, before);
    let mut steps = vec![create("a", 1, 2048), Send("a", 0, 400), delete(1), Send("a", 0, 400)];
    steps.extend(times(10, &Send("a", 0, 600)));
    steps.extend([Checkpoint, delete(7), Send("a", 0, 600), Checkpoint, commit("a", 0)]);
    steps.extend(times(3, &Send("a", 0, 900)));
    steps.extend([delete(12), Flush, delete(16), Send("a", 0, 40), Checkpoint]);
    // Nothing else has changed the partition, not even segments that a checkpoint removed.
    steps.extend([Checkpoint, delete(17), Checkpoint]);
    steps.extend(times(3, &Send("a", 0, 900)));
    steps.extend([Reopen, delete(18), Send("a", 0, 900)]);
    let mut second = second();
    second.extend([Step::DeleteRecords("a", 0, 1), Send("a", 0, 400)]);
    Script::new("delete_records", steps, second)
}

/// Deletes all records, so that no segment is left. New records follow with and without a checkpoint
/// in between, and after a close.
pub(crate) fn delete_all_records() -> Script {
    let delete = |before| Step::DeleteRecords("a", 0, before);
    let mut steps = vec![create("a", 1, 4096), Send("a", 0, 400), Send("a", 0, 900), Checkpoint];
    steps.extend([delete(2), Checkpoint, Send("a", 0, 400), Flush, Checkpoint]);
    steps.extend([delete(3), Send("a", 0, 900), Checkpoint, delete(4), Checkpoint, Reopen]);
    steps.extend([Send("a", 0, 400), delete(5), Reopen, commit("a", 0), Send("a", 0, 400)]);
    let mut second = second();
    second.extend([Checkpoint, delete(1), Checkpoint, Send("a", 0, 400)]);
    Script::new("delete_all_records", steps, second)
}

/// Deletes all records. New ones are sent while the checkpoint that removes the only segment is at
/// its `pause`-th call.
pub(crate) fn delete_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 1, 4096), Send("a", 0, 400), Send("a", 0, 900), Checkpoint];
    steps.push(Step::DeleteRecords("a", 0, 2));
    let inner = vec![Send("a", 0, 900), Send("a", 0, 900), Send("a", 0, 400), Flush];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([Send("a", 0, 400), Checkpoint, commit("a", 0)]);
    Script::new(&format!("delete_during_checkpoint:{pause}"), steps, second())
}

/// Creates a topic whose records go once the group `g` has read them.
fn create_consumed(topic: &'static str, partitions: u32) -> Step {
    let config = TopicConfig::new().segment_bytes(1200).index_interval_bytes(256);
    Step::Create { topic, config: config.retention_consumed(["g"]), partitions }
}

const RETAIN: Step = Step::Retain("a", 0);

/// Deletes what a group has read, before and after checkpoints, up to the end of the log, and after an opening
/// that settles nothing.
pub(crate) fn retention() -> Script {
    let mut steps = vec![create_consumed("a", 1)];
    steps.extend(times(7, &Send("a", 0, 400)));
    steps.extend([commit("a", 3), RETAIN, Send("a", 0, 400), Checkpoint, Send("a", 0, 400)]);
    steps.extend([
        commit("a", 2),
        RETAIN,
        Checkpoint,
        Send("a", 0, 400),
        commit("a", 0),
        Checkpoint,
    ]);
    steps.extend([RETAIN, Send("a", 0, 900), Send("a", 0, 900), commit("a", 1), RETAIN, Reopen]);
    steps.extend([commit("a", 0), RETAIN, Send("a", 0, 400), Flush, Send("a", 0, 400)]);
    let mut second = second();
    second.extend([commit("a", 0), RETAIN, Send("a", 0, 400)]);
    Script::new("retention", steps, second)
}

/// Deletes by `retention.bytes`, which each batch that is written out may do.
pub(crate) fn retention_bytes() -> Script {
    let config = TopicConfig::new().segment_bytes(1200).index_interval_bytes(256);
    let config = config.retention_bytes(2048);
    let mut steps = vec![Step::Create { topic: SHRINKING, config, partitions: 1 }];
    steps.extend(times(12, &Send(SHRINKING, 0, 400)));
    steps.extend([Checkpoint, Send(SHRINKING, 0, 400), SendSynced(SHRINKING, 0, 400)]);
    steps.extend(times(4, &Send(SHRINKING, 0, 400)));
    steps.push(Reopen);
    steps.extend(times(3, &Send(SHRINKING, 0, 400)));
    let second = times(6, &Send(SHRINKING, 0, 400)).collect();
    Script::new("retention_bytes", steps, second)
}

/// Deletes what a group has read while a checkpoint is at its `pause`-th call.
pub(crate) fn retention_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create_consumed("a", 1)];
    steps.extend(times(8, &Send("a", 0, 400)));
    steps.push(commit("a", 2));
    let inner = vec![RETAIN, Send("a", 0, 400), Send("a", 0, 900), commit("a", 0), RETAIN];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([Send("a", 0, 400), Checkpoint, commit("a", 0), RETAIN, Send("a", 0, 400)]);
    Script::new(&format!("retention_during_checkpoint:{pause}"), steps, second())
}

/// As `retention`, with stored appends.
pub(crate) fn stored_retention() -> Script {
    Script { name: "stored_retention".to_owned(), ..retention().stored() }
}

/// Deletes everything that was stored in a new folder, before and after anything is synced, and sends again.
pub(crate) fn stored_and_all_deleted() -> Script {
    let delete = |before| Step::DeleteRecords("a", 0, before);
    let mut steps = vec![create("a", 1, 2048), Send("a", 0, 400), Send("a", 0, 400), delete(2)];
    steps.extend([Send("a", 0, 40), Send("a", 0, 400), Reopen, delete(3), Send("a", 0, 400)]);
    let second = vec![Send("a", 0, 400), Flush, Send("a", 0, 40), Reopen, Send("a", 0, 400)];
    Script::new("stored_and_all_deleted", steps, second).short().stored()
}

/// Deletes the only record of a new folder, which was stored there, before anything is synced.
pub(crate) fn stored_and_at_once_deleted() -> Script {
    let delete = |before| Step::DeleteRecords("a", 0, before);
    let steps = vec![create("a", 1, 2048), Send("a", 0, 120), delete(1), Send("a", 0, 40)];
    Script::new("stored_and_at_once_deleted", steps, second()).short().stored()
}

/// Deletes segments of small appends that no stored section has named. The next one leaves a gap.
pub(crate) fn stored_retention_gap() -> Script {
    let small = || times(60, &Send("a", 0, 20));
    let mut steps = vec![create_consumed("a", 1), Send("a", 0, 400), Checkpoint];
    steps.extend(small());
    steps.extend([commit("a", 0), RETAIN, Send("a", 0, 400), Flush, Send("a", 0, 400)]);
    steps.extend(small());
    steps.extend([commit("a", 0), RETAIN, Send("a", 0, 400), Flush, Send("a", 0, 90)]);
    Script::new("stored_retention_gap", steps, second()).stored()
}

/// The least disk budget.
pub(crate) const BUDGET: u64 = 2 << 20;

fn create_dropping() -> Step {
    let config = TopicConfig::new().index_interval_bytes(256);
    let config = config.disk_budget_policy(DiskBudgetPolicy::DropOldest);
    Step::Create { topic: SHRINKING, config, partitions: 1 }
}

/// Deletes the oldest segments for the disk budget, with commits and checkpoints at its limit.
pub(crate) fn budget() -> Script {
    const LARGE: Step = Send(SHRINKING, 0, 48_000);
    let mut steps = vec![create_dropping()];
    steps.extend(times(19, &LARGE));
    steps.extend([commit(SHRINKING, 2), LARGE, SendSynced(SHRINKING, 0, 48_000), Checkpoint]);
    steps.extend([Send(SHRINKING, 0, 400), LARGE, LARGE, Reopen, LARGE, commit(SHRINKING, 0)]);
    steps.extend(times(3, &LARGE));
    let second = times(4, &LARGE).collect();
    Script { budget: Some(BUDGET), ..Script::new("budget", steps, second) }
}

/// As `budget`, with stored appends.
pub(crate) fn stored_budget() -> Script {
    Script { name: "stored_budget".to_owned(), ..budget().stored() }
}

/// Deletes for the disk budget while a checkpoint is at its `pause`-th call.
pub(crate) fn budget_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create_dropping()];
    steps.extend(times(19, &Send(SHRINKING, 0, 48_000)));
    steps.extend([Checkpoint, Send(SHRINKING, 0, 30_000)]);
    let inner = vec![Send(SHRINKING, 0, 30_000), Send(SHRINKING, 0, 30_000)];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([Send(SHRINKING, 0, 48_000), Checkpoint, Send(SHRINKING, 0, 48_000)]);
    let second = times(3, &Send(SHRINKING, 0, 48_000)).collect();
    let name = format!("budget_during_checkpoint:{pause}");
    Script { budget: Some(BUDGET), ..Script::new(&name, steps, second) }
}

/// As `retention_bytes`, with stored appends.
pub(crate) fn stored_retention_bytes() -> Script {
    Script { name: "stored_retention_bytes".to_owned(), ..retention_bytes().stored() }
}

/// Creates a topic that keeps the newest record of each key.
fn create_compacted(policy: CleanupPolicy) -> Step {
    let config = TopicConfig::new()
        .segment_bytes(1200)
        .index_interval_bytes(256)
        .cleanup_policy(policy)
        .min_cleanable_dirty_ratio(0.0)
        .delete_retention(Duration::ZERO);
    Step::Create { topic: COMPACTED, config, partitions: 1 }
}

const COMPACT: Step = Step::Compact(COMPACTED);
const TOMBSTONE: Step = Send(COMPACTED, 0, 0);

fn keyed(bytes: usize) -> Step {
    Send(COMPACTED, 0, bytes)
}

/// Compacts again and again: with tombstones, over a reopening, with nothing new, and while nothing is durable.
pub(crate) fn compaction() -> Script {
    let mut steps = vec![create_compacted(CleanupPolicy::Compact)];
    steps.extend(times(7, &keyed(400)));
    steps.extend([COMPACT, keyed(400), TOMBSTONE, TOMBSTONE, COMPACT, COMPACT, keyed(900)]);
    steps.extend(times(4, &keyed(400)));
    steps.extend([Checkpoint, keyed(400), Step::Maintain, keyed(400), Reopen, keyed(40)]);
    steps.extend([TOMBSTONE, TOMBSTONE, TOMBSTONE, COMPACT, Reopen, COMPACT, keyed(40)]);
    let mut second: Vec<_> = times(4, &keyed(400)).collect();
    second.extend([COMPACT, keyed(40), TOMBSTONE, Reopen, Step::Maintain, keyed(40)]);
    Script::new("compaction", steps, second)
}

/// As `compaction`, with stored appends.
pub(crate) fn stored_compaction() -> Script {
    Script { name: "stored_compaction".to_owned(), ..compaction().stored() }
}

/// Deletes from the front of a compacted topic, then the topic, and creates it again.
pub(crate) fn compaction_and_deletion() -> Script {
    let delete = |before| Step::DeleteRecords(COMPACTED, 0, before);
    let create = || create_compacted(CleanupPolicy::CompactDelete);
    let mut steps = vec![create()];
    steps.extend(times(7, &keyed(400)));
    steps.extend([COMPACT, keyed(400), delete(5), keyed(400), COMPACT, delete(9), COMPACT]);
    steps.extend([keyed(400), keyed(400), keyed(400), keyed(400), COMPACT, keyed(40)]);
    steps.extend([Delete(COMPACTED), create(), keyed(400), keyed(400), keyed(400), COMPACT]);
    steps.push(keyed(40));
    let second = vec![keyed(400), keyed(400), COMPACT, delete(2), Checkpoint, keyed(40)];
    Script::new("compaction_and_deletion", steps, second)
}

/// Sends, takes checkpoints, and deletes from the front while a pass, or the checkpoint after it, is at its `pause`-th
/// call.
pub(crate) fn during_compaction(pause: u32) -> Script {
    let mut steps = vec![create_compacted(CleanupPolicy::CompactDelete)];
    steps.extend(times(16, &keyed(400)));
    steps.extend([Checkpoint, keyed(400), keyed(400)]);
    let mut inner = vec![keyed(400), TOMBSTONE, keyed(900)];
    // Beside the checkpoint, another one would wait for it.
    let in_pass = pause <= 6;
    match pause % 3 {
        0 => inner.push(Step::DeleteRecords(COMPACTED, 0, 5)),
        _ if in_pass => inner.extend([Checkpoint, keyed(400)]),
        _ => {}
    }
    steps.push(Step::DuringCompaction { pause, steps: inner });
    steps.extend([keyed(400), Checkpoint, COMPACT, keyed(40)]);
    let second = vec![keyed(400), keyed(400), COMPACT, keyed(40)];
    Script::new(&format!("during_compaction:{pause}"), steps, second)
}

/// Exceeds the journal: files are chained, checkpoints start by themselves, files are recycled.
pub(crate) fn recycle() -> Script {
    let mut steps = vec![create("a", 1, 64 << 10), create("b", 1, 64 << 10)];
    for round in 0..4 {
        steps.extend(times(6, &Send("a", 0, 14_000)));
        steps.push(SendAll(&[("a", 0, 5_000), ("b", 0, 5_000)]));
        steps.push(if round % 2 == 0 { commit("a", 2) } else { Flush });
    }
    steps.push(Reopen);
    steps.extend(times(5, &Send("b", 0, 14_000)));
    let mut second = second();
    second.extend(times(6, &Send("a", 0, 14_000)));
    Script::new("recycle", steps, second)
}

/// Sends `count` large records.
pub(crate) fn fill(first: bool, count: usize) -> Vec<Step> {
    let created = first.then(|| create("a", 1, 64 << 10));
    created.into_iter().chain(times(count, &Send("a", 0, 14_000))).collect()
}

/// Changes records, offsets and topics with a sync after each, and no checkpoint.
pub(crate) fn flushes() -> Vec<Step> {
    let mut steps = vec![create("a", 1, 4096), create("b", 1, 4096)];
    for _ in 0..4 {
        steps.extend([Send("a", 0, 100), Flush, commit("a", 0), SendSynced("b", 0, 30), BOTH]);
    }
    steps
}

/// Fills a journal file and a bit more, with some syncs and no checkpoint.
pub(crate) fn two_files() -> Vec<Step> {
    let mut steps = vec![create("a", 1, 64 << 10)];
    steps.extend(times(4, &Send("a", 0, 14_000)));
    steps.push(SendSynced("a", 0, 14_000));
    steps.extend(times(3, &SendSynced("a", 0, 100)));
    steps
}

/// Takes several checkpoints, with changes of everything between them and after the last.
pub(crate) fn checkpoints() -> Vec<Step> {
    let mut steps = vec![create("a", 1, 4096), create("b", 1, 4096)];
    for _ in 0..3 {
        steps.extend([BOTH, commit("a", 1), Checkpoint]);
    }
    steps.extend([BOTH, Flush, commit("b", 0), Send("a", 0, 10)]);
    steps
}

/// Compressed batches and the broker's timestamps.
pub(crate) fn compressed() -> Script {
    let config = TopicConfig::new()
        .segment_bytes(2048)
        .compression(Compression::Zstd)
        .timestamp_type(TimestampType::LogAppendTime);
    let mut steps = vec![Step::Create { topic: "a", config, partitions: 1 }];
    steps.extend(times(6, &Send("a", 0, 400)));
    steps.extend([Flush, Checkpoint]);
    steps.extend(times(4, &Send("a", 0, 400)));
    Script::new("compressed", steps, second()).short()
}

/// Values full of bytes that look like frames that record everything as synced.
pub(crate) fn look_alike() -> Script {
    let steps = vec![
        create("a", 1, 4096),
        SendSynced("a", 0, 100),
        SendLookAlike("a", 0),
        Send("a", 0, 100),
        SendLookAlike("a", 0),
        Flush,
        SendLookAlike("a", 0),
    ];
    Script::new("look_alike", steps, second()).short()
}

/// Appends, transactions and commits while a checkpoint is at its `pause`-th call.
pub(crate) fn during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 1, 2048)];
    steps.extend([BOTH, commit("a", 0), BOTH, Flush, BOTH]);
    // A deletion is synced, so it comes before the changes that power loss should take.
    let mut inner = vec![Step::DeleteRecords("a", 0, 3), Send("a", 0, 400), BOTH, commit("a", 0)];
    inner.extend([commit("b", 0), Send("b", 0, 400)]);
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([BOTH, commit("b", 0)]);
    Script::new(&format!("during_checkpoint:{pause}"), steps, second())
}

/// While a checkpoint is at its `pause`-th call, the existing records become `Synced`. Then enough
/// records follow that they need the journal file that the checkpoint is about to release.
pub(crate) fn recycle_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 1, 64 << 10), create("b", 1, 64 << 10)];
    steps.extend(times(5, &Send("a", 0, 14_000)));
    let mut inner = vec![Flush];
    inner.extend(times(3, &Send("b", 0, 14_000)));
    inner.push(SendSynced("b", 0, 14_000));
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.push(Send("a", 0, 100));
    let name = format!("recycle_during_checkpoint:{pause}");
    Script { journal_files: 2 * FILES, ..Script::new(&name, steps, second()) }
}

const fn work(outcome: Outcome) -> Step {
    Step::Share(ShareStep::Work("a", outcome))
}

const WORK: [Step; 5] = [
    work(Outcome::Accept),
    work(Outcome::Keep),
    work(Outcome::Release),
    work(Outcome::Reject),
    work(Outcome::Transact),
];

/// Share groups take, accept, release and reject, over checkpoints, openings and a deletion.
pub(crate) fn shares() -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 1, 2048), create("d", 1, 2048)];
    steps.push(Step::Share(ShareStep::Settings));
    steps.extend(times(6, &Send("a", 0, 100)));
    steps.extend(WORK);
    steps.push(Checkpoint);
    steps.extend(times(6, &Send("a", 0, 100)));
    steps.extend(WORK);
    steps.extend([Flush, work(Outcome::Accept), Checkpoint]);
    steps.extend([work(Outcome::Reject), Reopen]);
    steps.extend(WORK);
    steps.extend([Delete("a"), create("a", 1, 2048), Send("a", 0, 100), Send("a", 0, 100)]);
    steps.extend([work(Outcome::Accept), work(Outcome::Keep)]);
    let mut second = vec![Send("a", 0, 100), Send("a", 0, 100)];
    second.extend(WORK);
    second.extend([Checkpoint, work(Outcome::Accept)]);
    // A script may end before the group has its settings.
    second.insert(0, Step::Share(ShareStep::Settings));
    Script::new("shares", steps, second)
}

/// A share group works while a checkpoint is at its `pause`-th call.
pub(crate) fn shares_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 1, 2048), create("d", 1, 2048)];
    steps.push(Step::Share(ShareStep::Settings));
    steps.extend(times(9, &Send("a", 0, 100)));
    steps.extend([work(Outcome::Accept), work(Outcome::Keep)]);
    steps.extend(times(4, &work(Outcome::Hold)));
    // Reading could wait for the checkpoint, which is stopped while it holds the lock of an index.
    let inner = vec![
        Step::Share(ShareStep::AcceptHeld),
        Send("b", 0, 100),
        Step::Share(ShareStep::AcceptHeld),
        Step::Share(ShareStep::AcceptHeld),
    ];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.push(Step::Share(ShareStep::AcceptHeld));
    steps.extend(WORK);
    Script::new(&format!("shares_during_checkpoint:{pause}"), steps, second())
}

/// Stores large appends in segments, with small ones between them, over a roll and a checkpoint.
pub(crate) fn stored() -> Script {
    let mut steps = vec![create("a", 1, 2048), Send("a", 0, 400), Send("a", 0, 40)];
    steps.extend([Send("a", 0, 400), Send("a", 0, 900), Flush, Send("a", 0, 40), Checkpoint]);
    steps.extend([Send("a", 0, 900), commit("a", 0), Send("a", 0, 40), Send("a", 0, 900)]);
    steps.extend([Reopen, Send("a", 0, 40), Send("a", 0, 400), commit("a", 0)]);
    Script::new("stored", steps, second()).short().stored()
}

/// Stores parts of transactions over two topics. Other parts are in the journal.
pub(crate) fn stored_all() -> Script {
    const MIXED: Step = SendAll(&[("b", 1, 30), ("a", 0, 300), ("b", 0, 20), ("b", 0, 500)]);
    let mut steps = vec![create("a", 1, 2048), create("b", 2, 4096)];
    steps.extend([MIXED, BOTH, Flush, BOTH, commit("b", 0), Checkpoint, MIXED, BOTH]);
    steps.extend([SendAll(&[("b", 1, 30), ("a", 0, 30)]), MIXED, Flush, BOTH, commit("a", 2)]);
    let mut second = second();
    second.extend([Send("a", 0, 30), Send("a", 0, 900)]);
    Script::new("stored_all", steps, second).short().stored()
}

/// Stores appends in topics that are deleted and created again, and deletes their first records.
pub(crate) fn stored_and_deleted() -> Script {
    let delete = |before| Step::DeleteRecords("a", 0, before);
    let mut steps = vec![create("a", 1, 2048), create("b", 1, 2048), Send("a", 0, 900)];
    steps.extend([Send("a", 0, 900), Send("b", 0, 400), Delete("a"), create("a", 1, 2048)]);
    steps.extend([Checkpoint, Send("a", 0, 900), Send("a", 0, 900), delete(1), BOTH]);
    steps.extend([Send("a", 0, 900), Checkpoint, Send("b", 0, 300), delete(4), Send("a", 0, 900)]);
    steps.extend([Delete("b"), Checkpoint, Send("a", 0, 300), Delete("a"), create("a", 1, 2048)]);
    steps.push(Send("a", 0, 400));
    let mut second = second();
    second.extend([Checkpoint, delete(1), Send("a", 0, 400)]);
    Script::new("stored_and_deleted", steps, second).stored()
}

/// Stores appends while a checkpoint is at its `pause`-th call.
pub(crate) fn stored_during_checkpoint(pause: u32) -> Script {
    let mut steps = vec![create("a", 1, 2048), create("b", 1, 2048)];
    steps.extend([BOTH, Send("a", 0, 40), Send("b", 0, 400), Send("b", 0, 40)]);
    let inner = vec![Send("a", 0, 400), BOTH, Send("b", 0, 900), Send("a", 0, 40)];
    steps.push(Step::DuringCheckpoint { pause, steps: inner });
    steps.extend([BOTH, Send("b", 0, 400), commit("b", 0)]);
    Script::new(&format!("stored_during_checkpoint:{pause}"), steps, second()).stored()
}

/// Returns the script that a failure names.
pub(crate) fn by_name(name: &str) -> Option<Script> {
    if let Some(name) = name.strip_suffix(WHOLE) {
        return by_name(name).map(Script::whole);
    }
    match name.split_once(':') {
        Some(("during_checkpoint", pause)) => return Some(during_checkpoint(pause.parse().ok()?)),
        Some(("stored_during_checkpoint", pause)) => {
            return Some(stored_during_checkpoint(pause.parse().ok()?));
        }
        Some(("delete_during_checkpoint", pause)) => {
            return Some(delete_during_checkpoint(pause.parse().ok()?));
        }
        Some(("retention_during_checkpoint", pause)) => {
            return Some(retention_during_checkpoint(pause.parse().ok()?));
        }
        Some(("ids_during_checkpoint", pause)) => {
            return Some(ids_during_checkpoint(pause.parse().ok()?));
        }
        Some(("shares_during_checkpoint", pause)) => {
            return Some(shares_during_checkpoint(pause.parse().ok()?));
        }
        Some(("transactions_during_checkpoint", pause)) => {
            return Some(transactions_during_checkpoint(pause.parse().ok()?));
        }
        Some(("budget_during_checkpoint", pause)) => {
            return Some(budget_during_checkpoint(pause.parse().ok()?));
        }
        Some(("during_compaction", pause)) => {
            return Some(during_compaction(pause.parse().ok()?));
        }
        Some(("recycle_during_checkpoint", pause)) => {
            return Some(recycle_during_checkpoint(pause.parse().ok()?));
        }
        _ => {}
    }
    let plain = [
        first_open(),
        seal_and_roll(),
        send_all(),
        transactions(),
        shares(),
        ids(),
        commits(),
        groups_go(),
        alter(),
        delete_records(),
        delete_all_records(),
        delete_and_recreate(),
        retention(),
        retention_bytes(),
        stored_retention(),
        stored_retention_gap(),
        stored_and_all_deleted(),
        stored_and_at_once_deleted(),
        stored_retention_bytes(),
        budget(),
        stored_budget(),
        compaction(),
        stored_compaction(),
        compaction_and_deletion(),
        recycle(),
        compressed(),
        look_alike(),
        stored(),
        stored_all(),
        stored_and_deleted(),
    ];
    plain.into_iter().find(|script| script.name == name)
}
