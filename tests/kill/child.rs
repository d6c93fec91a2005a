//! The process that is killed.

use std::io::Write as _;
use std::path::Path;

use grouplog::{Broker, JournalMode};

use crate::work::{Ack, config, work};

/// Works until it is killed. Each line on stderr reports an acknowledgement.
pub(crate) fn work_in(folder: &Path, mode: JournalMode, run: u64) {
    let broker = Broker::open_with(folder, config(mode)).unwrap();
    work(&broker, run, &|ack| tell(&ack)).unwrap();
}

/// One write, so that lines of several threads do not mix.
fn tell(ack: &Ack) {
    // A failure means that the parent has stopped reading and is about to kill this process.
    let _told = std::io::stderr().write_all(format!("{ack}\n").as_bytes());
}
