use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use grouplog::{Acks, ResetTo};

use crate::format::Format;
use crate::from::From;
use crate::reset_to::reset_to;

/// Looks after a grouplog folder: topics, records, consumer groups, segment files.
///
/// Commands that only look work beside the application that has the folder open. `topic create`,
/// `topic alter`, `topic delete`, `produce`, `consume --group`, `group reset` and `group delete` write, and
/// need it for themselves.
#[derive(Debug, Parser)]
#[command(name = "grouplog", version)]
pub(crate) struct Args {
    /// The folder
    #[arg(
        long,
        value_name = "DIR",
        env = "GROUPLOG_DATA",
        default_value = "./data",
        global = true
    )]
    pub(crate) data: PathBuf,

    /// Print JSON: one object, or one a line where there are many
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// Append lines of stdin or a file as records
    ///
    /// A line is a record without its final line feed; it may be empty, and need not be UTF-8. Lines are
    /// appended as they come in. At the end, or where a line is refused, stderr says how many were.
    Produce(Produce),
    /// Print records, one a line
    ///
    /// Without a group it reads beside the application that writes. With one it goes on behind the
    /// group's committed offsets and commits what it has printed: a run that is killed may print some
    /// records again, but skips none. It ends where the log ends now, unless --follow is given.
    ///
    /// TEMPLATE is text with %t topic, %p partition, %o offset, %k key, %v value, %T timestamp in
    /// milliseconds, %h headers, %% and the escapes \n \t \r \0 \\. A line feed is added unless it
    /// ends with \n or \0.
    #[command(verbatim_doc_comment)]
    Consume(Consume),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(Group),
    /// Print the batches or records of segment files, Kafka's own too, or any other file of the folder
    ///
    /// Beside .log files: *.journal, checkpoint.a and .b, offsets.a and .b, *.index, *.timeindex, *.sums,
    /// meta.properties, partition.metadata, leader-epoch-checkpoint, one line an entry.
    ///
    /// The newest records are only in the journal until their batch is full, or the folder is closed:
    /// they are not in segment files, and not printed here. `consume` prints them.
    Dump(Dump),
    /// Check everything that is stored: one line a finding, and exit code 1 if there is any
    ///
    /// It changes nothing and works beside a running application, whose last checkpoint and journal are
    /// checked then. `derived` and `leftover` findings lose nothing, and --repair mends them; `damage` is
    /// for a backup.
    Verify(Verify),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic, and the folder if it is not there
    Create {
        /// The topic
        name: String,
        /// How many partitions it has
        #[arg(short, long, value_name = "N", default_value_t = 1)]
        partitions: u32,
        /// A setting by Kafka's key, as segment.bytes=1048576; may be repeated
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
    },
    /// List the topics
    List,
    /// Show a topic's settings and partitions
    Describe {
        /// The topic
        name: String,
    },
    /// Change settings of a topic, or give it more partitions
    ///
    /// Segments that are there stay as they are. With more partitions, records of a key go to another one
    /// than before.
    #[command(group = clap::ArgGroup::new("change").required(true).args(["config", "partitions"]))]
    Alter {
        /// The topic
        name: String,
        /// A setting by Kafka's key, as segment.bytes=1048576; may be repeated
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
        /// How many partitions it is to have, more than it has
        #[arg(short, long, value_name = "N", conflicts_with = "config")]
        partitions: Option<u32>,
    },
    /// Delete a topic with its records and committed offsets, for good
    Delete {
        /// The topic
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Produce {
    /// The topic, which must exist
    pub(crate) topic: String,
    /// What separates the key from the value in each line; without it records have no key
    #[arg(long, value_name = "S", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key_separator: Option<String>,
    /// The partition, instead of one chosen by the key
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// What to wait for at the end: that records survive a killed process, or power loss
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
    /// Read as this group and commit. Needs the folder for itself; with --follow only while there
    /// is something to read
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Where to begin: earliest, latest, an offset, or @ and a time (milliseconds since 1970, or
    /// UTC as 2025-01-31T12:00:00). For a group: in partitions it has no committed offset for
    #[arg(long, value_name = "WHERE", default_value = "earliest", allow_hyphen_values = true)]
    pub(crate) from: From,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max: Option<u64>,
    /// Wait for more at the end
    #[arg(long)]
    pub(crate) follow: bool,
    /// json, or a TEMPLATE; the value alone if it is not given
    #[arg(long, value_name = "TEMPLATE|json", conflicts_with = "json")]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List the groups that have committed offsets
    List,
    /// Show how far a group is: committed offsets, lag in offsets, and how long the oldest record that
    /// is still to be read has waited
    ///
    /// Every partition of the topics in which the group has committed an offset is shown. Without a
    /// committed offset (-) the lag counts from the start of the log. Members are in the memory of the
    /// application they run in and are not seen from here.
    Describe {
        /// The group
        name: String,
    },
    /// Move the committed offsets of a group
    ///
    /// Applications that read as the group must be stopped: the folder is needed for this command alone.
    /// With --dry-run it is only looked at, also beside an application. Offsets that the log does not hold
    /// become the nearest that it does.
    Reset(Reset),
    /// Delete a group with all its committed offsets, or those of one topic
    Delete {
        /// The group
        name: String,
        /// Only the offsets of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only those of this partition; may be repeated
        #[arg(long, value_name = "N", requires = "topic")]
        partition: Vec<u32>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    /// The group; one that does not exist begins by this, if a topic is named
    pub(crate) name: String,
    /// Only the offsets of this topic, instead of all that the group has committed
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Only those of this partition; may be repeated
    #[arg(long, value_name = "N", requires = "topic")]
    pub(crate) partition: Vec<u32>,
    /// earliest, latest, current, an offset, @TIME (milliseconds since 1970, or UTC as
    /// 2025-01-31T12:00:00), ago:DURATION (as ago:1d12h, of d, h, m and s), or +N and -N for so many
    /// records on or back
    #[arg(long, value_name = "WHERE", value_parser = reset_to, allow_hyphen_values = true)]
    pub(crate) to: ResetTo,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    /// A file anywhere or in the folder, or a partition of the folder, as orders-0
    #[arg(value_name = "PATH|TOPIC-PARTITION")]
    pub(crate) what: PathBuf,
    /// One line per batch; the default
    #[arg(long, conflicts_with = "records")]
    pub(crate) batches: bool,
    /// One line per record
    #[arg(long)]
    pub(crate) records: bool,
    /// Leave out what lies below this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) from: Option<i64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Make anew what can be made from other files, remove what is left over, drop a torn end of the
    /// journal. Says what it will do and asks. Needs the folder for itself
    #[arg(long)]
    pub(crate) repair: bool,
    /// Do not ask
    #[arg(long, requires = "repair")]
    pub(crate) yes: bool,
    /// How many partitions are checked at the same time; as many as there are processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as segment.bytes=1048576".to_owned()),
    }
}
