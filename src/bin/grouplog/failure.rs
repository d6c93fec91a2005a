use std::fmt;
use std::io::{self, Write as _};

use grouplog::Error;

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine returned an error.
    Engine(Error),
    /// A write to stdout failed. A broken pipe is no failure: its reader has seen enough.
    Output(io::Error),
    /// Anything else, as a full message.
    Other(String),
    /// A failure that stderr has already reported.
    Reported,
}

/// Writes one line to stderr. Control characters become spaces, since names may contain line breaks.
pub(crate) fn say(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // If stderr is gone, too, the exit code still tells of the failure.
    let _nobody_listens = writeln!(io::stderr(), "grouplog: {line}");
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => {
                fmt::Display::fmt(error, f)?;
                f.write_str(what_to_do(error))
            }
            Self::Output(error) => write!(f, "cannot write to stdout: {error}"),
            Self::Other(text) => f.write_str(text),
            Self::Reported => f.write_str("reported before"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// Returns advice for users of the command line that the engine's own message does not give.
fn what_to_do(error: &Error) -> &'static str {
    match error {
        Error::UnknownTopic { .. } => {
            "; `grouplog topic list` shows the topics, `grouplog topic create` creates one"
        }
        Error::TopicExists { .. } => "; with --if-not-exists that is no error",
        Error::UnknownGroup { .. } => {
            "; `grouplog group list` and `grouplog share list` show the groups"
        }
        Error::NoDeadLetterTopic { .. } => {
            "; the application sets it (ShareGroupConfig::dead_letter_topic)"
        }
        Error::UnknownPartition { .. } => "; partitions are numbered from 0",
        Error::NotADatabase { .. } => "; name the folder with --data or GROUPLOG_DATA",
        Error::DiskBudget { .. } => "; see --disk-budget, and disk.budget.policy of the topic",
        Error::DiskFull { .. } => "; free some space and try again",
        Error::LogTruncated { .. } => "; read with another group, or without one",
        Error::Corrupt(damage) if damage.path.extension().is_some_and(|ext| ext == "log") => {
            "; `grouplog dump` shows what is intact, `grouplog consume --skip-damaged` continues after it"
        }
        Error::MissingSegment { .. } => {
            "; restore it from a backup, or continue after it with `grouplog consume --skip-damaged`"
        }
        _ => "",
    }
}
