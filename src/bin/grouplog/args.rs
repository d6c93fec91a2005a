use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use grouplog::{Acks, ResetTo, Timestamp};

use crate::before::Before;
use crate::escape::unescape;
use crate::format::Format;
use crate::from::From;
use crate::reset_to::reset_to;
use crate::time::{duration, timestamp};

/// Manage a grouplog folder: topics, records, consumer groups and segment files
///
/// Commands that only read also work while an application has the folder open. Commands that write need
/// the folder for themselves: topic create, alter and delete, produce, consume --group and
/// --share, group reset and delete, owner delete, share commands but list and describe, records delete, clean, and verify --repair.
#[derive(Debug, Parser)]
#[command(name = "grouplog", version)]
pub(crate) struct Args {
    /// The folder that holds the data
    #[arg(
        long,
        value_name = "DIR",
        env = "GROUPLOG_DATA",
        default_value = "./data",
        global = true
    )]
    pub(crate) data: PathBuf,

    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The most space that the files of the folder may take, for example 256MiB, if this command writes. It is not
    /// stored: give what the application gives. What then happens is the setting disk.budget.policy of the topic
    #[arg(
        long,
        value_name = "SIZE",
        env = "GROUPLOG_DISK_BUDGET",
        value_parser = size,
        global = true
    )]
    pub(crate) disk_budget: Option<u64>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// Append the lines of stdin or of a file as records
    ///
    /// Each line becomes one record, without its line feed. A line may be empty and need not be UTF-8. Lines
    /// are appended as they arrive. At the end stderr shows how many records were appended.
    Produce(Produce),
    /// Print records, one per line
    ///
    /// Without --group the command reads beside the application that writes. With --group it starts at the
    /// committed offsets of the group, and commits what it has printed. If it is killed, the next run may
    /// print some records again, but skips none. It stops at the current end of the log, unless --follow
    /// is given.
    ///
    /// With --share it reads as a member of a share group, and accepts each record once stdout has it. If
    /// stdout is closed, the records that it has not written go back to the group. It stops when the group
    /// has nothing to hand out now, unless --follow is given; delayed records stay.
    ///
    /// TEMPLATE is text with these placeholders:
    ///   %t topic    %p partition    %o offset    %T timestamp in milliseconds
    ///   %k key      %v value        %h headers   %% a percent sign
    /// and these escapes: \n \t \r \0 \\. A line feed follows each record, unless TEMPLATE ends with \n
    /// or \0.
    ///
    /// Damage in one partition does not stop the others. The command prints what it can read, reports the
    /// damage on stderr, and exits with code 1. With --skip-damaged it continues after the damaged records.
    #[command(verbatim_doc_comment)]
    Consume(Consume),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(Group),
    /// List and delete the names of producers (transactional.id)
    #[command(subcommand)]
    Owner(Owner),
    /// List, describe, reset, pause and delete share groups, end records under way, and send dead letters back
    #[command(subcommand)]
    Share(Share),
    /// Delete the oldest records of a partition
    #[command(subcommand)]
    Records(Records),
    /// Delete the records that the settings of topics do not keep
    ///
    /// An application does this by itself while it has the folder open. This command does it for a folder that
    /// nobody has open: it applies retention.ms, retention.bytes and retention.consumed, compacts the topics whose
    /// cleanup.policy says so, however little is new, and prints what went, by topic. With --disk-budget it also deletes the oldest records of
    /// topics whose disk.budget.policy is drop-oldest, until the budget is free enough.
    Clean {
        /// Only this topic
        topic: Option<String>,
    },
    /// Print what a file of the folder holds, for example the batches of a segment
    ///
    /// Segment files (.log) of grouplog and of Kafka are printed batch by batch, or record by record with
    /// --records. These files are printed entry by entry: *.journal, checkpoint.a and .b, offsets.a and .b,
    /// *.index, *.timeindex, *.sums, meta.properties, partition.metadata, leader-epoch-checkpoint, and
    /// Kafka's *.txnindex and *.snapshot.
    ///
    /// The newest records are only in the journal, until their batch is full or the folder is closed.
    /// Segment files do not hold them yet. `consume` prints them.
    Dump(Dump),
    /// Check all files of the folder
    ///
    /// Prints one line per finding, and exits with code 1 if there are any. Without --repair it changes
    /// nothing, and also works while an application has the folder open.
    ///
    /// There are four kinds of findings. `derived` files can be written again from other files, and
    /// `leftover` files are not needed: nothing is lost, and --repair fixes both. `foreign` files belong to
    /// no topic, and --repair leaves them alone. `damage` means that records or offsets are lost; only a
    /// backup can bring them back.
    Verify(Verify),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic, and the data folder if it does not exist
    Create {
        /// The topic
        name: String,
        /// The number of partitions
        #[arg(short, long, value_name = "N", default_value_t = 1)]
        partitions: u32,
        /// Delete records that are older than this, for example 7d or 12h: short for -c retention.ms=TIME
        #[arg(long, value_name = "TIME")]
        keep: Option<String>,
        /// Keep only the newest record of each key: short for -c cleanup.policy=compact, or with --keep for
        /// -c cleanup.policy=compact,delete
        #[arg(long)]
        compact: bool,
        /// A setting under Kafka's name, for example segment.bytes=16MiB; may be repeated
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
        /// Succeed if the topic exists already. Its settings and partitions stay as they are
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List the topics
    List,
    /// Show the settings and partitions of a topic, and what retention and compaction wait for
    Describe {
        /// The topic
        name: String,
        /// Read all segments, and show the offset at which readers of committed records end (column
        /// `stable`). It is below the end if Kafka wrote segments with a transaction that is still open
        #[arg(long)]
        stable: bool,
    },
    /// Change the settings of a topic, or add partitions
    ///
    /// Existing segments stay as they are. After partitions were added, new records of a key may go to
    /// another partition than the older ones.
    #[command(group = clap::ArgGroup::new("change").required(true).args(["config", "partitions"]))]
    Alter {
        /// The topic
        name: String,
        /// A setting under Kafka's name, for example retention.ms=7d; may be repeated
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
        /// The new number of partitions, larger than the present one
        #[arg(short, long, value_name = "N", conflicts_with = "config")]
        partitions: Option<u32>,
    },
    /// Delete a topic, its records and its committed offsets, permanently
    Delete {
        /// The topic
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Produce {
    /// The topic, which must exist
    pub(crate) topic: String,
    /// The text between key and value in each line, with the escapes \n \t \r \0 \\. Without this option
    /// records have no key
    #[arg(long, value_name = "S", value_parser = separator)]
    pub(crate) key_separator: Option<String>,
    /// Store each record once, even if the same lines are produced again: each line begins with an id of 1 to 128
    /// bytes, and ends of ids are marked by --dedup-separator. A line whose id the topic remembers
    /// (dedup.window.ms) is not appended. Records carry their id in a header of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) dedup_header: Option<String>,
    /// The text behind the id in each line, with the escapes \n \t \r \0 \\
    #[arg(long, value_name = "S", value_parser = separator, default_value = "\\t", requires = "dedup_header")]
    pub(crate) dedup_separator: String,
    /// Send all records to this partition, instead of choosing one by the key
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Let share groups deliver the records after this time, counted from when each was appended: a duration such as
    /// 1d12h, with d, h, m and s. Consumers see them at once
    #[arg(long, value_name = "DURATION", value_parser = deliver_after, conflicts_with = "deliver_at")]
    pub(crate) deliver_after: Option<Duration>,
    /// Let share groups deliver the records at this time, and not before: milliseconds since 1970, or UTC such as
    /// 2025-01-31T12:00:00. Consumers see them at once
    #[arg(long, value_name = "TIMESTAMP", value_parser = deliver_at)]
    pub(crate) deliver_at: Option<Timestamp>,
    /// What to wait for at the end: `written` records survive a killed process, `synced` records survive
    /// power loss
    #[arg(long, value_enum, default_value_t = AcksArg::Synced)]
    pub(crate) acks: AcksArg,
    /// Read the lines from a file instead of stdin
    #[arg(long, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AcksArg {
    Written,
    Synced,
}

impl AcksArg {
    pub(crate) fn acks(self) -> Acks {
        match self {
            Self::Written => Acks::Written,
            Self::Synced => Acks::Synced,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Synced => "synced",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Consume {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// Read as this group, and commit what was printed. Needs the folder for itself; with --follow only
    /// while there is something to read
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Read as a member of this share group, and accept what was printed. Creates the group if it does not exist.
    /// Needs the folder for itself; with --follow only while there is something to read
    #[arg(
        long,
        value_name = "GROUP",
        conflicts_with_all = ["group", "from", "partition", "skip_damaged"]
    )]
    pub(crate) share: Option<String>,
    /// Where to begin: earliest, latest, an offset, or @ and a time (milliseconds since 1970, or UTC such
    /// as 2025-01-31T12:00:00). With --group this applies only to partitions without a committed offset
    #[arg(long, value_name = "WHERE", default_value = "earliest", allow_hyphen_values = true)]
    pub(crate) from: From,
    /// Stop after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// Wait for more records at the end of the log
    #[arg(long)]
    pub(crate) follow: bool,
    /// Read only this partition of each topic; may be repeated
    #[arg(long, value_name = "N")]
    pub(crate) partition: Vec<u32>,
    /// Continue after damaged records, and report on stderr which offsets were skipped
    #[arg(long)]
    pub(crate) skip_damaged: bool,
    /// How to print a record: json or a TEMPLATE. By default only the value is printed
    #[arg(long, value_name = "TEMPLATE|json", conflicts_with = "json")]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List the groups that have committed offsets
    List,
    /// Show the committed offsets of a group and how far it lags behind
    ///
    /// Lists every partition of the topics in which the group has committed an offset. The column `lag`
    /// counts the offsets that are still to be read; without a committed offset (-) it counts from the start
    /// of the log. The column `seconds` shows how long the oldest of these records has waited. The columns
    /// `owner` and `epoch` name the producer whose transaction committed the offset, if a named one did. The
    /// members of a group are known only to the application in which they run.
    Describe {
        /// The group
        name: String,
    },
    /// Move the committed offsets of a group
    ///
    /// Stop the application first: this command needs the folder for itself. With --dry-run it only reads,
    /// and works beside the application. An offset outside of the log becomes the nearest offset in it.
    Reset(Reset),
    /// Delete a group with all its committed offsets, or only its offsets of one topic
    Delete {
        /// The group
        name: String,
        /// Only the offsets of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only the offsets of this partition; may be repeated
        #[arg(long, value_name = "N", requires = "topic")]
        partition: Vec<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Owner {
    /// List the names, each with the epoch of its newest producer and the last sequence that it has stored
    List,
    /// Forget a name with its last sequence
    ///
    /// A program that sends the same sequences again stores the records again.
    Delete {
        /// The transactional.id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Share {
    /// List the share groups with their lag
    List,
    /// Show the settings of a share group, its lag, and the records under way
    ///
    /// Works beside the application, whose members it cannot see: who has a record, and when its lock ends, only
    /// Admin::describe_share_group says there.
    Describe {
        /// The share group
        name: String,
    },
    /// Let a share group begin elsewhere; all that it knows of the records is dropped
    Reset {
        /// The share group
        name: String,
        /// Only this topic, instead of all that the group has read
        #[arg(long)]
        topic: Option<String>,
        /// Only this partition; may be repeated
        #[arg(long, value_name = "N", requires = "topic")]
        partition: Vec<u32>,
        /// The new place, as for `group reset`
        #[arg(long, value_name = "WHERE", value_parser = reset_to, allow_hyphen_values = true)]
        to: ResetTo,
    },
    /// Delete a share group with all that it knows
    Delete {
        /// The share group
        name: String,
    },
    /// Let a share group hand out no more records
    Pause {
        /// The share group
        name: String,
    },
    /// End a pause
    Resume {
        /// The share group
        name: String,
    },
    /// Accept unfinished records, whoever has them
    Finish(ShareRecords),
    /// Give unfinished records up: they become dead letters, if the group has a topic for them
    Reject(ShareRecords),
    /// Let unfinished records be handed out at once, whatever they wait for
    Release(ShareRecords),
    /// Send dead letters of a share group back to the topics and partitions that they came from
    ///
    /// The records have their keys, values and headers again, and their deliveries begin anew. The letters stay in their
    /// topic; the share group NAME.redrive keeps which were sent back, so none is sent back twice. What cannot be sent
    /// back is shown with the reason, and the next redrive tries it again.
    ///
    /// Stop the application first: this command needs the folder for itself. With --dry-run it only reads, and works
    /// beside the application.
    Redrive {
        /// The share group
        name: String,
        /// Stop after this many records
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        max: Option<u64>,
        /// Show what would be sent back, but change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShareRecords {
    /// The share group
    pub(crate) name: String,
    /// The topic
    #[arg(long)]
    pub(crate) topic: String,
    /// The partition
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) partition: u32,
    /// The first offset
    #[arg(long, value_name = "OFFSET")]
    pub(crate) first: i64,
    /// The last offset; the first one if it is not given
    #[arg(long, value_name = "OFFSET")]
    pub(crate) last: Option<i64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    /// The group. With --topic it may be new
    pub(crate) name: String,
    /// Only the offsets of this topic, instead of all committed offsets
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Only the offsets of this partition; may be repeated
    #[arg(long, value_name = "N", requires = "topic")]
    pub(crate) partition: Vec<u32>,
    /// The new place: earliest, latest, current, an offset, @TIME (milliseconds since 1970, or UTC such as
    /// 2025-01-31T12:00:00), ago:DURATION (such as ago:1d12h, with d, h, m and s), or +N or -N to move by
    /// N records
    #[arg(long, value_name = "WHERE", value_parser = reset_to, allow_hyphen_values = true)]
    pub(crate) to: ResetTo,
    /// Show the new offsets, but change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Records {
    /// Delete the records of a partition below an offset, permanently
    ///
    /// Files that hold no other records are removed. A consumer that has not read the deleted records
    /// continues as its auto.offset.reset says.
    Delete {
        /// The topic
        topic: String,
        /// The partition
        #[arg(long, value_name = "N")]
        partition: u32,
        /// The first offset to keep, or `latest` to delete all records
        #[arg(long, value_name = "OFFSET|latest", allow_hyphen_values = true)]
        before: Before,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    /// A file, or a partition of the folder, for example orders-0
    #[arg(value_name = "PATH|TOPIC-PARTITION")]
    pub(crate) what: PathBuf,
    /// Print one line per batch (the default)
    #[arg(long, conflicts_with = "records")]
    pub(crate) batches: bool,
    /// Print one line per record
    #[arg(long)]
    pub(crate) records: bool,
    /// Begin at this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) from: Option<i64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Write derived files again, remove leftover files, and drop an incomplete end of the journal. First
    /// shows what it will do and asks. Needs the folder for itself
    #[arg(long)]
    pub(crate) repair: bool,
    /// Repair without asking
    #[arg(long, requires = "repair")]
    pub(crate) yes: bool,
    /// How many partitions to check at the same time. By default as many as there are processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
}

fn separator(text: &str) -> Result<String, String> {
    match unescape(text)? {
        separator if separator.is_empty() => Err("it must not be empty".to_owned()),
        separator => Ok(separator),
    }
}

fn deliver_after(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration with d, h, m and s, such as 1d12h".to_owned();
    duration(text).ok_or_else(expected)
}

fn deliver_at(text: &str) -> Result<Timestamp, String> {
    let expected =
        |_| "expected milliseconds since 1970, or UTC such as 2025-01-31T12:00:00".to_owned();
    timestamp(text.strip_prefix('@').unwrap_or(text)).map_err(expected)
}

fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes, such as 268435456 or 256MiB".to_owned();
    parse_size::parse_size(text).map_err(|_| expected())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, for example segment.bytes=16MiB".to_owned()),
    }
}
