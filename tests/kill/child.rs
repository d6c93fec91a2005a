//! The process that is killed.

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;

use grouplog::{Broker, JournalMode};

use crate::work::{config, work};

/// Works until it is killed. Each line on stderr reports an acknowledgement, or the error that ends the work.
pub(crate) fn work_in(folder: &Path, mode: JournalMode, run: u64) {
    let worked = Broker::open_with(folder, config(mode))
        .and_then(|broker| work(&broker, run, &|ack| tell(&ack)));
    tell(&format_args!("e {}", worked.unwrap_err()));
}

/// One write, so that lines of several threads do not mix.
fn tell(line: &dyn Display) {
    // A failure means that the parent has stopped reading and is about to kill this process.
    let _told = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
