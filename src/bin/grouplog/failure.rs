use std::fmt;
use std::io;

use grouplog::Error;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine refused.
    Engine(Error),
    /// Stdout could not be written. A broken pipe is nobody's fault.
    Output(io::Error),
    /// Anything else, in full.
    Other(String),
}

impl Failure {
    /// The message without line breaks, which names of files and topics may bring.
    pub(crate) fn one_line(&self) -> String {
        self.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => {
                fmt::Display::fmt(error, f)?;
                f.write_str(what_to_do(error))
            }
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// The way out, where the engine's own message does not name one for a user of the command line.
fn what_to_do(error: &Error) -> &'static str {
    match error {
        Error::UnknownTopic { .. } => {
            "; `grouplog topic list` names those that do, `grouplog topic create` makes one"
        }
        Error::UnknownGroup { .. } => "; `grouplog group list` names those that do",
        Error::UnknownPartition { .. } => "; they are counted from 0",
        Error::NotADatabase { .. } => "; name the folder with --data or GROUPLOG_DATA",
        Error::DiskFull { .. } => "; make room and try again",
        Error::LogTruncated { .. } => "; read with another group, or without one",
        Error::Corrupt(damage) if damage.path.extension().is_some_and(|ext| ext == "log") => {
            "; `grouplog dump` shows what is whole"
        }
        _ => "",
    }
}
